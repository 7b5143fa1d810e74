/** One chart, built from splits and measures. */
import { useSignal } from '@preact/signals';
import { useMemo } from 'preact/hooks';
import { asNumber, isOthers, type BranchAnswer } from '../../api/decode';
import { Canvas } from '../../charts/canvas';
import { donutOption, type Plot } from '../../charts/options';
import { Plane } from '../../charts/plane';
import { groups, keyOf, series, slices, type Group } from '../../charts/shape';
import { palette } from '../../charts/theme';
import { ticks } from '../../charts/ticks';
import { Empty, Note, ProblemNote } from '../../components/notes';
import { NumberTile } from '../../components/number-tile';
import { compact, full, share } from '../../format/number';
import { bucketTitle } from '../../format/time';
import { valueText } from '../../format/value';
import { dimensionSplits, granularityOf, leadMeasure } from '../../state/plan';
import { fieldTitle, measureOf, type Measure } from '../../state/schema';
import { theme } from '../../state/settings';
import type { View } from '../../state/view';
import { brushed, brushing, SeriesTile } from './series-tile';
import { Heat } from './heat';
import type { Explore } from './store';
import { asFilterValue } from './value-picker';

const HEIGHT = 460;
const LABELS_MAX = 12;

/** What a chart of a split is drawn from. */
export interface Part {
  height: number;
  explore: Explore;
  view: View;
  answer: BranchAnswer;
  dim: string;
  measure: Measure;
}

function Legend({ explore, of, dim, measure }: { explore: Explore; of: readonly Group[]; dim: string; measure: Measure }) {
  const whole = measure.additive ? of.reduce((sum, group) => sum + group.total, 0) : null;
  return (
    <ul class="legend" aria-label={fieldTitle(explore.table, dim)}>
      {of.map((group) => (
        <li key={group.key}>
          <button type="button" disabled={isOthers(group.cell)} title="Only this value" onClick={() => explore.dispatch({ do: 'only', dim, value: asFilterValue(group.cell) })}>
            <span class="swatch" style={{ background: group.color }} />
            <span class="legend-text">{group.text}</span>
            {measure.additive && <span class="num">{compact(group.total, measure)}</span>}
            <span class="num muted">{share(group.total, whole)}</span>
          </button>
        </li>
      ))}
    </ul>
  );
}

function OverTime({ explore, height, view, answer, dim, measure }: Part) {
  const hover = useSignal<number | null>(null);
  const colours = palette(theme.value);
  const granularity = granularityOf(view, explore.asked().bounds);
  const { buckets } = answer.meta;
  const isStacked = measure.additive && view.kind !== 'line';
  const of = useMemo(() => groups(answer.rows, dim, measure.name, colours), [answer, dim, measure, colours]);
  const plot = useMemo<Plot>(() => {
    const starts = buckets.map((bucket) => bucket.start);
    return {
      kind: view.kind === 'bar' ? 'bar' : view.kind === 'area' && measure.additive ? 'area' : 'line',
      labels: starts,
      ticks: ticks(starts, granularity, LABELS_MAX),
      series: series(answer.rows, buckets, of, dim, measure.name, measure.additive ? 0 : null),
      previous: null,
      partial: buckets.map((bucket) => bucket.partial),
      stacked: isStacked,
      format: (value) => compact(value, measure, true),
    };
  }, [answer, of, dim, measure, granularity, view.kind, isStacked]);
  const tooltip = (at: number) => {
    const bucket = buckets[at];
    if (!bucket) return null;
    const lines = plot.series.map((one) => ({ ...one, value: one.values[at] ?? null })).sort((a, b) => (b.value ?? -Infinity) - (a.value ?? -Infinity));
    return (
      <>
        <p class="when">{bucketTitle(bucket.start, bucket.end, granularity)}</p>
        <dl>
          {lines.slice(0, 10).map((one) => (
            <><dt><span class="swatch" style={{ background: one.color }} />{one.name}</dt><dd>{full(one.value, measure)}</dd></>
          ))}
        </dl>
        {bucket.partial && <p class="unfinished">Not a whole bucket: cut, or still filling</p>}
      </>
    );
  };
  return (
    <div class="chart-and-legend">
      <Plane
        plot={plot}
        height={height}
        hover={hover}
        tooltip={tooltip}
        brushed={brushed(view, answer)}
        summary={`${measure.title} by ${fieldTitle(explore.table, dim)} and ${granularity}, ${of.length} series.`}
        {...brushing(explore, answer)}
      />
      <Legend explore={explore} of={of} dim={dim} measure={measure} />
    </div>
  );
}

