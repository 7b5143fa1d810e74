/** A change beside a number: arrow, sign and text. */
import type { Cell } from '../api/decode';
import { change } from '../format/number';
import './change.css';

interface Properties {
  now: Cell | undefined;
  previous: Cell | undefined;
  ratio: Cell | undefined;
  /** Which way is better; without it no colour judges. */
  better?: 'up' | 'down' | null;
}

/** See the module. */
export function Change({ now, previous, ratio, better }: Properties) {
  const found = change(now, previous, ratio);
  const judged = found.way === 'up' || found.way === 'down' ? (better ? (found.way === better ? 'good' : 'bad') : 'plain') : 'plain';
  return (
    <span class={`change ${judged}`}>
      <span aria-hidden="true">
        {found.arrow && <span class="arrow">{found.arrow}</span>}
        {found.text}
      </span>
      <span class="sr">{found.spoken}</span>
    </span>
  );
}
