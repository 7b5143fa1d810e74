/** The list of dashboards, and the one that an address names. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { asApiError, type ApiError } from '../../api/errors';
import { Confirm } from '../../components/confirm';
import { Icon } from '../../components/icon';
import { Empty, ErrorNote, Note } from '../../components/notes';
import { say } from '../../components/toast';
import { readBoard, template, type Board } from '../../state/board';
import { browserZone } from '../../state/defaults';
import { navigate, parts, route } from '../../state/route';
import { bounds, tables } from '../../state/session';
import { BoardPage } from './board';
import { keyOf, storage as findStorage, type Storage, type Stored } from './storage';
import './dashboards.css';
import '../explore/explore.css';
import '../explore/charts.css';

function address(key: string): string {
  return `/dashboards/${encodeURIComponent(key)}`;
}

function List({ storage, all, again }: { storage: Storage; all: readonly Stored[]; again: () => void }) {
  const file = useRef<HTMLInputElement>(null);
  const [leaving, setLeaving] = useState<Stored | null>(null);

  const create = async (board: Board): Promise<void> => {
    try {
      const key = keyOf(board.title, new Set(all.map((one) => one.key)));
      await storage.write(key, board, null);
      navigate(address(key));
    } catch (error) {
      say(asApiError(error).message);
    }
  };
  const take = async (input: HTMLInputElement): Promise<void> => {
    const text = await input.files?.[0]?.text();
    input.value = '';
    const board = text === undefined ? null : readBoard(text);
    if (board) await create(board);
    else if (text !== undefined) say('The file is no dashboard');
  };
  const remove = (one: Stored): void => {
    storage.remove(one.key).then(again).catch((error: unknown) => say(asApiError(error).message));
  };

  return (
    <main id="main" class="boards-list">
      <div class="verbs">
        <h1>Dashboards</h1>
        <span class="spacer" />
        <input ref={file} type="file" accept="application/json" class="sr" tabIndex={-1} aria-label="File of a dashboard" onChange={(event) => void take(event.currentTarget)} />
        <button type="button" class="button" onClick={() => file.current?.click()}><Icon name="download" />Import</button>
      </div>
      {!storage.isShared && <Note kind="plain">This server has no keyed table <code>dashboards</code>: boards are kept in this browser alone.</Note>}
      {all.length > 0 && (
        <ul class="tile">
          {all.map((one) => (
            <li key={one.key}>
              <a href={address(one.key)}>{one.board.title}</a>
              <span class="muted">{one.board.tiles.length} tiles</span>
              <span class="spacer" />
              <button type="button" class="button plain small" aria-label={`Delete ${one.board.title}`} title="Delete" onClick={() => setLeaving(one)}><Icon name="trash" /></button>
            </li>
          ))}
        </ul>
      )}
      <section class="templates" aria-label="Begin with">
        {all.length === 0 ? <h2>No dashboard yet. Begin with one of these</h2> : <h2>Begin another</h2>}
        <div class="verbs">
          {tables.value?.map((table) => (
            <button key={table.name} type="button" class="button" onClick={() => void create(template(table, bounds.peek().of.get(table.name), browserZone()))}><Icon name="plus" />Overview of {table.name}</button>
          ))}
          <button type="button" class="button" onClick={() => void create({ title: 'New board', view: '', tiles: [] })}><Icon name="plus" />Empty board</button>
        </div>
      </section>
      {leaving && <Confirm title={`Delete ${leaving.board.title}?`} act="Delete" onAct={() => remove(leaving)} onClose={() => setLeaving(null)}>{storage.isShared ? 'It goes for everybody.' : 'It goes from this browser.'}</Confirm>}
    </main>
  );
}

/** See the module. */
export function DashboardsPlace() {
  const [, key] = parts(route.value.path);
  const [state, setState] = useState<{ storage: Storage; all: readonly Stored[]; one: Stored | null; of: string | undefined } | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [round, setRound] = useState(0);
  const all = tables.value;

  useEffect(() => {
    let isGone = false;
    const load = async (): Promise<void> => {
      const storage = await findStorage();
      const one = key === undefined ? null : await storage.read(key);
      const list = key === undefined ? await storage.list() : [];
      if (!isGone) setState({ storage, all: list, one, of: key });
    };
    setError(null);
    load().catch((failed: unknown) => { if (!isGone) setError(asApiError(failed)); });
    return () => { isGone = true; };
  }, [key, round]);

  const again = (): void => setRound((now) => now + 1);
  if (error) return <main id="main"><ErrorNote error={error} onRetry={again} /></main>;
  if (!state || state.of !== key || !all) return <main id="main" aria-busy="true" />;
  if (key === undefined) return <List storage={state.storage} all={state.all} again={again} />;
  const table = all.find((one) => state.one?.board.tiles.some((tile) => tile.table === one.name)) ?? all[0];
  if (!state.one || !table) {
    return (
      <main id="main">
        <Empty title={state.one ? 'There is no table to ask' : `There is no dashboard ${key}`}>
          <p>It may have been deleted, or be in another browser.</p>
          <div class="acts"><a class="button" href="/dashboards">All dashboards</a></div>
        </Empty>
      </main>
    );
  }
  return <BoardPage key={key} stored={state.one} storage={state.storage} table={table} />;
}
