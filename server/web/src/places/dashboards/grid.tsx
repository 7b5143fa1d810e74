/** The tiles of a dashboard in their grid; while it is edited they move by pointer and by keys. */
import { useRef, useState } from 'preact/hooks';
import { say } from '../../components/toast';
import { Icon } from '../../components/icon';
import { changed, COLUMNS, newId, settled, type Board, type Tile } from '../../state/board';
import type { OpenBoard } from './store';
import { TileView, type Editing } from './tile';

const ROW = 40;
const GAP = 12;

interface Properties {
  open: OpenBoard;
  isEditing: boolean;
  onChange: (board: Board) => void;
  onRename: (tile: Tile) => void;
}

const ARROWS: { readonly [key: string]: readonly [number, number] } = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** See the module. */
export function Grid({ open, isEditing, onChange, onRename }: Properties) {
  const place = useRef<HTMLDivElement>(null);
  const [grabbed, setGrabbed] = useState<{ id: string; before: Board } | null>(null);
  const board = open.board.value;
  const tiles = [...board.tiles].sort((a, b) => a.y - b.y || a.x - b.x);

  const change = (id: string, next: Partial<Tile>): void => onChange(changed(open.board.peek(), id, next));

  const drag = (tile: Tile, what: 'move' | 'size') => (event: PointerEvent): void => {
    if (event.button !== 0 || !place.current) return;
    event.preventDefault();
    const column = (place.current.clientWidth + GAP) / COLUMNS;
    const start = { x: event.clientX, y: event.clientY };
    const target = event.currentTarget as HTMLElement;
    target.setPointerCapture(event.pointerId);
    const move = (to: PointerEvent): void => {
      const [dx, dy] = [Math.round((to.clientX - start.x) / column), Math.round((to.clientY - start.y) / (ROW + GAP))];
      const next = what === 'move' ? { x: tile.x + dx, y: Math.max(0, tile.y + dy) } : { w: tile.w + dx, h: tile.h + dy };
      change(tile.id, next);
    };
    const end = (): void => {
      target.removeEventListener('pointermove', move);
      target.removeEventListener('pointerup', end);
      target.removeEventListener('pointercancel', end);
    };
    target.addEventListener('pointermove', move);
    target.addEventListener('pointerup', end);
    target.addEventListener('pointercancel', end);
  };

  const onKeyDown = (tile: Tile) => (event: KeyboardEvent): void => {
    const isGrabbed = grabbed?.id === tile.id;
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      setGrabbed(isGrabbed ? null : { id: tile.id, before: open.board.peek() });
      say(isGrabbed ? `${tile.title} put down` : `${tile.title} grabbed: arrows move, Shift and arrows size, Escape gives up`);
    } else if (event.key === 'Escape' && isGrabbed) {
      event.stopPropagation();
      onChange(grabbed.before);
      setGrabbed(null);
    } else if (isGrabbed && ARROWS[event.key]) {
      event.preventDefault();
      const [dx, dy] = ARROWS[event.key] ?? [0, 0];
      if (event.shiftKey) change(tile.id, { w: tile.w + dx, h: tile.h + dy });
      else change(tile.id, { x: tile.x + dx, y: Math.max(0, tile.y + (dy > 0 ? tile.h : dy)) });
      const now = open.board.peek().tiles.find((one) => one.id === tile.id);
      if (now) say(`Column ${now.x + 1}, row ${now.y + 1}, ${now.w} wide, ${now.h} high`);
    }
  };

  const editing = (tile: Tile): Editing => ({
    onChange: (next) => change(tile.id, next),
    onDuplicate: () => {
      const twin = { ...tile, id: newId(), title: `${tile.title} (copy)`, y: tile.y + tile.h };
      onChange({ ...open.board.peek(), tiles: settled([...open.board.peek().tiles, twin], null) });
    },
    onDelete: () => onChange({ ...open.board.peek(), tiles: settled(open.board.peek().tiles.filter((one) => one.id !== tile.id), null) }),
    onRename: () => onRename(tile),
  });

  return (
    <div class={`board-grid${isEditing ? ' editing' : ''}`} ref={place}>
      {tiles.map((tile) => (
        <section
          key={tile.id}
          class={`tile board-tile kind-${tile.kind}${grabbed?.id === tile.id ? ' grabbed' : ''}`}
          aria-label={tile.title}
          style={{ gridColumn: `${tile.x + 1} / span ${tile.w}`, gridRow: `${tile.y + 1} / span ${tile.h}` }}
        >
          <TileView
            open={open}
            tile={tile}
            editing={isEditing ? editing(tile) : null}
            handle={isEditing && (
              <button type="button" class="grab" aria-label={`Move ${tile.title}`} aria-pressed={grabbed?.id === tile.id} onPointerDown={drag(tile, 'move')} onKeyDown={onKeyDown(tile)}>⠿</button>
            )}
          />
          {isEditing && <span class="resize" aria-hidden="true" onPointerDown={drag(tile, 'size')}><Icon name="full" /></span>}
        </section>
      ))}
    </div>
  );
}
