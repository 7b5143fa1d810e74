import { describe, expect, it } from 'vitest';
import { parse, print } from './url';
import type { Filter, Split, View } from './view';

/** A generator of numbers that gives the same ones each time. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const DEFAULTS: View = {
  table: 'game_events', mode: 'overview', kind: 'line', range: { kind: 'last', period: 'P7D' }, anchor: 'data', granularity: null, zone: 'UTC',
  compare: { kind: 'previous' }, measures: ['plays'], boards: ['game'], splits: [], filters: [], brush: null, sort: null, records: false,
};

const TEXTS = ['ddz', '', '~null', 'a,b;c(d)', 'é %25 #&=', '..', '😀', '<img src=x>', "it's", 'a.in(b)', '+1'];

function randomView(pick: (below: number) => number): View {
  const one = <T>(items: readonly T[]): T => items[pick(items.length)] as T;
  const some = <T>(make: () => T): T[] => Array.from({ length: pick(4) }, make);
  const filter = (): Filter => ({ dim: one(['game', 'is_new', 'a.b']), op: one(['in', 'not']), values: [one(TEXTS), one([null, ...TEXTS])] });
  const split = (): Split => ({ dim: one(['game', 'time', 'x:y']), limit: 1 + pick(50), by: one(['plays', 'a:b']), way: one(['asc', 'desc']) });
  return {
    ...DEFAULTS,
    mode: one(['overview', 'chart', 'table']),
    kind: one(['total', 'line', 'area', 'bar', 'heat', 'donut']),
    range: one<View['range']>([{ kind: 'last', period: 'PT6H' }, { kind: 'calendar', name: 'today' }, { kind: 'all' }, { kind: 'fixed', from: '2026-11-01', to: '2026-11-08T10:30' }]),
    anchor: one(['data', 'now']),
    granularity: one([null, 'hour', 'PT6H']),
    zone: one(['UTC', 'Asia/Singapore', 'America/Argentina/Buenos_Aires']),
    compare: one<View['compare']>([null, { kind: 'previous' }, { kind: 'shift', period: 'P7D' }, { kind: 'range', from: '2026-10-01', to: '2026-10-02' }]),
    measures: ['plays', ...some(() => one(['players', 'rev,enue']))],
    boards: some(() => one(['game', 'a,b'])),
    splits: some(split),
    filters: some(filter),
    brush: one([null, { from: '2026-11-20T14:00:00+08:00', to: '2026-11-20T15:00:00+08:00' }]),
    sort: one([null, { by: 'plays/delta', way: 'asc' as const }]),
    records: one([true, false]),
  };
}

describe('the address of a view', () => {
  it('reads what it printed, and prints what it read', () => {
    const pick = generator(7);
    for (let round = 0; round < 2000; round += 1) {
      const view = randomView(pick);
      const text = print(view, DEFAULTS);
      const read = parse(`#${text}`, DEFAULTS);
      expect(read.view, text).toEqual(view);
      expect(print(read.view, DEFAULTS, read.unknown)).toBe(text);
    }
  });

  it('is read by people', () => {
    const view: View = { ...DEFAULTS, compare: { kind: 'previous' }, zone: 'Asia/Singapore', filters: [{ dim: 'country', op: 'in', values: ['SG', 'MY'] }, { dim: 'mode', op: 'not', values: [null] }] };
    expect(print(view, DEFAULTS)).toBe('r=P7D&tz=Asia/Singapore&c=prev&f=country.in(SG,MY);mode.not(~null)');
  });

  it('keeps keys that it does not know', () => {
    const read = parse('#r=P1D&tz=UTC&later=1', DEFAULTS);
    expect(print(read.view, DEFAULTS, read.unknown)).toBe('r=P1D&tz=UTC&later=1');
  });

  it('begins with the default view', () => {
    expect(parse('', DEFAULTS).view).toEqual(DEFAULTS);
  });

  it('takes any text without failing', () => {
    for (const text of ['#%', '#f=%E0%A4%A', '#s=;;', '#r=..', '#c=x', '#=', '#f=a.in()', '#v=evil&k=evil']) {
      expect(() => print(parse(text, DEFAULTS).view, DEFAULTS)).not.toThrow();
    }
  });
});
