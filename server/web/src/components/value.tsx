/** A value of a dimension: null, empty and others are words of the page. */
import type { Cell } from '../api/decode';
import { valueText } from '../format/value';

/** See the module. */
export function Value({ cell }: { cell: Cell | undefined }) {
  const { text, isWord } = valueText(cell);
  return isWord ? <span class="word">{text}</span> : <>{text}</>;
}
