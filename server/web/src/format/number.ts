/** Numbers as text. Decimals and large integers are texts themselves, and are formatted digit by digit. */
import { asNumber, isOthers, type Cell } from '../api/decode';
import { durationText } from './time';

/** How a measure wants to be written. */
export interface NumberStyle {
  unit?: string | null;
  format?: string | null;
}

const COMPACT = new Intl.NumberFormat('en', { notation: 'compact', minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
const ROUND = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });
const SMALL = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });
const WHOLE = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const FULL = new Intl.NumberFormat('en', { maximumFractionDigits: 4 });
const SHARE = new Intl.NumberFormat('en', { style: 'percent', minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** What stands where a measure has no value. */
export const NOTHING = '–';
const MINUS = '−';

type Exact = Intl.StringNumericLiteral;

const minus = (text: string): string => text.replace('-', MINUS);
const lower = (text: string): string => text.replace('K', 'k').replace('B', 'G');

function units(text: string, style: NumberStyle): string {
  switch (style.unit) {
    case null:
    case undefined:
    case '':
      return text;
    case 'USD':
      return text.startsWith(MINUS) ? `${MINUS}$${text.slice(1)}` : `$${text}`;
    case 'EUR':
      return text.startsWith(MINUS) ? `${MINUS}€${text.slice(1)}` : `€${text}`;
    case '%':
      return `${text}%`;
    default:
      return `${text} ${style.unit}`;
  }
}

function bytes(value: number): string {
  const names = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  const step = value === 0 ? 0 : Math.min(names.length - 1, Math.max(0, Math.floor(Math.log2(Math.abs(value)) / 10)));
  return `${minus(SMALL.format(value / 1024 ** step))} ${names[step] ?? 'B'}`;
}

/** Bytes in IEC units. */
export const bytesText = bytes;

/** Three significant digits, for tiles; on axes, whose numbers are round, without their zeros. */
export function compact(cell: Cell | undefined, style: NumberStyle = {}, isRound = false): string {
  const value = asNumber(cell);
  if (value === null) return NOTHING;
  if (style.format === '0%') return SHARE.format(value);
  if (style.format === '0b' || style.unit === 'bytes') return bytes(value);
  if (style.unit === 's') return value === 0 ? '0 s' : durationText(value);
  const size = Math.abs(value);
  const text = size >= 10_000 ? lower((isRound ? ROUND : COMPACT).format(value)) : size >= 1000 ? WHOLE.format(value) : SMALL.format(value);
  return units(minus(text), style);
}

/** All digits, for tables and tooltips. */
export function full(cell: Cell | undefined, style: NumberStyle = {}): string {
  if (cell === null || cell === undefined || typeof cell === 'boolean' || isOthers(cell)) return NOTHING;
  const value = asNumber(cell);
  if (value === null) return typeof cell === 'string' ? cell : NOTHING;
  const exact = typeof cell === 'string' ? (cell as Exact) : cell;
  switch (style.format) {
    case '0%':
      return SHARE.format(value);
    case '0,0.00':
    case '0.00': {
      const format = new Intl.NumberFormat('en', { minimumFractionDigits: 2, maximumFractionDigits: 2, useGrouping: style.format === '0,0.00' });
      return units(minus(format.format(exact)), style);
    }
    case '0':
      return units(minus(new Intl.NumberFormat('en', { maximumFractionDigits: 0, useGrouping: false }).format(exact)), style);
    case '0,0':
      return units(minus(WHOLE.format(exact)), style);
    case '0a':
      return compact(cell, style);
    case '0b':
      return bytes(value);
    default:
      return units(minus(FULL.format(exact)), style.unit === 'bytes' ? { unit: 'B' } : style);
  }
}

/** A share of one as percent. */
export function share(part: number | null, whole: number | null): string {
  return part === null || !whole ? '' : SHARE.format(part / whole);
}

/** A change: its arrow, text, and whether it is up or down. */
export interface Change {
  way: 'up' | 'down' | 'same' | 'none';
  arrow: string;
  text: string;
  spoken: string;
}

const NO_CHANGE: Change = { way: 'none', arrow: '', text: NOTHING, spoken: 'no comparison' };

/** The change from `previous` to `now`; `ratio` is the change as a share of the previous, as the server says. */
export function change(now: Cell | undefined, previous: Cell | undefined, ratio: Cell | undefined): Change {
  const [current, before, relative] = [asNumber(now), asNumber(previous), asNumber(ratio)];
  if (current === null && before === null) return NO_CHANGE;
  if (relative === null) {
    if (!before && current) return { way: 'up', arrow: '▲', text: 'new', spoken: 'new' };
    return before === 0 && current === 0 ? { way: 'same', arrow: '', text: '0.0%', spoken: 'unchanged' } : NO_CHANGE;
  }
  if (Math.abs(relative) < 0.0005) return { way: 'same', arrow: '', text: '0.0%', spoken: 'unchanged' };
  const way = relative > 0 ? 'up' : 'down';
  const percent = (Math.abs(relative) * 100).toFixed(1);
  const text = relative > 9.99 ? `×${SMALL.format(relative + 1)}` : `${way === 'up' ? '+' : MINUS}${percent}%`;
  return { way, arrow: way === 'up' ? '▲' : '▼', text, spoken: `${way} ${percent} percent` };
}
