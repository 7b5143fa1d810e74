import { describe, expect, it } from 'vitest';
import { changed, merge, readBoard, settled, type Board, type Tile } from './board';

const tile = (id: string, x: number, y: number, w = 4, h = 4): Tile => ({ id, kind: 'chart', title: id, x, y, w, h, table: 't', view: '', ownRange: false });
const board = (...tiles: Tile[]): Board => ({ title: 'b', view: '', tiles });

describe('tiles', () => {
  it('never overlap, and leave no rows empty', () => {
    const found = changed(board(tile('a', 0, 0), tile('b', 4, 0), tile('c', 0, 4)), 'b', { x: 0 });
    expect(found.tiles.map(({ id, x, y }) => [id, x, y])).toEqual([['b', 0, 0], ['a', 0, 4], ['c', 0, 8]]);
    expect(settled([tile('a', 0, 9)], null)[0]?.y).toBe(0);
  });

  it('stay within twelve columns', () => {
    const found = changed(board(tile('a', 0, 0)), 'a', { x: 11, w: 5 }).tiles[0];
    expect([found?.x, found?.w]).toEqual([7, 5]);
  });
});

describe('a stored board', () => {
  it('is not trusted', () => {
    expect(readBoard('{')).toBeNull();
    expect(readBoard([])).toBeNull();
    const read = readBoard({ title: 3, tiles: [null, { kind: 'script' }, { kind: 'text', x: 'q', w: 99, h: -1, view: '<script>' }] });
    expect(read?.title).toBe('Untitled');
    expect(read?.tiles).toEqual([{ id: 'tile-2', kind: 'text', title: '', x: 0, y: 0, w: 12, h: 2, table: '', view: '<script>', ownRange: false }]);
  });
});

describe('two changes of one board', () => {
  const base = board(tile('a', 0, 0), tile('b', 4, 0));
  it('merge if no tile was touched twice', () => {
    const mine = changed(base, 'a', { title: 'mine' });
    const theirs = { ...base, tiles: [...base.tiles, tile('c', 8, 0)] };
    expect(merge(base, mine, theirs)?.tiles.map((one) => one.title).sort()).toEqual(['b', 'c', 'mine']);
  });
  it('do not if one was', () => {
    expect(merge(base, changed(base, 'a', { title: 'mine' }), changed(base, 'a', { title: 'theirs' }))).toBeNull();
  });
  it('keep what one of them deleted deleted', () => {
    expect(merge(base, base, board(tile('a', 0, 0)))?.tiles.map((one) => one.id)).toEqual(['a']);
  });
});
