/** Which buckets of an axis are labelled: few enough to read, and on round times. */
import { axisLabel, local } from '../format/time';

const MINUTE = 60_000;
const DAY = 86_400_000;
const STEPS = [1000, 10_000, MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, 60 * MINUTE, 180 * MINUTE, 360 * MINUTE, 720 * MINUTE, DAY, 2 * DAY, 7 * DAY, 14 * DAY];
const MONTHS = [1, 3, 6, 12, 60];
/** 1970-01-05 was a Monday. */
const MONDAY = 4 * DAY;

/** Labels by the number of their bucket. */
export function ticks(starts: readonly string[], granularity: string, most: number): ReadonlyMap<number, string> {
  const clocks = starts.map((start) => local(start)?.clock ?? 0);
  const all = clocks.map((clock, at) => ({ clock, at }));
  const pick = (isRound: (clock: number) => boolean): number[] => all.filter(({ clock }) => isRound(clock)).map(({ at }) => at);
  const labelled = (places: readonly number[]): Map<number, string> => new Map(places.map((at) => [at, axisLabel(starts[at] ?? '', granularity)]));
  if (starts.length <= most) return labelled(all.map(({ at }) => at));
  if (granularity === 'month' || granularity === 'quarter' || granularity === 'year') {
    for (const months of MONTHS) {
      const places = pick((clock) => (new Date(clock).getUTCFullYear() * 12 + new Date(clock).getUTCMonth()) % months === 0);
      if (places.length <= most) return labelled(places);
    }
    return labelled([0]);
  }
  for (const step of STEPS) {
    const places = pick((clock) => (step >= 7 * DAY ? (clock - MONDAY) % step === 0 : clock % step === 0));
    if (places.length > 0 && places.length <= most) {
      const name = step >= DAY && granularity !== 'day' && granularity !== 'week' ? 'hour' : granularity;
      return new Map(places.map((at) => [at, axisLabel(starts[at] ?? '', name)]));
    }
  }
  // Buckets of an origin of their own: any so many.
  const every = Math.ceil(starts.length / most);
  return labelled(all.map(({ at }) => at).filter((at) => at % every === 0));
}
