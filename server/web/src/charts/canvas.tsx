/** A chart on a canvas. What lies above it, crosshair, tooltip and brush, is for others to draw. */
import type { EChartsCoreOption } from 'echarts/core';
import { useEffect, useRef } from 'preact/hooks';
import type { ECharts } from './core';

type Core = typeof import('./core');

/** The chunk with the charts, asked for at once so that it comes beside the first answer. */
const core: Promise<Core> = import('./core');

async function load(needsMore: boolean): Promise<Core> {
  if (needsMore) await import('./more');
  return core;
}

interface Properties {
  option: EChartsCoreOption;
  height: number;
  /** One sentence that says what there is to see. */
  summary: string;
  needsMore?: boolean;
  onReady?: (chart: ECharts) => void;
}

/** See the module. */
export function Canvas({ option, height, summary, needsMore = false, onReady }: Properties) {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<ECharts | null>(null);
  const wanted = useRef(option);
  wanted.current = option;

  useEffect(() => {
    let isGone = false;
    let observer: ResizeObserver | undefined;
    void load(needsMore).then(({ init }) => {
      const element = place.current;
      if (isGone || !element) return;
      const made = init(element, null, { renderer: 'canvas' });
      chart.current = made;
      made.setOption(wanted.current, { notMerge: true });
      observer = new ResizeObserver(() => made.resize());
      observer.observe(element);
      onReady?.(made);
    });
    return () => {
      isGone = true;
      observer?.disconnect();
      chart.current?.dispose();
      chart.current = null;
    };
  }, [needsMore]);

  useEffect(() => {
    const made = chart.current;
    if (!made) return;
    made.setOption(option, { notMerge: true });
    onReady?.(made);
  }, [option]);

  return <div ref={place} class="canvas" style={{ height: `${height}px` }} role="img" aria-label={summary} />;
}
