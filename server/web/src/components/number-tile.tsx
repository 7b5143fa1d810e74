/** One number, large, and what it is compared with. */
import type { Row } from '../api/decode';
import { compact, full } from '../format/number';
import type { Measure } from '../state/schema';
import { Change } from './change';
import './number-tile.css';

interface Properties {
  measure: Measure;
  row: Row | undefined;
  isCompared: boolean;
  /** Said below the change when the other interval was cut. */
  note?: string | null;
}

/** See the module. */
export function NumberTile({ measure, row, isCompared, note }: Properties) {
  const { name } = measure;
  return (
    <div class="number">
      <h3>
        {measure.title}
        {measure.approximate && <abbr class="approx" title="Approximate: a sketch of distinct values or quantiles"> ≈</abbr>}
      </h3>
      {row ? <p class="number-value" title={full(row[name], measure)}>{compact(row[name], measure)}</p> : <div class="skeleton number-skeleton" />}
      {isCompared && row && (
        <p class="number-change">
          <Change now={row[name]} previous={row[`${name}/prev`]} ratio={row[`${name}/pct`]} better={measure.better} />
          <span class="muted">vs {compact(row[`${name}/prev`], measure)}</span>
        </p>
      )}
      {note && <p class="number-note">{note}</p>}
    </div>
  );
}
