/** What a person prefers, kept by the browser. */
import { effect, signal } from '@preact/signals';

export type Theme = 'light' | 'dark';

const asked = matchMedia('(prefers-color-scheme: dark)');

function kept(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** Keeps a text under a key; without room or leave it is forgotten. */
export function keep(key: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch {
    // What cannot be kept is asked again next time.
  }
}

export { kept };

function themeAtFirst(): Theme {
  const chosen = kept('otus.theme');
  if (chosen === 'light' || chosen === 'dark') return chosen;
  return asked.matches ? 'dark' : 'light';
}

/** The theme that is shown. */
export const theme = signal<Theme>(themeAtFirst());

/** Whether single letters are commands. */
export const hasKeys = signal(kept('otus.keys') !== 'off');

effect(() => {
  document.documentElement.dataset['theme'] = theme.value;
});

asked.addEventListener('change', () => {
  if (kept('otus.theme') === null) theme.value = themeAtFirst();
});

/** Light becomes dark, and stays so. */
export function toggleTheme(): void {
  theme.value = theme.value === 'dark' ? 'light' : 'dark';
  keep('otus.theme', theme.value);
}
