import { describe, expect, it } from 'vitest';
import { edn } from '../api/edn';
import { pattern } from '../api/pattern';
import { defaultView, repaired } from './defaults';
import { branches, values, type Asked } from './plan';
import type { Measure, Table } from './schema';
import { reduce, type View } from './view';

const measure = (name: string, additive: boolean): Measure => ({
  name, title: name, type: 'bigint', description: null, unit: null, format: null, additive, approximate: !additive, better: null,
});

const TABLE: Table = {
  name: 'plays', title: 'Plays', description: null, time: 'time',
  dimensions: ['game', 'country', 'is_new'].map((name) => ({ name, title: name, type: name === 'is_new' ? 'boolean' : 'text', description: null })),
  measures: [measure('plays', true), measure('players', false)],
  rollups: [{ name: 'r', granularities: ['hour'], dimensions: ['country'] }],
};

const BOUNDS = { first: '2026-10-01T00:00:00Z', last: '2026-11-20T10:00:00Z', lagMs: 4 };

function asked(change: Partial<View> = {}): Asked {
  return { table: TABLE, bounds: BOUNDS, view: { ...defaultView(TABLE, BOUNDS, 'Asia/Singapore'), ...change } };
}

const of = (change: Partial<View>): unknown => pattern(branches(asked(change)));

describe('the pattern of a view', () => {
  it('is one request with a branch a list', () => {
    const found = branches(asked({ filters: [{ dim: 'game', op: 'in', values: ['ddz'] }] }));
    expect(found.map((branch) => branch.name)).toEqual(['totals', 'series', 'lb_country', 'lb_game', 'lb_is_new']);
  });

  it('of the overview', () => {
    expect(of({ boards: ['game'], measures: ['plays'] })).toMatchInlineSnapshot(`
      {
        "metrics": {
          "plays": [
            {
              "$as": "totals",
              "$get": [
                {
                  "plays": "?",
                  "plays/pct": "?",
                  "plays/prev": "?",
                },
              ],
              "$with": [
                {
                  "compare": "previous-period",
                  "tz": "Asia/Singapore",
                  "window": {
                    "align": "hour",
                    "anchor": "data",
                    "kind": "last",
                    "period": "P7D",
                  },
                },
              ],
            },
            {
              "$as": "series",
              "$get": [
                {
                  "bucket": "?",
                  "plays": "?",
                  "plays/prev": "?",
                },
              ],
              "$with": [
                {
                  "compare": "previous-period",
                  "fill": "zero",
                  "granularity": "hour",
                  "tz": "Asia/Singapore",
                  "window": {
                    "align": "hour",
                    "anchor": "data",
                    "kind": "last",
                    "period": "P7D",
                  },
                },
              ],
            },
            {
              "$as": "lb_game",
              "$get": [
                {
                  "game": "?",
                  "plays": "?",
                  "plays/pct": "?",
                  "plays/prev": "?",
                },
              ],
              "$with": [
                {
                  "compare": "previous-period",
                  "top": {
                    "by": "plays",
                    "dim": "game",
                    "n": 7,
                    "others": true,
                  },
                  "tz": "Asia/Singapore",
                  "window": {
                    "align": "hour",
                    "anchor": "data",
                    "kind": "last",
                    "period": "P7D",
                  },
                },
              ],
            },
          ],
        },
      }
    `);
  });

  it('does not filter a list by its own dimension', () => {
    const view = { filters: [{ dim: 'game', op: 'in' as const, values: ['ddz', null] }, { dim: 'is_new', op: 'not' as const, values: ['true'] }] };
    const found = branches(asked(view));
    const filters = (name: string): unknown => (found.find((branch) => branch.name === name)?.query as { filters?: unknown }).filters;
    expect(filters('lb_game')).toEqual(['and', ['not', ['in', 'is_new', [true]]]]);
    expect(filters('lb_country')).toEqual(['and', ['in', 'game', ['ddz', null]], ['not', ['in', 'is_new', [true]]]]);
  });

  it('of each chart and table', () => {
    const splits = [{ dim: 'game', limit: 8, by: 'plays', way: 'desc' as const }];
    for (const kind of ['total', 'line', 'bar', 'heat', 'donut'] as const) {
      expect(of({ mode: 'chart', kind, splits, compare: null, measures: ['plays'] })).toMatchSnapshot(kind);
    }
    expect(of({ mode: 'table', splits, measures: ['plays'] })).toMatchSnapshot('table');
  });

  it('is copied in EDN', () => {
    const text = edn(pattern([values(asked({ filters: [{ dim: 'country', op: 'in', values: ['a"b', null] }] }), 'game', 'd')]));
    expect(text).toMatchInlineSnapshot(`
      "{:values {
          (:plays :with [{:window {:kind :last, :period "P7D", :align :hour, :anchor :data}, :tz "Asia/Singapore", :dim :game, :limit 50, :by :plays, :search "d", :filters [:and [:in :country #{"a\\"b" nil}]]}] :as :values) [{:value ?, :plays ?}]}}"
    `);
  });
});

describe('a view', () => {
  it('is narrowed by a click, and widened by the second', () => {
    const { view } = asked();
    const once = reduce(view, { do: 'only', dim: 'game', value: 'ddz' });
    expect(once.filters).toEqual([{ dim: 'game', op: 'in', values: ['ddz'] }]);
    expect(reduce(once, { do: 'only', dim: 'game', value: 'ddz' }).filters).toEqual([]);
    expect(reduce(once, { do: 'toggle', dim: 'game', value: null }).filters[0]?.values).toEqual(['ddz', null]);
    expect(reduce(once, { do: 'exclude', dim: 'game', value: 'ddz' }).filters[0]?.op).toBe('not');
  });

  it('always has a measure', () => {
    const { view } = asked({ measures: ['plays'] });
    expect(reduce(view, { do: 'measure', name: 'plays' }).measures).toEqual(['plays']);
  });

  it('loses what its table no longer has, and says so', () => {
    const found = repaired(asked({ measures: ['arpu'], boards: ['os', 'game'] }).view, TABLE);
    expect(found.missing).toEqual(['measure arpu', 'dimension os']);
    expect(found.view.measures).toEqual(['plays']);
    expect(found.view.boards).toEqual(['game']);
  });
});
