/** A button with a panel below it. */
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useLayoutEffect, useRef, useState } from 'preact/hooks';
import './popover.css';

interface Properties {
  label: ComponentChildren;
  /** What the button does, where its label does not say it. */
  title?: string;
  class?: string;
  /** Whether the panel begins at the button's right end. */
  alignRight?: boolean;
  /** The label is an icon alone: the title names it. */
  isIcon?: boolean;
  /** Opened by a key, too. */
  shortcut?: string;
  children: (close: () => void) => ComponentChildren;
}

const FOCUSABLE = 'button:not(:disabled), input, select, a[href], textarea';

function step(panel: HTMLElement, by: number): void {
  const items = [...panel.querySelectorAll<HTMLElement>(FOCUSABLE)];
  const at = items.indexOf(document.activeElement as HTMLElement);
  items[(at + by + items.length) % items.length]?.focus();
}

/** See the module. */
export function Popover({ label, title, class: classes = 'button', alignRight = false, isIcon = false, shortcut, children }: Properties) {
  const [isOpen, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const panel = useRef<HTMLDivElement>(null);
  const id = useId();

  const close = (): void => {
    setOpen(false);
    button.current?.focus();
  };

  useEffect(() => {
    if (!isOpen) return;
    const outside = (event: PointerEvent): void => {
      if (event.target instanceof Node && !root.current?.contains(event.target)) setOpen(false);
    };
    document.addEventListener('pointerdown', outside);
    return () => document.removeEventListener('pointerdown', outside);
  }, [isOpen]);

  useLayoutEffect(() => {
    const shown = panel.current;
    if (!isOpen || !shown) return;
    // Moved back in where it would leave the window.
    const over = shown.getBoundingClientRect().right - document.documentElement.clientWidth + 8;
    if (over > 0 && !alignRight) shown.style.left = `${-over}px`;
    shown.querySelector<HTMLElement>('[data-first], input, [aria-checked="true"], button')?.focus({ preventScroll: true });
  }, [isOpen, alignRight]);

  const onKeyDown = (event: KeyboardEvent): void => {
    if (!isOpen) return;
    if (event.key === 'Escape') {
      event.stopPropagation();
      close();
    } else if ((event.key === 'ArrowDown' || event.key === 'ArrowUp') && panel.current && !(event.target instanceof HTMLSelectElement)) {
      event.preventDefault();
      step(panel.current, event.key === 'ArrowDown' ? 1 : -1);
    }
  };

  return (
    <div class="popover" ref={root} onKeyDown={onKeyDown}>
      <button
        ref={button}
        type="button"
        class={classes}
        title={title}
        aria-label={isIcon ? title : undefined}
        aria-haspopup="dialog"
        aria-expanded={isOpen}
        aria-controls={isOpen ? id : undefined}
        data-shortcut={shortcut}
        onClick={() => setOpen(!isOpen)}
      >
        {label}
      </button>
      {isOpen && (
        <div class={`panel${alignRight ? ' right' : ''}`} id={id} ref={panel} role="dialog" aria-label={title ?? (typeof label === 'string' ? label : 'Menu')}>
          {children(close)}
        </div>
      )}
    </div>
  );
}

interface ItemProperties {
  children: ComponentChildren;
  onPick: () => void;
  isChosen?: boolean;
  disabled?: boolean;
  hint?: string;
}

/** A line of a menu. */
export function Item({ children, onPick, isChosen, disabled, hint }: ItemProperties) {
  return (
    <button type="button" class="item" aria-pressed={isChosen} disabled={disabled} title={hint} onClick={onPick}>
      <span class="item-text">{children}</span>
      {isChosen && <span class="item-mark">✓</span>}
    </button>
  );
}
