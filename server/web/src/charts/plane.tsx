/** A chart over buckets with its crosshair, tooltip and brush. They are elements of the page, never HTML made of data. */
import type { Signal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useMemo, useRef, useState } from 'preact/hooks';
import { theme } from '../state/settings';
import { Canvas } from './canvas';
import { PLANE, plotOption, type Plot } from './options';
import { palette } from './theme';
import './plane.css';

interface Properties {
  plot: Plot;
  height: number;
  summary: string;
  /** The bucket under the pointer, shared by charts that stand below one another. */
  hover: Signal<number | null>;
  tooltip: (at: number) => ComponentChildren;
  /** First and last bucket of the brush. */
  brushed?: readonly [number, number] | null;
  onBrush?: (first: number, last: number) => void;
  onPick?: (at: number) => void;
  onClear?: () => void;
  onZoom?: () => void;
}

/** Pixels that the pointer must move before a click is a brush. */
const DRAG_MIN = 5;

/** See the module. */
export function Plane({ plot, height, summary, hover, tooltip, brushed, onBrush, onPick, onClear, onZoom }: Properties) {
  const root = useRef<HTMLDivElement>(null);
  const [drag, setDrag] = useState<readonly [number, number] | null>(null);
  const start = useRef<{ x: number; at: number } | null>(null);
  const [width, setWidth] = useState(0);
  const [isMine, setMine] = useState(false);
  const count = plot.labels.length;
  const colours = palette(theme.value);
  const option = useMemo(() => plotOption(plot, colours), [plot, colours]);

  const inner = Math.max(1, width - PLANE.left - PLANE.right);
  const isBar = plot.kind === 'bar';
  const slot = isBar ? inner / Math.max(1, count) : inner / Math.max(1, count - 1);
  const xOf = (at: number): number => PLANE.left + (isBar ? (at + 0.5) * slot : count === 1 ? inner / 2 : at * slot);

  const bucketAt = (clientX: number): number => {
    const box = root.current?.getBoundingClientRect();
    if (!box) return 0;
    const x = clientX - box.left - PLANE.left;
    const at = isBar ? Math.floor(x / slot) : Math.round(x / slot);
    return Math.max(0, Math.min(count - 1, at));
  };

  const onPointerDown = (event: PointerEvent): void => {
    if (event.button !== 0 || count === 0) return;
    root.current?.setPointerCapture(event.pointerId);
    start.current = { x: event.clientX, at: bucketAt(event.clientX) };
  };
  const onPointerMove = (event: PointerEvent): void => {
    const at = bucketAt(event.clientX);
    hover.value = count > 0 ? at : null;
    setMine(true);
    const begun = start.current;
    if (begun && onBrush && Math.abs(event.clientX - begun.x) > DRAG_MIN) setDrag([Math.min(begun.at, at), Math.max(begun.at, at)]);
  };
  const onPointerUp = (event: PointerEvent): void => {
    if (drag) onBrush?.(drag[0], drag[1]);
    else if (start.current) onPick?.(bucketAt(event.clientX));
    start.current = null;
    setDrag(null);
  };
  const onPointerLeave = (): void => {
    setMine(false);
    if (!start.current) hover.value = null;
  };

  const onKeyDown = (event: KeyboardEvent): void => {
    const by = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    if (by !== 0 && count > 0) {
      event.preventDefault();
      const at = Math.max(0, Math.min(count - 1, (hover.value ?? (by > 0 ? -1 : count)) + by));
      if (event.shiftKey && onBrush) {
        const [first, last] = brushed ?? [hover.value ?? at, hover.value ?? at];
        onBrush(Math.min(first, at), by > 0 ? Math.max(last, at) : last);
      }
      hover.value = at;
    } else if (event.key === 'Enter') onZoom?.();
    else if (event.key === 'Escape' && (brushed || hover.value !== null)) {
      event.stopPropagation();
      hover.value = null;
      if (brushed) onClear?.();
    }
  };

  const shownBrush = drag ?? brushed ?? null;
  const at = hover.value;
  const half = slot / 2;
  const left = shownBrush ? Math.max(PLANE.left, xOf(shownBrush[0]) - half) : 0;
  const right = shownBrush ? Math.min(width - PLANE.right, xOf(shownBrush[1]) + half) : 0;
  const opensLeft = at !== null && xOf(at) > width / 2;

  return (
    <div
      class="plane"
      ref={(element) => {
        root.current = element;
        const found = element?.clientWidth ?? 0;
        if (found !== 0 && found !== width) setWidth(found);
      }}
      tabIndex={0}
      role="group"
      aria-label={`${summary} Arrow keys step through it${onBrush ? ', with Shift they select' : ''}.`}
      onPointerDown={onPointerDown}
      onPointerMove={onPointerMove}
      onPointerUp={onPointerUp}
      onPointerCancel={() => { start.current = null; setDrag(null); }}
      onPointerLeave={onPointerLeave}
      onDblClick={() => onZoom?.()}
      onFocus={() => setMine(true)}
      onBlur={() => setMine(false)}
      onKeyDown={onKeyDown}
    >
      <Canvas option={option} height={height} summary={summary} onReady={() => setWidth(root.current?.clientWidth ?? 0)} />
      {count > 0 && plot.partial.map((isPartial, i) => (isPartial && count < 2000 && (i === 0 || i === count - 1)
        ? <div key={i} class="band" style={{ left: `${Math.max(PLANE.left, xOf(i) - (isBar ? slot / 2 : slot))}px`, width: `${slot}px`, top: `${PLANE.top}px`, bottom: `${PLANE.bottom}px` }} />
        : null))}
      {shownBrush && <div class="brush" style={{ left: `${left}px`, width: `${Math.max(2, right - left)}px`, top: `${PLANE.top}px`, bottom: `${PLANE.bottom}px` }} />}
      {at !== null && at < count && (
        <>
          <div class="crosshair" style={{ left: `${xOf(at)}px`, top: `${PLANE.top}px`, bottom: `${PLANE.bottom}px` }} />
          {isMine && (
            <div class="tooltip" style={opensLeft ? { right: `${width - xOf(at) + 10}px` } : { left: `${xOf(at) + 10}px` }}>
              {tooltip(at)}
            </div>
          )}
        </>
      )}
    </div>
  );
}
