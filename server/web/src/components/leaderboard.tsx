/** The first values of a dimension, with bars, shares and changes. */
import type { BranchAnswer, Cell, Row } from '../api/decode';
import { asNumber, isOthers } from '../api/decode';
import { change, compact, share } from '../format/number';
import { valueText } from '../format/value';
import type { Measure } from '../state/schema';
import type { Filter, FilterValue } from '../state/view';
import { Change } from './change';
import { ProblemNote } from './notes';
import { Value } from './value';
import './leaderboard.css';

/** What a click on a value means. */
export type Pick = 'only' | 'toggle' | 'exclude';

interface Properties {
  title: string;
  dim: string;
  measure: Measure | undefined;
  answer: BranchAnswer | undefined;
  filter: Filter | undefined;
  isCompared: boolean;
  rows: number;
  onPick: (way: Pick, value: FilterValue) => void;
  onAll: () => void;
  /** Asks for the menu of a value. */
  onMenu?: (value: FilterValue, event: MouseEvent) => void;
}

function wayOf(event: { shiftKey: boolean; ctrlKey: boolean; metaKey: boolean }): Pick {
  if (event.shiftKey) return 'exclude';
  return event.ctrlKey || event.metaKey ? 'toggle' : 'only';
}

function asFilter(cell: Cell | undefined): FilterValue {
  return cell === null || cell === undefined || typeof cell === 'object' ? null : String(cell);
}

function toNext(event: KeyboardEvent): void {
  const by = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
  if (by === 0 || !(event.currentTarget instanceof HTMLElement)) return;
  event.preventDefault();
  const buttons = [...event.currentTarget.querySelectorAll<HTMLElement>('button.value')];
  buttons[buttons.indexOf(document.activeElement as HTMLElement) + by]?.focus();
}

/** See the module. */
export function Leaderboard({ title, dim, measure, answer, filter, isCompared, rows, onPick, onAll, onMenu }: Properties) {
  const name = measure?.name ?? '';
  const found = answer?.rows ?? [];
  const numbers = found.map((row) => asNumber(row[name]));
  const most = found.reduce((max, row, at) => (isOthers(row[dim]) ? max : Math.max(max, numbers[at] ?? 0)), 0);
  // The parts of an additive measure are all here: the first values and the others.
  const whole = measure?.additive ? numbers.reduce<number>((sum, value) => sum + (value ?? 0), 0) : null;
  const blanks = answer ? 0 : rows;
  const count = found.length;

  const cells = (row: Row) => (
    <>
      <td class="num">{compact(row[name], measure)}</td>
      <td class="num share">{share(asNumber(row[name]), whole)}</td>
      {isCompared && <td class="num"><Change now={row[name]} previous={row[`${name}/prev`]} ratio={row[`${name}/pct`]} better={measure?.better ?? null} /></td>}
    </>
  );

  const line = (row: Row) => {
    const cell = row[dim];
    if (isOthers(cell)) {
      return (
        <tr key="others" class="others">
          <th scope="row"><button type="button" class="value" onClick={onAll} title="Show all values">{valueText(cell).text}</button></th>
          {cells(row)}
        </tr>
      );
    }
    const value = asFilter(cell);
    const isChosen = filter?.values.includes(value) === true;
    const width = most > 0 ? Math.max(0, ((asNumber(row[name]) ?? 0) / most) * 100) : 0;
    const spoken = change(row[name], row[`${name}/prev`], row[`${name}/pct`]).spoken;
    return (
      <tr key={value === null ? '~null' : `=${value}`} class={isChosen ? (filter?.op === 'not' ? 'excluded' : 'chosen') : filter ? 'dimmed' : ''}>
        <th scope="row">
          <span class="bar" style={{ width: `${width}%` }} />
          <button
            type="button"
            class="value"
            aria-pressed={isChosen}
            title={`${valueText(cell).text}: click for only this, Ctrl-click to add, Shift-click to leave out`}
            aria-label={`${valueText(cell).text}, ${compact(row[name], measure)}${isCompared ? `, ${spoken}` : ''}`}
            onClick={(event) => onPick(wayOf(event), value)}
            onContextMenu={onMenu && ((event) => { event.preventDefault(); onMenu(value, event); })}
          >
            <Value cell={cell} />
          </button>
        </th>
        {cells(row)}
      </tr>
    );
  };

  return (
    <section class={`tile board${rows < 4 ? ' few' : ''}`} aria-label={title}>
      <table onKeyDown={toNext}>
        <thead>
          <tr>
            <th scope="col"><button type="button" class="board-title" onClick={onAll} title={`All values of ${title}`}>{title}</button></th>
            <th scope="col" class="num">{measure?.title}{measure?.approximate ? ' ≈' : ''}</th>
            <th scope="col" class="num share">{measure?.additive ? '%' : ''}</th>
            {isCompared && <th scope="col" class="num"><abbr title="Change">Δ</abbr></th>}
          </tr>
        </thead>
        <tbody>{found.map(line)}</tbody>
      </table>
      {Array.from({ length: blanks }, (_, at) => <div key={at} class="skeleton line" />)}
      {answer?.problem && <ProblemNote problem={answer.problem} />}
      {answer && count === 0 && !answer.problem && <p class="board-empty">No values in this range.</p>}
      {(answer?.meta.others ?? 0) > 0 && <button type="button" class="board-all" onClick={onAll}>Show all {((answer?.meta.others ?? 0) + count - 1).toLocaleString('en')} ›</button>}
    </section>
  );
}
