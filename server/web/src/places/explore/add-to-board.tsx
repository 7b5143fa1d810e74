/** Puts what is shown on a dashboard. */
import { useEffect, useState } from 'preact/hooks';
import { asApiError } from '../../api/errors';
import { Icon } from '../../components/icon';
import { Item, Popover } from '../../components/popover';
import { say } from '../../components/toast';
import { bottom, settled, template, tileOf, type Board } from '../../state/board';
import { browserZone, defaultView } from '../../state/defaults';
import { keyOf, storage, type Stored } from '../dashboards/storage';
import { fieldTitle } from '../../state/schema';
import type { Explore } from './store';

function Boards({ explore, onDone }: { explore: Explore; onDone: () => void }) {
  const [all, setAll] = useState<readonly Stored[] | null>(null);
  useEffect(() => {
    storage().then((place) => place.list()).then(setAll).catch((error: unknown) => say(asApiError(error).message));
  }, []);
  const { table } = explore;
  const asked = explore.asked();
  const defaults = defaultView(table, asked.bounds, browserZone());
  const tile = (board: Board) => tileOf(table, explore.view.peek(), defaults, { x: 0, y: bottom(board) });

  const onto = async (one: Stored): Promise<void> => {
    const place = await storage();
    // The version that is there now: the list does not know it.
    const now = await place.read(one.key);
    if (!now) throw new Error('The board is not there any more');
    await place.write(one.key, { ...now.board, tiles: settled([...now.board.tiles, tile(now.board)], null) }, now.tag);
    say(`Added to ${now.board.title}`);
  };
  const fresh = async (): Promise<void> => {
    const place = await storage();
    const empty = { ...template(table, asked.bounds, browserZone()), title: `${fieldTitle(table, explore.view.peek().measures[0] ?? '')} of ${table.name}`, tiles: [] };
    const key = keyOf(empty.title, new Set((all ?? []).map((one) => one.key)));
    await place.write(key, { ...empty, tiles: settled([tile(empty)], null) }, null);
    say(`Added to ${empty.title}`);
  };
  const run = (act: () => Promise<void>) => (): void => {
    act().catch((error: unknown) => say(asApiError(error).message));
    onDone();
  };

  if (!all) return <p class="panel-note">Reading…</p>;
  return (
    <>
      {all.map((one) => <Item key={one.key} onPick={run(() => onto(one))}>{one.board.title}</Item>)}
      <Item onPick={run(fresh)}>A new board</Item>
    </>
  );
}

/** See the module. */
export function AddToBoard({ explore }: { explore: Explore }) {
  return (
    <Popover alignRight title="Add to dashboard" label={<><Icon name="plus" />Add to dashboard</>}>
      {(close) => <Boards explore={explore} onDone={close} />}
    </Popover>
  );
}