function Bars({ explore, view, answer, dim, measure }: Part) {
  const most = Math.max(1, ...answer.rows.map((row) => asNumber(row[measure.name]) ?? 0));
  const isCompared = view.compare !== null;
  const chosen = view.filters.find((filter) => filter.dim === dim)?.values ?? [];
  return (
    <ol class="bars" aria-label={`${measure.title} by ${fieldTitle(explore.table, dim)}`}>
      {answer.rows.map((row) => {
        const cell = row[dim] ?? null;
        const value = asNumber(row[measure.name]) ?? 0;
        const before = asNumber(row[`${measure.name}/prev`]);
        const isRest = isOthers(cell);
        return (
          <li key={keyOf(cell)}>
            <button type="button" disabled={isRest} aria-pressed={chosen.includes(asFilterValue(cell))} onClick={() => explore.dispatch({ do: 'only', dim, value: asFilterValue(cell) })} title={full(row[measure.name], measure)}>
              <span class={`bars-name${isRest || cell === null || cell === '' ? ' word' : ''}`}>{valueText(cell).text}</span>
              <span class="bars-track">
                <span class={`bars-bar${isRest ? ' rest' : ''}`} style={{ width: `${(Math.max(0, value) / most) * 100}%` }} />
                {isCompared && before !== null && before > 0 && <span class="bars-before" style={{ left: `${Math.min(100, (before / most) * 100)}%` }} />}
              </span>
              <span class="num">{compact(row[measure.name], measure)}</span>
            </button>
          </li>
        );
      })}
    </ol>
  );
}

function Donut({ explore, height, answer, dim, measure }: Part) {
  const colours = palette(theme.value);
  const of = useMemo(() => groups(answer.rows, dim, measure.name, colours), [answer, dim, measure, colours]);
  const option = useMemo(() => donutOption(slices(of), colours), [of, colours]);
  return (
    <div class="chart-and-legend">
      <Canvas option={option} height={height} needsMore summary={`${measure.title} by ${fieldTitle(explore.table, dim)}: ${of.map((group) => `${group.text} ${compact(group.total, measure)}`).join(', ')}`} />
      <Legend explore={explore} of={of} dim={dim} measure={measure} />
    </div>
  );
}

/** See the module. */
export function ChartView({ explore, height = HEIGHT, isTile = false }: { explore: Explore; height?: number; isTile?: boolean }) {
  const hover = useSignal<number | null>(null);
  const shown = explore.shown.value;
  const view = shown?.view ?? explore.view.value;
  const { table } = explore;
  const measures = view.measures.map((name) => measureOf(table, name)).filter((measure) => measure !== undefined);
  const measure = measureOf(table, leadMeasure(view));
  const split = dimensionSplits(explore.asked(view))[0];
  const answer = shown?.branches.get('chart');
  const hasTime = view.splits.some((one) => one.dim === table.time);
  const isPlain = !split && view.kind !== 'total' && view.kind !== 'donut';

  if (!measure) return <Empty title="This table has no measure"><p>Measures are declared in the configuration: edits = "count(*)".</p></Empty>;
  if (isPlain || (view.kind === 'total' && measures.length > 0)) {
    return (
      <div class="courses">
        {measures.map((one) => (view.kind === 'total'
          ? <section key={one.name} class="tile total"><NumberTile measure={one} row={shown?.branches.get('totals')?.rows[0]} isCompared={view.compare !== null} /></section>
          : <SeriesTile key={one.name} explore={explore} measure={one} hover={hover} height={isTile ? height : measures.length > 1 ? 220 : height} withNumber={!isTile} kind={view.kind === 'bar' ? 'bar' : view.kind === 'line' ? 'line' : 'area'} />))}
      </div>
    );
  }
  if (!answer || !split) return <div class="tile chart-tile"><div class="skeleton" style={{ height: `${height}px` }} /></div>;
  const part: Part = { explore, height, view, answer, dim: split.dim, measure };
  const others = answer.meta.others;
  return (
    <>
      <section class="tile chart-tile" aria-label={`${measure.title} by ${fieldTitle(table, split.dim)}`}>
        {!isTile && <h2>{measure.title}{measure.approximate ? ' ≈' : ''} by {fieldTitle(table, split.dim)}</h2>}
        {answer.problem && <ProblemNote problem={answer.problem} onRetry={explore.refresh} />}
        {view.kind === 'heat' ? <Heat {...part} /> : view.kind === 'donut' ? <Donut {...part} /> : view.kind === 'bar' && !hasTime ? <Bars {...part} /> : <OverTime {...part} />}
        {answer.meta.truncated && <Note kind="warn">The first {answer.rows.length.toLocaleString('en')} rows of more. A shorter range or fewer values shows all.</Note>}
        {others !== null && others > 0 && view.kind === 'heat' && <p class="panel-note">{others.toLocaleString('en')} other values are together in the last row.</p>}
        {!isTile && measures.length > 1 && view.kind !== 'total' && <p class="panel-note">A split chart shows one measure, {measure.title}; the table shows all {measures.length}.</p>}
        {!isTile && view.compare !== null && view.kind !== 'bar' && <p class="panel-note">Charts with several series show no comparison; the table does.</p>}
      </section>
    </>
  );
}
