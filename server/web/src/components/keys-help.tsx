/** The keys of the page: those that go to places, and the list of all. */
import { signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { isTyping } from '../places/explore/keys';
import { navigate } from '../state/route';
import { hasKeys, keep } from '../state/settings';
import './confirm.css';
import './keys-help.css';

const PLACES: { readonly [key: string]: string } = { e: '/explore', d: '/dashboards', s: '/sql', t: '/data' };

const KEYS: readonly (readonly [string, string])[] = [
  ['?', 'this list'], ['g then e, d, s, t', 'Explore, Dashboards, SQL, Data'], ['/', 'find a field'], ['1 2 3', 'overview, chart, table'], ['t  c  f', 'range, comparison, filter'],
  ['[  ]', 'one range earlier, later'], ['r', 'records'], ['s', 'share'], ['← →', 'in a chart: bucket by bucket, with Shift to select'], ['Z', 'zoom to the selection'],
  ['Ctrl-click, Shift-click', 'on a value: add it, leave it out'], ['e', 'edit a dashboard'], ['Enter, then arrows', 'on a tile’s handle: move it, with Shift to size it'],
  ['Ctrl+Enter', 'run SQL'], ['Escape', 'close, or clear the selection'],
];

const isOpen = signal(false);

/** Listens to the keys of all places. */
export function listenToKeys(): void {
  let isGoing = false;
  addEventListener('keydown', (event) => {
    if (!hasKeys.value || event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
    const place = PLACES[event.key];
    if (isGoing && place) navigate(place);
    else if (event.key === '?') isOpen.value = true;
    isGoing = event.key === 'g' && !isGoing;
  });
}

function List() {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  const toggle = (isOn: boolean): void => {
    hasKeys.value = isOn;
    keep('otus.keys', isOn ? null : 'off');
  };
  return (
    <dialog class="confirm" ref={dialog} aria-label="Keys" onClose={() => { isOpen.value = false; }}>
      <h2>Keys</h2>
      <dl class="keys">{KEYS.map(([key, does]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{does}</dd></div>)}</dl>
      <label class="choice"><input type="checkbox" checked={hasKeys.value} onChange={(event) => toggle(event.currentTarget.checked)} />Single letters are commands</label>
      <div class="acts"><button type="button" class="button" onClick={() => dialog.current?.close()}>Close</button></div>
    </dialog>
  );
}

/** See the module. */
export function KeysHelp() {
  return isOpen.value ? <List /> : null;
}
