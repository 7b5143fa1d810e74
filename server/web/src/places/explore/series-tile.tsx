/** A measure's number beside its course of time. */
import { useMemo } from 'preact/hooks';
import type { Signal } from '@preact/signals';
import { asNumber, type BranchAnswer } from '../../api/decode';
import { Plane } from '../../charts/plane';
import type { Plot } from '../../charts/options';
import { palette } from '../../charts/theme';
import { ticks } from '../../charts/ticks';
import { Change } from '../../components/change';
import { NumberTile } from '../../components/number-tile';
import { ProblemNote } from '../../components/notes';
import { compact, full } from '../../format/number';
import { bucketTitle, clockText, rangeText } from '../../format/time';
import { granularityOf } from '../../state/plan';
import type { Measure } from '../../state/schema';
import { theme } from '../../state/settings';
import type { View } from '../../state/view';
import type { Explore } from './store';

/** How many labels fit on an axis. */
const LABELS_MAX = 6;

/** The number of a bucket whose start is an instant; -1 if none is. */
function place(buckets: BranchAnswer['meta']['buckets'], instant: string, end: 'start' | 'end'): number {
  const at = Date.parse(instant);
  return buckets.findIndex((bucket) => Date.parse(bucket[end]) === at);
}

/** First and last bucket of a view's brush. */
export function brushed(view: View, answer: BranchAnswer | undefined): readonly [number, number] | null {
  if (!view.brush || !answer) return null;
  const first = place(answer.meta.buckets, view.brush.from, 'start');
  const last = place(answer.meta.buckets, view.brush.to, 'end');
  return first >= 0 && last >= first ? [first, last] : null;
}

interface Properties {
  explore: Explore;
  measure: Measure;
  hover: Signal<number | null>;
  height: number;
  kind?: Plot['kind'];
  withNumber?: boolean;
}

/** Brush, zoom and the rest of what a pointer does on a chart over time. */
export function brushing(explore: Explore, answer: BranchAnswer | undefined) {
  const buckets = answer?.meta.buckets ?? [];
  const onBrush = (first: number, last: number): void => {
    const [from, to] = [buckets[first]?.start, buckets[last]?.end];
    if (from && to) explore.dispatch({ do: 'brush', brush: { from, to } });
  };
  // A click selects one bucket, and a second click on it clears.
  const onPick = (at: number): void => {
    const now = brushed(explore.view.peek(), answer);
    if (now && now[0] === at && now[1] === at) explore.dispatch({ do: 'brush', brush: null });
    else onBrush(at, at);
  };
  return {
    onBrush,
    ...(explore.isTile ? {} : { onPick }),
    onClear: (): void => explore.dispatch({ do: 'brush', brush: null }),
    onZoom: (): void => {
      const { brush } = explore.view.peek();
      if (brush) explore.dispatch({ do: 'range', range: { kind: 'fixed', from: brush.from.slice(0, 16), to: brush.to.slice(0, 16) } });
    },
  };
}

/** The colour of a measure: the same in all charts. */
export function measureColor(explore: Explore, measure: Measure): string {
  const colours = palette(theme.value).series;
  const at = explore.table.measures.findIndex((one) => one.name === measure.name);
  return colours[Math.max(0, at) % colours.length] ?? '';
}

