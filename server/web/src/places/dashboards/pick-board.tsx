/** The boards that a tile may go to, and a new one. */
import { useEffect, useState } from 'preact/hooks';
import { asApiError } from '../../api/errors';
import { Item } from '../../components/popover';
import { say } from '../../components/toast';
import { bottom, settled, type Board, type Tile } from '../../state/board';
import { keyOf, storage, type Stored } from './storage';

interface Properties {
  /** The tile, below all that a board has. */
  make: (y: number) => Tile;
  /** A board to begin with, without tiles. */
  fresh: () => Board;
  onDone: () => void;
}

/** See the module. */
export function PickBoard({ make, fresh, onDone }: Properties) {
  const [all, setAll] = useState<readonly Stored[] | null>(null);
  useEffect(() => {
    storage().then((place) => place.list()).then(setAll).catch((error: unknown) => say(asApiError(error).message));
  }, []);
  const onto = async (one: Stored): Promise<void> => {
    const place = await storage();
    // The version that is there now: the list does not know it.
    const now = await place.read(one.key);
    if (!now) throw new Error('The board is not there any more');
    await place.write(one.key, { ...now.board, tiles: settled([...now.board.tiles, make(bottom(now.board))], null) }, now.tag);
    say(`Added to ${now.board.title}`);
  };
  const begin = async (): Promise<void> => {
    const place = await storage();
    const empty = fresh();
    const key = keyOf(empty.title, new Set((all ?? []).map((one) => one.key)));
    await place.write(key, { ...empty, tiles: [make(0)] }, null);
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
      <Item onPick={run(begin)}>A new board</Item>
    </>
  );
}
