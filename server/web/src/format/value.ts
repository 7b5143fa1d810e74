/** Values of dimensions as text. */
import { isOthers, type Cell } from '../api/decode';

/** A value's text, and whether it is a word of the page rather than of the data. */
export interface ValueText {
  text: string;
  isWord: boolean;
}

/** The text of a dimension's value. */
export function valueText(cell: Cell | undefined): ValueText {
  if (cell === null || cell === undefined) return { text: '(null)', isWord: true };
  if (cell === '') return { text: '(empty)', isWord: true };
  if (isOthers(cell)) return { text: cell.others === 1 ? '1 other' : `${cell.others.toLocaleString('en')} others`, isWord: true };
  return { text: String(cell), isWord: false };
}

/** A column's name as a title: `is_robot` reads "Is robot". */
export function titleOf(name: string): string {
  const words = name.replace(/_/g, ' ').trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** A cell of CSV that no spreadsheet takes for a formula. */
export function csvCell(value: Cell | undefined): string {
  if (value === null || value === undefined) return '';
  const text = isOthers(value) ? valueText(value).text : String(value);
  const isNumber = typeof value === 'number' || /^-?\d+(\.\d+)?$/.test(text);
  const safe = !isNumber && /^[\s]*[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
}

/** Rows as CSV. */
export function csv(header: readonly string[], rows: readonly (readonly (Cell | undefined)[])[]): string {
  return [header, ...rows].map((row) => row.map(csvCell).join(',')).join('\r\n') + '\r\n';
}
