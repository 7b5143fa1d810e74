/** One dashboard: the controls that its tiles share, its grid, and editing with a draft. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { asApiError } from '../../api/errors';
import { Icon } from '../../components/icon';
import { ErrorNote, Note } from '../../components/notes';
import { Prompt } from '../../components/prompt';
import { Item, Popover } from '../../components/popover';
import { copy, save as saveFile } from '../../components/save';
import { say } from '../../components/toast';
import { durationText } from '../../format/time';
import { bottom, merge, newId, readBoard, settled, tileOf, writeBoard, type Board, type Tile } from '../../state/board';
import { browserZone, defaultView } from '../../state/defaults';
import type { Table } from '../../state/schema';
import { bounds, tables } from '../../state/session';
import { keep, kept } from '../../state/settings';
import { isTyping } from '../explore/keys';
import { AddFilter, ComparisonPicker, Pill, ZonePicker } from '../explore/controls';
import { RangePicker } from '../explore/range-picker';
import { Grid } from './grid';
import { Conflict, type Storage, type Stored } from './storage';
import { openBoard } from './store';

const REFRESHES: readonly { seconds: number; title: string }[] = [
  { seconds: 0, title: 'Off' }, { seconds: 5, title: '5 s' }, { seconds: 15, title: '15 s' }, { seconds: 60, title: '1 min' }, { seconds: 300, title: '5 min' },
];

/** Asks again every so often, but not while nobody looks. */
function useRefresh(seconds: number, refresh: () => void): void {
  useEffect(() => {
    if (seconds === 0) return;
    const timer = setInterval(() => { if (!document.hidden) refresh(); }, seconds * 1000);
    const seen = (): void => { if (!document.hidden) refresh(); };
    document.addEventListener('visibilitychange', seen);
    return () => {
      clearInterval(timer);
      document.removeEventListener('visibilitychange', seen);
    };
  }, [seconds, refresh]);
}

/** A board's draft survives a reload. */
const draftKey = (key: string): string => `otus.draft.${key}`;

function same(a: Board, b: Board): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function AddTile({ onAdd }: { onAdd: (tile: Omit<Tile, 'x' | 'y'>) => void }) {
  const view = (table: Table) => defaultView(table, bounds.peek().of.get(table.name), browserZone());
  return (
    <Popover label={<><Icon name="plus" />Tile</>} title="Add a tile">
      {(close) => (
        <>
          {tables.value?.flatMap((table) => {
            const defaults = view(table);
            const chart = (): Omit<Tile, 'x' | 'y'> => tileOf(table, defaults, defaults, { x: 0, y: 0 });
            return [
              <h3 key={table.name}>{table.name}</h3>,
              ...table.measures.slice(0, 12).map((measure) => (
                <Item key={`${table.name} ${measure.name}`} onPick={() => { onAdd({ ...tileOf(table, { ...defaults, mode: 'chart', kind: 'total', measures: [measure.name], splits: [] }, defaults, { x: 0, y: 0 }), title: measure.title }); close(); }}>Number: {measure.title}</Item>
              )),
              <Item key={`${table.name} chart`} onPick={() => { onAdd(chart()); close(); }}>Chart</Item>,
              ...table.dimensions.slice(0, 12).map((dimension) => (
                <Item
                  key={`${table.name} ${dimension.name}`}
                  onPick={() => {
                    const split = { dim: dimension.name, limit: 7, by: defaults.measures[0] ?? '', way: 'desc' as const };
                    onAdd({ ...tileOf(table, { ...defaults, mode: 'chart', splits: [split] }, defaults, { x: 0, y: 0 }), kind: 'list', title: `Top ${dimension.title}`, w: 4, h: 7 });
                    close();
                  }}
                >
                  List: {dimension.title}
                </Item>
              )),
            ];
          })}
          <h3>Words</h3>
          <Item onPick={() => { onAdd({ id: newId(), kind: 'text', title: 'Text', table: '', view: 'Words in *Markdown*.', ownRange: false, w: 4, h: 4 }); close(); }}>Text</Item>
        </>
      )}
    </Popover>
  );
}

