import { describe, expect, it, vi } from 'vitest';
import { pull } from './client';
import { answer, asNumber, isOthers } from './decode';
import { ApiError, asApiError, refusal } from './errors';
import { canonical } from './json';
import { Cache, Slots } from './slots';

const BODY = {
  data: { metrics: { lb: [{ game: 'ddz', plays: 3 }, { game: { others: 4 }, plays: '12345678901234567890' }] }, bounds: { plays: { first: '2026-01-01T00:00:00Z', last: null, lag: 5 } } },
  vars: {},
  errors: [{ code: 'timeout', reason: 'took too long', path: ['metrics', 'slow'] }],
  meta: { snapshot: 7, metrics: { lb: { from: 'a', to: 'b', tz: 'UTC', columns: [{ name: 'plays', type: 'bigint', approximate: true }], buckets: [], others: 4, truncated: true, next: 'n', ms: 3 } } },
};

describe('an answer', () => {
  it('is read by the names of its branches', () => {
    const read = answer(BODY);
    expect(read.bounds.get('plays')).toEqual({ first: '2026-01-01T00:00:00Z', last: null, lagMs: 5 });
    expect(read.snapshot).toBe(7);
    const found = read.branches.get('lb');
    expect(found?.rows).toHaveLength(2);
    expect(isOthers(found?.rows[1]?.['game'])).toBe(true);
    expect(found?.meta).toMatchObject({ truncated: true, others: 4, next: 'n' });
    expect(read.branches.get('slow')?.problem?.code).toBe('timeout');
  });

  it('is not trusted', () => {
    for (const body of [null, 1, [], {}, { data: 1, meta: 'x', errors: {} }]) expect(() => answer(body)).not.toThrow();
    expect(asNumber('NaN')).toBeNull();
    expect(asNumber('12.5')).toBe(12.5);
  });
});

describe('a refusal', () => {
  it('has its code, reason and path', async () => {
    const response = new Response(JSON.stringify({ errors: [{ code: 'unknown-key', reason: 'unknown key', path: ['metrics', 'x'] }] }), { status: 422 });
    expect(await refusal(response)).toMatchObject({ status: 422, code: 'unknown-key', problems: [{ path: ['metrics', 'x'] }] });
  });

  it('says when to come again', async () => {
    const response = new Response('{"error":{"code":"53300","message":"wait","hint":"h"}}', { status: 429, headers: { 'retry-after': '20' } });
    expect(await refusal(response)).toMatchObject({ retryAfter: 20, hint: 'h', message: 'wait' });
  });

  it('is told when nobody answers', async () => {
    vi.stubGlobal('fetch', () => Promise.reject(new TypeError('failed')));
    await expect(pull({}).catch((error: unknown) => Promise.reject(asApiError(error)))).rejects.toBeInstanceOf(ApiError);
    vi.unstubAllGlobals();
  });
});

describe('slots', () => {
  it('drop what came late', async () => {
    const slots = new Slots();
    let first: (value: string) => void = () => undefined;
    const late = slots.latest('a', () => new Promise<string>((resolve) => { first = resolve; }));
    const now = slots.latest('a', async () => 'second');
    first('first');
    expect(await late).toBeUndefined();
    expect(await now).toBe('second');
  });

  it('abort what is not wanted any more, in silence', async () => {
    const slots = new Slots();
    const aborted = slots.latest('a', (signal) => new Promise<string>((_, reject) => { signal.addEventListener('abort', () => reject(new DOMException('', 'AbortError'))); }));
    slots.abort('a');
    expect(await aborted).toBeUndefined();
  });

  it('tell failures of the newest', async () => {
    await expect(new Slots().latest('a', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  });
});

describe('kept answers', () => {
  it('are those used last', () => {
    const cache = new Cache<number>(2, 100);
    cache.set('a', 1, 10);
    cache.set('b', 2, 10);
    cache.get('a');
    cache.set('c', 3, 10);
    expect([cache.get('a'), cache.get('b'), cache.get('c')]).toEqual([1, undefined, 3]);
    cache.set('d', 4, 95);
    expect(cache.get('c')).toBeUndefined();
    cache.set('e', 5, 101);
    expect(cache.get('e')).toBeUndefined();
  });

  it('have the same key whatever the order of keys', () => {
    expect(canonical({ b: [1, { d: null, c: 2 }], a: 'x' })).toBe(canonical({ a: 'x', b: [1, { c: 2, d: null }] }));
  });
});