/** See the module. */
export function SeriesTile({ explore, measure, hover, height, kind = 'area', withNumber = true }: Properties) {
  const shown = explore.shown.value;
  const view = shown?.view ?? explore.view.value;
  const answer = shown?.branches.get('series');
  const totals = shown?.branches.get('totals');
  const granularity = granularityOf(view, explore.asked().bounds);
  const { name } = measure;
  const isCompared = view.compare !== null;
  const colours = palette(theme.value);
  const line = measureColor(explore, measure);

  const plot = useMemo<Plot>(() => {
    const rows = answer?.rows ?? [];
    const starts = rows.map((row) => String(row['bucket'] ?? ''));
    const isPartial = new Map(answer?.meta.buckets.map((bucket) => [bucket.start, bucket.partial]) ?? []);
    return {
      kind,
      labels: starts,
      ticks: ticks(starts, granularity, LABELS_MAX),
      series: [{ name: measure.title, color: line, values: rows.map((row) => asNumber(row[name])) }],
      previous: isCompared ? rows.map((row) => asNumber(row[`${name}/prev`])) : null,
      partial: starts.map((start) => isPartial.get(start) === true),
      stacked: false,
      format: (value) => compact(value, measure, true),
    };
  }, [answer, granularity, measure, isCompared, line, kind]);

  const tooltip = (at: number) => {
    const row = answer?.rows[at];
    const bucket = answer?.meta.buckets[at];
    if (!row || !bucket) return null;
    const repeated = answer?.meta.buckets[at - 1]?.start.slice(0, 16) === bucket.start.slice(0, 16);
    const isLast = at === (answer?.meta.buckets.length ?? 0) - 1;
    return (
      <>
        <p class="when">{bucketTitle(bucket.start, bucket.end, granularity, repeated)}</p>
        <dl>
          <dt><span class="swatch" style={{ background: line }} />{measure.title}</dt>
          <dd>{full(row[name], measure)}</dd>
          {isCompared && <><dt><span class="swatch" style={{ background: colours.others }} />Compared</dt><dd>{full(row[`${name}/prev`], measure)}</dd></>}
        </dl>
        {bucket.partial && <p class="unfinished">{isLast && answer?.meta.lastEvent ? `To ${clockText(answer.meta.lastEvent)}, still filling` : 'Cut by the range'}</p>}
      </>
    );
  };

  const note = totals?.meta.compare?.cut ? `the same part of it, to ${clockText(totals.meta.lastEvent ?? totals.meta.to ?? '').slice(0, 5)}` : null;
  const total = totals?.rows[0];
  const summary = `${measure.title} by ${granularity}${total ? `, ${compact(total[name], measure)} in all` : ''}.`;
  const brush = brushed(view, answer);

  return (
    <section class={`tile series${withNumber ? '' : ' wide'}`} aria-label={measure.title}>
      {withNumber && <NumberTile measure={measure} row={total} isCompared={isCompared} note={note} />}
      <div class="series-chart">
        {answer?.problem && <ProblemNote problem={answer.problem} onRetry={explore.refresh} />}
        {answer ? (
          <Plane plot={plot} height={height} summary={summary} hover={hover} tooltip={tooltip} brushed={brush} {...brushing(explore, answer)} />
        ) : (
          <div class="skeleton" style={{ height: `${height}px` }} />
        )}
      </div>
    </section>
  );
}

/** What is selected on the charts, and what can be done with it. */
export function BrushBar({ explore }: { explore: Explore }) {
  const view = explore.view.value;
  const totals = explore.shown.value?.branches.get('totals');
  const measure = explore.table.measures.find((one) => one.name === view.measures[0]);
  if (!view.brush || !measure) return null;
  const row = totals?.rows[0];
  const { onZoom, onClear } = brushing(explore, undefined);
  return (
    <div class="brush-bar" role="status">
      <strong>{rangeText(view.brush.from.slice(0, 19), view.brush.to.slice(0, 19))}</strong>
      <span>{compact(row?.[measure.name], measure)} {measure.title}</span>
      {view.compare && <Change now={row?.[measure.name]} previous={row?.[`${measure.name}/prev`]} ratio={row?.[`${measure.name}/pct`]} better={measure.better} />}
      <button type="button" class="button small" title="Zoom (Z)" onClick={onZoom}>Zoom</button>
      <button type="button" class="button small" onClick={() => explore.dispatch({ do: 'records', open: true })}>Records</button>
      <button type="button" class="button small" onClick={onClear}>Clear</button>
    </div>
  );
}
