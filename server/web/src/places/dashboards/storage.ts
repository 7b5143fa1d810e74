/** Where dashboards are kept: rows of the keyed table `dashboards`, or this browser where the server has none. */
import { ask } from '../../api/client';
import { ApiError } from '../../api/errors';
import { isObject } from '../../api/json';
import { readBoard, writeBoard, type Board } from '../../state/board';
import { catalogue } from '../../state/catalogue';
import { keep, kept } from '../../state/settings';

/** A stored board: its key, its version, and the board. */
export interface Stored {
  key: string;
  tag: string | null;
  board: Board;
}

/** Somebody else wrote meanwhile. */
export class Conflict extends Error {}

/** A place for boards. */
export interface Storage {
  /** Whether others see them. */
  isShared: boolean;
  list(): Promise<Stored[]>;
  read(key: string): Promise<Stored | null>;
  /** Writes over the version `tag`; a new board has none. The answer is the new version. */
  write(key: string, board: Board, tag: string | null): Promise<string | null>;
  remove(key: string): Promise<void>;
}

const BASE = '/api/tables/dashboards';
const LOCAL = 'otus.dashboards';

async function asked(path: string, init: RequestInit = {}): Promise<Response> {
  try {
    return await ask(path, init);
  } catch (error) {
    if (error instanceof ApiError && (error.status === 409 || error.status === 412)) throw new Conflict();
    throw error;
  }
}

function stored(row: unknown, tag: string | null): Stored | null {
  if (!isObject(row)) return null;
  const board = readBoard(row['board']);
  return board ? { key: String(row['id'] ?? ''), tag, board } : null;
}

function server(isText: boolean): Storage {
  const path = (key: string): string => `${BASE}/${encodeURIComponent(key)}`;
  return {
    isShared: true,
    async list() {
      const found: Stored[] = [];
      let next: string | null = null;
      do {
        const page: unknown = await (await asked(`${BASE}?limit=100${next ? `&cursor=${encodeURIComponent(next)}` : ''}`)).json();
        const rows = isObject(page) && Array.isArray(page['rows']) ? page['rows'] : [];
        found.push(...rows.map((row) => stored(row, null)).filter((one) => one !== null));
        next = isObject(page) && typeof page['next'] === 'string' ? page['next'] : null;
      } while (next !== null);
      return found.sort((a, b) => a.board.title.localeCompare(b.board.title));
    },
    async read(key) {
      try {
        const response = await asked(path(key));
        return stored(await response.json(), response.headers.get('etag'));
      } catch (error) {
        if (error instanceof ApiError && error.status === 404) return null;
        throw error;
      }
    },
    async write(key, board, tag) {
      const json = writeBoard(board);
      const condition: Record<string, string> = tag === null ? { 'if-none-match': '*' } : { 'if-match': tag };
      const response = await asked(path(key), {
        method: 'PUT',
        headers: { 'content-type': 'application/json', ...condition },
        body: JSON.stringify({ title: board.title, board: isText ? JSON.stringify(json) : json }),
      });
      return response.headers.get('etag');
    },
    async remove(key) {
      await asked(`${path(key)}?wait=visible`, { method: 'DELETE' });
    },
  };
}

function remembered(): { [key: string]: unknown } {
  try {
    const found: unknown = JSON.parse(kept(LOCAL) ?? '{}');
    return isObject(found) ? { ...found } : {};
  } catch {
    return {};
  }
}

const browser: Storage = {
  isShared: false,
  async list() {
    return Object.keys(remembered()).map((key) => stored({ id: key, board: remembered()[key] }, 'local')).filter((one) => one !== null);
  },
  async read(key) {
    return stored({ id: key, board: remembered()[key] }, 'local');
  },
  async write(key, board) {
    keep(LOCAL, JSON.stringify({ ...remembered(), [key]: writeBoard(board) }));
    return 'local';
  },
  async remove(key) {
    const { [key]: _, ...others } = remembered();
    keep(LOCAL, JSON.stringify(others));
  },
};

let found: Promise<Storage> | null = null;

async function find(): Promise<Storage> {
  const tables = await catalogue();
  const table = tables.find((one) => one.name === 'dashboards' && one.schema === 'public' && one.kind === 'keyed');
  const column = table?.columns.find((one) => one.name === 'board');
  return column ? server(column.type === 'text') : browser;
}

/** Where this server's dashboards are. */
export function storage(): Promise<Storage> {
  found ??= find().catch((error: unknown) => {
    found = null;
    throw error;
  });
  return found;
}

/** A key for a board of a title: readable, and of its own. */
export function keyOf(title: string, taken: ReadonlySet<string>): string {
  const base = title.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '') || 'board';
  for (let number = 1; ; number += 1) {
    const key = number === 1 ? base : `${base}-${number}`;
    if (!taken.has(key)) return key;
  }
}
