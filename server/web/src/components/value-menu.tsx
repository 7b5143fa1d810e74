/** The menu of a value, where the pointer is: what a click and its twins with keys do, in words. */
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { Item } from './popover';
import './popover.css';

/** A line of the menu. */
export interface Choice {
  title: string;
  act: () => void;
}

interface Properties {
  title: string;
  x: number;
  y: number;
  choices: readonly Choice[];
  onClose: () => void;
}

/** See the module. */
export function ValueMenu({ title, x, y, choices, onClose }: Properties) {
  const panel = useRef<HTMLDivElement>(null);
  const opener = useRef(document.activeElement);
  useLayoutEffect(() => {
    const shown = panel.current;
    if (!shown) return;
    const box = shown.getBoundingClientRect();
    shown.style.left = `${Math.max(8, Math.min(x, innerWidth - box.width - 8))}px`;
    shown.style.top = `${Math.max(8, Math.min(y, innerHeight - box.height - 8))}px`;
    shown.querySelector('button')?.focus();
  }, [x, y]);
  useEffect(() => {
    const outside = (event: PointerEvent): void => {
      if (event.target instanceof Node && !panel.current?.contains(event.target)) onClose();
    };
    document.addEventListener('pointerdown', outside);
    return () => document.removeEventListener('pointerdown', outside);
  }, []);
  const onKeyDown = (event: KeyboardEvent): void => {
    const by = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
    if (event.key === 'Escape') {
      event.stopPropagation();
      onClose();
      if (opener.current instanceof HTMLElement) opener.current.focus();
    } else if (by !== 0) {
      event.preventDefault();
      const all = [...(panel.current?.querySelectorAll('button') ?? [])];
      all[(all.indexOf(document.activeElement as HTMLButtonElement) + by + all.length) % all.length]?.focus();
    }
  };
  return (
    <div class="panel at-pointer" ref={panel} role="dialog" aria-label={title} onKeyDown={onKeyDown}>
      <h3>{title}</h3>
      {choices.map((choice) => <Item key={choice.title} onPick={() => { choice.act(); onClose(); }}>{choice.title}</Item>)}
    </div>
  );
}