/** See the module. */
export function BoardPage({ stored, storage, table }: { stored: Stored; storage: Storage; table: Table }) {
  const open = useMemo(() => openBoard(stored.key, stored.board, table), [stored.key, table]);
  useEffect(() => () => open.dispose(), [open]);
  const [base, setBase] = useState<Stored>(stored);
  const [isEditing, setEditing] = useState(false);
  const [conflict, setConflict] = useState<Stored | null>(null);
  const [asking, setAsking] = useState<{ title: string; first: string; isLong: boolean; then: (text: string) => void } | null>(null);
  const [seconds, setSeconds] = useState(0);
  const undo = useRef<Board[]>([]);
  const redo = useRef<Board[]>([]);
  const main = useRef<HTMLElement>(null);
  useRefresh(seconds, open.refresh);
  const board = open.board.value;
  const isChanged = !same(board, base.board);

  const change = (next: Board): void => {
    undo.current.push(open.board.peek());
    redo.current = [];
    open.board.value = next;
    keep(draftKey(stored.key), JSON.stringify(next));
  };
  const step = (from: Board[], to: Board[]): void => {
    const next = from.pop();
    if (!next) return;
    to.push(open.board.peek());
    open.board.value = next;
  };
  const discard = (): void => {
    open.board.value = base.board;
    undo.current = [];
    keep(draftKey(stored.key), null);
    setEditing(false);
    setConflict(null);
  };
  const store = async (next: Board, tag: string | null): Promise<void> => {
    try {
      const now = await storage.write(stored.key, next, tag);
      setBase({ key: stored.key, tag: now, board: next });
      open.board.value = next;
      keep(draftKey(stored.key), null);
      setConflict(null);
      setEditing(false);
      say('Saved');
    } catch (error) {
      if (error instanceof Conflict) setConflict(await storage.read(stored.key));
      else say(asApiError(error).message);
    }
  };

  useEffect(() => {
    const draft = readBoard(kept(draftKey(stored.key)));
    if (draft && !same(draft, stored.board)) {
      open.board.value = draft;
      setEditing(true);
      say('Your draft is back');
    }
  }, [open]);
  useEffect(() => {
    const leaving = (event: BeforeUnloadEvent): void => { if (isChanged && isEditing) event.preventDefault(); };
    addEventListener('beforeunload', leaving);
    return () => removeEventListener('beforeunload', leaving);
  }, [isChanged, isEditing]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (isTyping(event)) return;
      const isCommand = event.ctrlKey || event.metaKey;
      if (isEditing && isCommand && event.key.toLowerCase() === 'z') {
        event.preventDefault();
        if (event.shiftKey) step(redo.current, undo.current);
        else step(undo.current, redo.current);
      } else if (isEditing && isCommand && event.key === 's') {
        event.preventDefault();
        void store(open.board.peek(), base.tag);
      } else if (!isCommand && event.key === 'e') setEditing(true);
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, [isEditing, base, open]);

  const merged = conflict ? merge(base.board, board, conflict.board) : null;
  const age = open.at.value === null ? '' : durationText(Math.max(0, Math.round((Date.now() - open.at.value) / 1000)));
  const rename = (tile: Tile): void => setAsking({
    title: tile.kind === 'text' ? 'Words of the tile' : 'Title of the tile',
    first: tile.kind === 'text' ? tile.view : tile.title,
    isLong: tile.kind === 'text',
    then: (text) => change({ ...open.board.peek(), tiles: open.board.peek().tiles.map((one) => (one.id === tile.id ? { ...one, ...(tile.kind === 'text' ? { view: text } : { title: text }) } : one)) }),
  });

  return (
    <main id="main" class="dashboard" ref={main} aria-busy={open.since.value !== null}>
      <div class="controls" role="toolbar" aria-label="What the tiles share">
        <h1>{board.title}</h1>
        <RangePicker explore={open.head} />
        <ComparisonPicker explore={open.head} />
        <ZonePicker explore={open.head} />
        {open.head.view.value.filters.map((filter) => <Pill key={filter.dim} explore={open.head} filter={filter} />)}
        <AddFilter explore={open.head} />
        <span class="spacer" />
        <Popover alignRight title={`Refresh${age ? `, last ${age} ago` : ''}`} label={<><Icon name="refresh" />{seconds === 0 ? 'Refresh' : REFRESHES.find((one) => one.seconds === seconds)?.title}</>}>
          {(close) => (
            <>
              <Item onPick={() => { open.refresh(); close(); }}>Now</Item>
              {REFRESHES.map((one) => <Item key={one.seconds} isChosen={seconds === one.seconds} onPick={() => { setSeconds(one.seconds); close(); }}>{one.title}</Item>)}
              {seconds > 0 && open.head.view.value.range.kind === 'fixed' && <p class="panel-note">The range is fixed: nothing new can arrive but late events.</p>}
            </>
          )}
        </Popover>
        <Popover alignRight title="Share" label={<><Icon name="share" />Share</>}>
          {(close) => (
            <>
              <Item onPick={() => { void copy(`${location.origin}${open.head.address(open.head.view.peek())}`).then((done) => say(done ? 'Link copied' : 'The link could not be copied')); close(); }}>Copy link{!storage.isShared && <span class="item-note">only this browser has the board</span>}</Item>
              <Item onPick={() => { saveFile(`${stored.key}.json`, 'application/json', JSON.stringify(writeBoard(board), null, 1)); close(); }}>Save as a file</Item>
            </>
          )}
        </Popover>
        <button type="button" class="button icon-only" aria-label="Full screen" title="Full screen" onClick={() => void main.current?.requestFullscreen().catch(() => say('This browser shows nothing in full screen'))}><Icon name="full" /></button>
        {!isEditing && <button type="button" class="button wide-only" title="Edit (e)" onClick={() => setEditing(true)}><Icon name="edit" />Edit</button>}
      </div>
      {isEditing && (
        <div class="edit-bar" role="toolbar" aria-label="Editing">
          <strong>Editing</strong>
          <AddTile onAdd={(tile) => change({ ...board, tiles: settled([...board.tiles, { ...tile, x: 0, y: bottom(board) }], null) })} />
          <button type="button" class="button" onClick={() => setAsking({ title: 'Title of the board', first: board.title, isLong: false, then: (title) => change({ ...board, title }) })}>Rename</button>
          <button type="button" class="button" onClick={() => change({ ...board, view: open.head.address(open.head.view.peek()).split('#')[1] ?? '' })} title="The range, comparison and filters that are shown now become the board’s own">Keep this view</button>
          <button type="button" class="button" disabled={undo.current.length === 0} onClick={() => step(undo.current, redo.current)}>Undo</button>
          <span class="spacer" />
          <button type="button" class="button" onClick={discard}>{isChanged ? 'Discard' : 'Done'}</button>
          <button type="button" class="button primary" disabled={!isChanged} onClick={() => void store(board, base.tag)}>Save</button>
        </div>
      )}
      {conflict && (
        <Note
          kind="warn"
          act={(
            <span class="verbs">
              {merged && <button type="button" class="button small" onClick={() => void store(merged, conflict.tag)}>Merge: no overlap</button>}
              <button type="button" class="button small" onClick={() => void store(board, conflict.tag)}>Save mine over it</button>
              <button type="button" class="button small" onClick={() => { setBase(conflict); open.board.value = conflict.board; keep(draftKey(stored.key), null); setConflict(null); setEditing(false); }}>Take theirs</button>
            </span>
          )}
        >
          Somebody saved this board while you edited it{merged ? '' : ', and changed the same tile'}.
        </Note>
      )}
      {open.error.value && <ErrorNote error={open.error.value} onRetry={open.refresh} />}
      <Grid open={open} isEditing={isEditing} onChange={change} onRename={rename} />
      {asking && <Prompt title={asking.title} first={asking.first} act="Take it" isLong={asking.isLong} onAct={asking.then} onClose={() => setAsking(null)} />}
    </main>
  );
}
