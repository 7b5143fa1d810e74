/** The answer to a statement as a chart: numbers over its first column that is none. */
import { useSignal } from '@preact/signals';
import { useMemo } from 'preact/hooks';
import type { SqlAnswer, SqlCell } from '../../api/client';
import { asNumber, type Cell } from '../../api/decode';
import type { Plot } from '../../charts/options';
import { Plane } from '../../charts/plane';
import { palette } from '../../charts/theme';
import { ticks } from '../../charts/ticks';
import { compact, full } from '../../format/number';
import { instantText } from '../../format/time';
import { theme } from '../../state/settings';

const NUMBER = /^(smallint|integer|bigint|real|double precision|numeric)/;
const ROWS_MAX = 2000;
const SERIES_MAX = 8;
const LABELS_MAX = 12;

/** The place of the column that others are drawn over, and theirs. */
function roles(columns: SqlAnswer['columns']): { over: number; values: number[] } | null {
  const over = columns.findIndex((column) => !NUMBER.test(column.type));
  const at = over < 0 ? 0 : over;
  const values = columns.map((_, i) => i).filter((i) => i !== at && NUMBER.test(columns[i]?.type ?? '')).slice(0, SERIES_MAX);
  return values.length === 0 ? null : { over: at, values };
}

/** Whether an answer can be drawn: several rows, and numbers beside another column. */
export function isChart(answer: SqlAnswer): boolean {
  return answer.rows.length > 1 && roles(answer.columns) !== null;
}

const plain = (cell: SqlCell | undefined): Cell => (cell === undefined || typeof cell === 'object' ? null : cell);

/** See the module. */
export function AnswerChart({ answer, height = 420 }: { answer: SqlAnswer; height?: number }) {
  const hover = useSignal<number | null>(null);
  const colours = palette(theme.value);
  const found = roles(answer.columns);
  const plot = useMemo<Plot | null>(() => {
    if (!found) return null;
    const isTime = answer.columns[found.over]?.type.startsWith('timestamp') || answer.columns[found.over]?.type === 'date';
    const cells = answer.rows.slice(0, ROWS_MAX);
    // A course of time goes from left to right, however its rows were ordered.
    const rows = isTime ? [...cells].sort((a, b) => String(a[found.over]).localeCompare(String(b[found.over]))) : cells;
    const labels = rows.map((row) => (row[found.over] === null ? '(null)' : String(row[found.over])));
    const every = Math.max(1, Math.ceil(labels.length / LABELS_MAX));
    const named = new Map(labels.map((label, at) => [at, label] as const).filter(([at]) => at % every === 0));
    return {
      kind: isTime ? 'line' : 'bar',
      labels,
      ticks: isTime ? ticks(labels, 'hour', LABELS_MAX) : named,
      series: found.values.map((column, at) => ({
        name: answer.columns[column]?.name ?? '',
        color: colours.series[at % colours.series.length] ?? '',
        values: rows.map((row) => asNumber(plain(row[column]))),
      })),
      previous: null,
      partial: [],
      stacked: false,
      format: (value) => compact(value, {}, true),
    };
  }, [answer, colours]);
  if (!plot || !found) return <p class="panel-note">A chart needs a column of numbers beside another column.</p>;
  const isTime = plot.kind === 'line';
  return (
    <>
      <Plane
        plot={plot}
        height={height}
        hover={hover}
        summary={`${plot.series.map((series) => series.name).join(', ')} over ${answer.columns[found.over]?.name ?? ''}.`}
        tooltip={(at) => (
          <>
            <p class="when">{isTime ? instantText(plot.labels[at] ?? '') : plot.labels[at]}</p>
            <dl>{plot.series.map((series) => <><dt><span class="swatch" style={{ background: series.color }} />{series.name}</dt><dd>{full(series.values[at] ?? null)}</dd></>)}</dl>
          </>
        )}
      />
      {answer.rows.length > ROWS_MAX && <p class="panel-note">Drawn are the first {ROWS_MAX.toLocaleString('en')} rows.</p>}
    </>
  );
}
