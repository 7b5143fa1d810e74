/** The keys of Explore. */
import { shifted } from '../../state/range';
import { hasKeys } from '../../state/settings';
import type { Mode } from '../../state/view';
import { resolved } from './range-picker';
import type { Explore } from './store';

const MODES: { readonly [key: string]: Mode } = { 1: 'overview', 2: 'chart', 3: 'table' };

/** Whether somebody types. */
export function isTyping(event: KeyboardEvent): boolean {
  // What is within a shadow root is not the event's target outside of it.
  const [target] = event.composedPath();
  return target instanceof HTMLElement && (target.isContentEditable || /^(input|textarea|select)$/i.test(target.tagName));
}

function press(name: string): void {
  document.querySelector<HTMLElement>(`[data-shortcut="${name}"]`)?.click();
}

function act(explore: Explore, key: string): boolean {
  const mode = MODES[key];
  if (mode) explore.dispatch({ do: 'mode', mode });
  else if (key === '[' || key === ']') {
    const ends = resolved(explore);
    if (ends) explore.dispatch({ do: 'range', range: shifted(ends.from, ends.to, key === ']' ? 1 : -1) });
  } else if (key === 'r') explore.dispatch({ do: 'records', open: !explore.view.peek().records });
  else if (key === '/') document.getElementById('find-field')?.focus();
  else if (key === 'Z') {
    const { brush } = explore.view.peek();
    if (!brush) return false;
    explore.dispatch({ do: 'range', range: { kind: 'fixed', from: brush.from.slice(0, 16), to: brush.to.slice(0, 16) } });
  } else if (['t', 'c', 'f', 's'].includes(key)) press(key);
  else return false;
  return true;
}

/** Listens until the returned function is called. */
export function onKeys(explore: Explore): () => void {
  let isGoing = false;
  const listener = (event: KeyboardEvent): void => {
    if (!hasKeys.value || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || isTyping(event)) return;
    // `g e` and the like go to places: those letters are not ours.
    if (isGoing) {
      isGoing = false;
      return;
    }
    if (event.key === 'g') isGoing = true;
    else if (event.key === 'Escape' && explore.view.peek().brush) explore.dispatch({ do: 'brush', brush: null });
    else if (act(explore, event.key)) event.preventDefault();
  };
  addEventListener('keydown', listener);
  return () => removeEventListener('keydown', listener);
}
