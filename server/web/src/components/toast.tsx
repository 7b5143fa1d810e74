/** A short message that goes by itself, and is read aloud. */
import { signal } from '@preact/signals';
import './toast.css';

const message = signal('');
const SHOWN_MS = 4000;
let timer: ReturnType<typeof setTimeout> | undefined;

/** Says something. */
export function say(text: string): void {
  message.value = text;
  clearTimeout(timer);
  timer = setTimeout(() => { message.value = ''; }, SHOWN_MS);
}

/** Where it is said. */
export function Toast() {
  return <div class={`toast${message.value ? ' shown' : ''}`} role="status" aria-live="polite">{message.value}</div>;
}
