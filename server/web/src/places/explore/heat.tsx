/** A heat map of a dimension over time, or over another dimension. */
import { useMemo, useRef, useState } from 'preact/hooks';
import { asNumber, isOthers } from '../../api/decode';
import { Canvas } from '../../charts/canvas';
import type { ECharts } from '../../charts/core';
import { heatOption, type Heat as HeatData } from '../../charts/options';
import { groups, keyOf, type Group } from '../../charts/shape';
import { palette } from '../../charts/theme';
import { ticks } from '../../charts/ticks';
import { compact, full } from '../../format/number';
import { bucketTitle } from '../../format/time';
import { dimensionSplits, granularityOf } from '../../state/plan';
import { fieldTitle } from '../../state/schema';
import { theme } from '../../state/settings';
import type { Part } from './chart-view';
import { asFilterValue } from './value-picker';

const LABELS_MAX = 12;
const COLUMNS_MAX = 60;

interface Drawn {
  heat: HeatData;
  rows: readonly Group[];
  /** Values by "column row". */
  values: ReadonlyMap<string, number>;
}

function drawn({ explore, view, answer, dim, measure }: Part, second: string | null): Drawn {
  const colours = palette(theme.peek());
  const rows = groups(answer.rows, dim, measure.name, colours);
  const { buckets } = answer.meta;
  const granularity = granularityOf(view, explore.asked().bounds);
  const columns = second
    ? groups(answer.rows, second, measure.name, colours).slice(0, COLUMNS_MAX).map((group) => ({ key: group.key, title: group.text }))
    : buckets.map((bucket) => ({ key: `=${bucket.start}`, title: bucketTitle(bucket.start, bucket.end, granularity) }));
  const rowAt = new Map(rows.map((group, at) => [group.key, at]));
  const columnAt = new Map(columns.map((column, at) => [column.key, at]));
  const cells = answer.rows.flatMap((row) => {
    const [x, y, value] = [columnAt.get(keyOf(row[second ?? 'bucket'])), rowAt.get(keyOf(row[dim])), asNumber(row[measure.name])];
    return x === undefined || y === undefined || value === null ? [] : [[x, y, value] as const];
  });
  const marks = second ? new Map(columns.map((column, at) => [at, column.title] as const)) : ticks(buckets.map((bucket) => bucket.start), granularity, LABELS_MAX);
  const heat: HeatData = { columns: columns.map((column) => column.title), rows: rows.map((group) => group.text), ticks: marks, cells };
  return { heat, rows, values: new Map(cells.map(([x, y, value]) => [`${x} ${y}`, value])) };
}

/** The colours and what they stand for. */
function Scale({ most, format }: { most: number; format: (value: number) => string }) {
  return (
    <div class="scale" aria-hidden="true">
      <span>0</span>
      {palette(theme.value).sequential.map((colour) => <span key={colour} class="scale-step" style={{ background: colour }} />)}
      <span>{format(most)}</span>
    </div>
  );
}

/** See the module. */
export function Heat(part: Part) {
  const { explore, height, view, answer, dim, measure } = part;
  const chart = useRef<ECharts | null>(null);
  const [over, setOver] = useState<{ x: number; y: number; left: number; top: number } | null>(null);
  const second = dimensionSplits(explore.asked(view))[1]?.dim ?? null;
  const found = useMemo(() => drawn(part, second), [answer, dim, second, measure, view]);
  const option = useMemo(() => heatOption(found.heat, palette(theme.value)), [found, theme.value]);
  const most = found.heat.cells.reduce((max, [, , value]) => Math.max(max, value), 0);

  const at = (event: PointerEvent | MouseEvent): { x: number; y: number; left: number; top: number } | null => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    const [left, top] = [event.clientX - box.left, event.clientY - box.top];
    const place: unknown = chart.current?.convertFromPixel({ seriesIndex: 0 }, [left, top]);
    if (!Array.isArray(place)) return null;
    const [x, y] = [Math.round(Number(place[0])), Math.round(Number(place[1]))];
    const isWithin = x >= 0 && y >= 0 && x < found.heat.columns.length && y < found.heat.rows.length && left > 140;
    return isWithin ? { x, y, left, top } : null;
  };
  const pick = (event: MouseEvent): void => {
    const place = at(event);
    const group = place ? found.rows[place.y] : undefined;
    if (group && !isOthers(group.cell)) explore.dispatch({ do: 'only', dim, value: asFilterValue(group.cell) });
  };
  const summary = `${measure.title} by ${fieldTitle(explore.table, dim)} and ${second ? fieldTitle(explore.table, second) : 'time'}; the further a colour from the ground, the more. The most is ${compact(most, measure)}.`;
  return (
    <>
      <div class="heat" onPointerMove={(event) => setOver(at(event))} onPointerLeave={() => setOver(null)} onClick={pick}>
        <Canvas option={option} height={height - 24} needsMore summary={summary} onReady={(made) => { chart.current = made; }} />
        {over && (
          <div class={`tooltip${over.x > found.heat.columns.length / 2 ? ' to-left' : ''}`} style={{ left: `${over.left + 14}px`, top: `${Math.max(0, over.top - 40)}px` }}>
            <p class="when">{found.heat.rows[over.y]}</p>
            <dl><dt>{found.heat.columns[over.x]}</dt><dd>{full(found.values.get(`${over.x} ${over.y}`) ?? null, measure)}</dd></dl>
          </div>
        )}
      </div>
      <Scale most={most} format={(value) => compact(value, measure)} />
    </>
  );
}
