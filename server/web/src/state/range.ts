/** Ranges of time: what a person chose, and how the server is asked for it. */
import type { Bounds } from '../api/decode';
import type { Interval } from '../api/pattern';
import { local, localIn, moved } from '../format/time';

/** A range as a person chose it. Local times are read in the view's zone; half-open. */
export type Range =
  | { kind: 'last'; period: string }
  | { kind: 'calendar'; name: string }
  | { kind: 'all' }
  | { kind: 'fixed'; from: string; to: string };

/** Ranges to choose from, and their names. */
export const PRESETS: readonly { range: Range; title: string }[] = [
  { range: { kind: 'last', period: 'PT1H' }, title: 'Last hour' },
  { range: { kind: 'last', period: 'PT6H' }, title: 'Last 6 hours' },
  { range: { kind: 'last', period: 'P1D' }, title: 'Last 24 hours' },
  { range: { kind: 'last', period: 'P7D' }, title: 'Last 7 days' },
  { range: { kind: 'last', period: 'P30D' }, title: 'Last 30 days' },
  { range: { kind: 'last', period: 'P90D' }, title: 'Last 90 days' },
  { range: { kind: 'calendar', name: 'today' }, title: 'Today' },
  { range: { kind: 'calendar', name: 'yesterday' }, title: 'Yesterday' },
  { range: { kind: 'calendar', name: 'this-week' }, title: 'This week' },
  { range: { kind: 'calendar', name: 'last-week' }, title: 'Last week' },
  { range: { kind: 'calendar', name: 'this-month' }, title: 'This month' },
  { range: { kind: 'calendar', name: 'last-month' }, title: 'Last month' },
  { range: { kind: 'all' }, title: 'All time' },
];

/** Granularities that may be chosen, finest first, with their length in seconds. */
export const GRANULARITIES: readonly { name: string; seconds: number }[] = [
  { name: 'second', seconds: 1 },
  { name: 'minute', seconds: 60 },
  { name: 'five-minute', seconds: 300 },
  { name: 'fifteen-minute', seconds: 900 },
  { name: 'hour', seconds: 3600 },
  { name: 'PT6H', seconds: 21_600 },
  { name: 'day', seconds: 86_400 },
  { name: 'week', seconds: 604_800 },
  { name: 'month', seconds: 2_629_800 },
  { name: 'quarter', seconds: 7_889_400 },
  { name: 'year', seconds: 31_557_600 },
];

/** The server's bound on buckets, and the most that a chart chooses by itself. */
export const BUCKETS_MAX = 10_000;
const BUCKETS_AUTO = 200;

const PERIOD = /^P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$/;

/** The length of an ISO period, about. */
export function periodSeconds(period: string): number | null {
  const found = PERIOD.exec(period);
  if (!found || period === 'P' || period.endsWith('T')) return null;
  const sizes = [31_557_600, 2_629_800, 604_800, 86_400, 3600, 60, 1];
  return sizes.reduce((sum, size, at) => sum + size * Number(found[at + 1] ?? 0), 0);
}

const CALENDAR_SECONDS: { readonly [unit: string]: number } = {
  today: 86_400,
  yesterday: 86_400,
  week: 604_800,
  month: 2_678_400,
  quarter: 7_948_800,
  year: 31_622_400,
};

/** The whole local days that hold all events. */
export function wholeDays(bounds: Bounds | undefined, zone: string): { from: string; to: string } | null {
  if (!bounds?.first || !bounds.last) return null;
  const from = localIn(bounds.first, zone).slice(0, 10);
  const to = moved(localIn(bounds.last, zone).slice(0, 10), 86_400_000);
  return { from, to };
}

/** The length of a range, about: enough to choose a granularity. */
export function rangeSeconds(range: Range, bounds: Bounds | undefined, zone: string): number {
  switch (range.kind) {
    case 'last':
      return periodSeconds(range.period) ?? 604_800;
    case 'calendar':
      return CALENDAR_SECONDS[range.name] ?? CALENDAR_SECONDS[range.name.split('-')[1] ?? ''] ?? 604_800;
    case 'all': {
      const days = wholeDays(bounds, zone);
      return days ? clockSeconds(days.from, days.to) : 86_400;
    }
    case 'fixed':
      return clockSeconds(range.from, range.to);
  }
}

function clockSeconds(from: string, to: string): number {
  const [start, end] = [local(from), local(to)];
  return start && end ? Math.max(1, (end.clock - start.clock) / 1000) : 86_400;
}

/** The finest granularity that gives a chart few enough buckets. */
export function autoGranularity(seconds: number): string {
  return GRANULARITIES.find((granularity) => seconds / granularity.seconds <= BUCKETS_AUTO)?.name ?? 'year';
}

/** How many buckets a range has. */
export function bucketsOf(seconds: number, granularity: string): number {
  const size = GRANULARITIES.find(({ name }) => name === granularity)?.seconds ?? 1;
  return Math.ceil(seconds / size);
}

/** How the server is asked for a range. A last period ends with the bucket that is running. */
export function interval(range: Range, anchor: 'data' | 'now', zone: string, granularity: string, bounds: Bounds | undefined): Interval {
  switch (range.kind) {
    case 'last':
      return { window: { kind: 'last', period: range.period, align: granularity, anchor }, tz: zone };
    case 'calendar':
      return { window: { kind: range.name, anchor }, tz: zone };
    case 'all': {
      const days = wholeDays(bounds, zone);
      return days ? { ...days, tz: zone } : { window: { kind: 'last', period: 'P1D', anchor }, tz: zone };
    }
    case 'fixed':
      return { from: range.from, to: range.to, tz: zone };
  }
}

/** A range moved by its own length, to both sides of which the server gave the ends. */
export function shifted(from: string, to: string, way: 1 | -1): Range {
  const [start, end] = [local(from), local(to)];
  const length = start && end ? (end.clock - start.clock) * way : 0;
  return { kind: 'fixed', from: moved(from, length), to: moved(to, length) };
}

/** The name of a range. */
export function rangeTitle(range: Range): string {
  if (range.kind === 'fixed') return '';
  const same = PRESETS.find((preset) => JSON.stringify(preset.range) === JSON.stringify(range));
  if (same) return same.title;
  if (range.kind === 'last') return `Last ${range.period.replace(/^PT?/, '').toLowerCase()}`;
  return range.kind === 'calendar' ? range.name.replace('-', ' ') : 'All time';
}
