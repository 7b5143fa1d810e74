/** Times as text. Instants of answers carry the offset of the zone asked for, so that no zone is calculated here. */

/** The local reading of an instant, as its text says it. */
export interface Local {
  /** Milliseconds of the local clock, as if it stood in UTC: for formatting only. */
  clock: number;
  offset: string;
}

const INSTANT = /^(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?)?(Z|[+-]\d{2}:?\d{2})?$/;

/** Reads an instant or a local time; null if it is neither. */
export function local(text: string): Local | null {
  const found = INSTANT.exec(text);
  if (!found) return null;
  const [year, month, day, hour, minute, second] = found.slice(1, 7).map((part) => Number(part ?? 0));
  const millis = Math.floor(Number(`0.${found[7] ?? '0'}`) * 1000);
  const clock = Date.UTC(year ?? 0, (month ?? 1) - 1, day ?? 1, hour ?? 0, minute ?? 0, second ?? 0, millis);
  return { clock, offset: found[8] ?? '' };
}

function formatter(options: Intl.DateTimeFormatOptions): (clock: number) => string {
  const format = new Intl.DateTimeFormat('en-GB', { ...options, timeZone: 'UTC' });
  return (clock) => format.format(clock).replace(/,/g, '').replace('Sept', 'Sep');
}

const DAY = formatter({ day: 'numeric', month: 'short' });
const DAY_YEAR = formatter({ day: 'numeric', month: 'short', year: 'numeric' });
const WEEKDAY = formatter({ weekday: 'short', day: 'numeric', month: 'short' });
const WEEKDAY_YEAR = formatter({ weekday: 'short', day: 'numeric', month: 'short', year: 'numeric' });
const MINUTE = formatter({ hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const SECOND = formatter({ hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const MONTH = formatter({ month: 'short' });
const MONTH_YEAR = formatter({ month: 'short', year: 'numeric' });

const year = (clock: number): number => new Date(clock).getUTCFullYear();
const isMidnight = (clock: number): boolean => clock % 86_400_000 === 0;

/** Names of granularities that people read. */
export const GRANULARITY_TITLES: { readonly [name: string]: string } = {
  second: 'second',
  minute: 'minute',
  'five-minute': '5 minutes',
  'fifteen-minute': '15 minutes',
  hour: 'hour',
  PT6H: '6 hours',
  day: 'day',
  week: 'week',
  month: 'month',
  quarter: 'quarter',
  year: 'year',
};

/** The label of a bucket on an axis. */
export function axisLabel(start: string, granularity: string): string {
  const read = local(start);
  if (!read) return start;
  const { clock } = read;
  switch (granularity) {
    case 'second':
      return SECOND(clock);
    case 'minute':
    case 'five-minute':
    case 'fifteen-minute':
      return isMidnight(clock) ? WEEKDAY(clock) : MINUTE(clock);
    case 'hour':
    case 'PT6H':
      return isMidnight(clock) ? WEEKDAY(clock) : MINUTE(clock);
    case 'month':
      return new Date(clock).getUTCMonth() === 0 ? String(year(clock)) : MONTH(clock);
    case 'quarter':
      return `Q${Math.floor(new Date(clock).getUTCMonth() / 3) + 1} ${String(year(clock)).slice(2)}`;
    case 'year':
      return String(year(clock));
    default:
      return DAY(clock);
  }
}

/** A bucket in a sentence, with both ends where one does not say it all. */
export function bucketTitle(start: string, end: string, granularity: string, repeated = false): string {
  const from = local(start);
  const to = local(end);
  if (!from || !to) return start;
  const zone = repeated ? ` ${from.offset === 'Z' ? 'UTC' : `GMT${from.offset}`}` : '';
  switch (granularity) {
    case 'second':
      return `${WEEKDAY(from.clock)} ${SECOND(from.clock)}${zone}`;
    case 'day':
      return WEEKDAY_YEAR(from.clock);
    case 'week':
      return `${DAY(from.clock)} – ${DAY_YEAR(to.clock - 86_400_000)}`;
    case 'month':
      return MONTH_YEAR(from.clock);
    case 'quarter':
      return `${axisLabel(start, 'quarter')}`;
    case 'year':
      return String(year(from.clock));
    default:
      return `${WEEKDAY(from.clock)} ${MINUTE(from.clock)}–${MINUTE(to.clock)}${zone}`;
  }
}

/** A half-open range in words: whole days without their hours. */
export function rangeText(from: string, to: string): string {
  const start = local(from);
  const end = local(to);
  if (!start || !end) return `${from} – ${to}`;
  if (isMidnight(start.clock) && isMidnight(end.clock)) {
    const last = end.clock - 86_400_000;
    if (last <= start.clock) return WEEKDAY_YEAR(start.clock);
    const sameYear = year(start.clock) === year(last);
    const sameMonth = sameYear && MONTH(start.clock) === MONTH(last);
    if (sameMonth) return `${new Date(start.clock).getUTCDate()}–${DAY_YEAR(last)}`;
    return `${sameYear ? DAY(start.clock) : DAY_YEAR(start.clock)} – ${DAY_YEAR(last)}`;
  }
  const sameDay = Math.floor(start.clock / 86_400_000) === Math.floor((end.clock - 1) / 86_400_000);
  if (sameDay) return `${WEEKDAY_YEAR(start.clock)} ${MINUTE(start.clock)}–${isMidnight(end.clock) ? '24:00' : MINUTE(end.clock)}`;
  return `${DAY(start.clock)} ${MINUTE(start.clock)} – ${DAY_YEAR(end.clock)} ${MINUTE(end.clock)}`;
}

/** An instant to the millisecond, as its zone's clock shows it. */
export function instantText(text: string): string {
  const read = local(text);
  if (!read) return text;
  const iso = new Date(read.clock).toISOString();
  return `${iso.slice(0, 10)} ${iso.slice(11, 23)}`;
}

/** The clock of an instant, to the second. */
export function clockText(text: string): string {
  const read = local(text);
  return read ? SECOND(read.clock) : text;
}

/** The local date and time of an instant in a zone, for the server to read in that zone. */
export function localIn(instant: string, zone: string): string {
  const format = new Intl.DateTimeFormat('sv-SE', { timeZone: zone, dateStyle: 'short', timeStyle: 'medium' });
  return format.format(new Date(instant)).replace(' ', 'T');
}

/** The local text of an instant, without its offset; a date alone at midnight. */
export function wallClock(text: string): string {
  const read = local(text);
  if (!read) return text;
  const iso = new Date(read.clock).toISOString();
  if (isMidnight(read.clock)) return iso.slice(0, 10);
  return iso.slice(17, 19) === '00' ? iso.slice(0, 16) : iso.slice(0, 19);
}

/** A local time moved by milliseconds of the clock on the wall. */
export function moved(text: string, millis: number): string {
  const read = local(text);
  return read ? wallClock(new Date(read.clock + millis).toISOString()) : text;
}

/** A length of time in words: `2 m 14 s`. */
export function durationText(seconds: number): string {
  const parts: [number, string][] = [[86_400, 'd'], [3600, 'h'], [60, 'm'], [1, 's']];
  let rest = Math.round(Math.abs(seconds));
  if (rest < 1) return `${Math.round(seconds * 1000)} ms`;
  const said: string[] = [];
  for (const [size, unit] of parts) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0 && said.length < 2) said.push(`${count} ${unit}`);
    else if (said.length > 0) break;
  }
  return `${seconds < 0 ? '−' : ''}${said.join(' ')}`;
}
