import { describe, expect, it } from 'vitest';
import { change, compact, full, share } from './number';
import { axisLabel, bucketTitle, durationText, localIn, moved, rangeText, wallClock } from './time';
import { csv, valueText } from './value';

describe('numbers', () => {
  it('are short in tiles', () => {
    expect([0, 7, 999, 1234, 9999, 12_345, 8_421_113, -1500, 0.0108].map((n) => compact(n))).toEqual(['0', '7', '999', '1,234', '9,999', '12.3k', '8.42M', '−1,500', '0.0108']);
    expect(compact(null)).toBe('–');
    expect(compact(91_204.5, { unit: 'USD' })).toBe('$91.2k');
    expect(compact(134, { unit: 's' })).toBe('2 m 14 s');
    expect(compact(1536, { unit: 'bytes' })).toBe('1.5 KiB');
  });

  it('are whole in tables, whatever their length', () => {
    expect(full('12345678901234567890')).toBe('12,345,678,901,234,567,890');
    expect(full('1234.5', { format: '0,0.00', unit: 'USD' })).toBe('$1,234.50');
    expect(full(0.25, { format: '0%' })).toBe('25.0%');
  });

  it('are compared in words', () => {
    expect(change(106, 100, 0.06)).toMatchObject({ way: 'up', text: '+6.0%' });
    expect(change(94, 100, -0.06)).toMatchObject({ way: 'down', text: '−6.0%' });
    expect(change(5, 0, null).text).toBe('new');
    expect(change(124, 10, 11.4).text).toBe('×12.4');
    expect(change(null, null, null).text).toBe('–');
    expect(share(1, 3)).toBe('33.3%');
  });
});

describe('times', () => {
  it('are read in the zone of the answer', () => {
    expect(axisLabel('2026-11-16T00:00:00+08:00', 'hour')).toBe('Mon 16 Nov');
    expect(axisLabel('2026-11-16T06:00:00+05:30', 'hour')).toBe('06:00');
    expect(axisLabel('2026-01-01T00:00:00Z', 'month')).toBe('2026');
    expect(axisLabel('2026-10-01T00:00:00Z', 'quarter')).toBe('Q4 26');
    expect(bucketTitle('2026-11-16T00:00:00Z', '2026-11-23T00:00:00Z', 'week')).toBe('16 Nov – 22 Nov 2026');
    expect(bucketTitle('2026-10-25T02:00:00+01:00', '2026-10-25T03:00:00+01:00', 'hour', true)).toBe('Sun 25 Oct 02:00–03:00 GMT+01:00');
  });

  it('of ranges are half-open', () => {
    expect(rangeText('2026-11-15T00:00:00+08:00', '2026-11-22T00:00:00+08:00')).toBe('15–21 Nov 2026');
    expect(rangeText('2015-09-12', '2015-09-13')).toBe('Sat 12 Sep 2015');
    expect(rangeText('2026-11-20T14:00', '2026-11-20T15:00')).toBe('Fri 20 Nov 2026 14:00–15:00');
  });

  it('move by the clock on the wall', () => {
    expect(moved('2026-10-25', 86_400_000)).toBe('2026-10-26');
    expect(wallClock('2026-11-20T14:30:00+08:00')).toBe('2026-11-20T14:30');
    expect(localIn('2026-11-20T23:30:00Z', 'Asia/Kolkata')).toBe('2026-11-21T05:00:00');
    expect(durationText(90_061)).toBe('1 d 1 h');
  });
});

describe('values', () => {
  it('tell null from empty', () => {
    expect([null, '', 'a', true, { others: 43 }].map((v) => valueText(v).text)).toEqual(['(null)', '(empty)', 'a', 'true', '43 others']);
  });

  it('do not become formulas', () => {
    expect(csv(['a'], [['=1+1'], ['-5'], [-5], ['@x'], ['+a,b'], ['plain "q"'], [null]])).toBe('a\r\n\'=1+1\r\n-5\r\n-5\r\n\'@x\r\n"\'+a,b"\r\n"plain ""q"""\r\n\r\n');
  });
});
