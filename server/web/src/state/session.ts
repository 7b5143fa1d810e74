/** What the server offers, and to whom. */
import { computed, signal } from '@preact/signals';
import { onUnauthorized, pull, pullTree, whoAmI, type Who } from '../api/client';
import type { Bounds } from '../api/decode';
import { asApiError, type ApiError } from '../api/errors';
import { pattern } from '../api/pattern';
import { SCHEMA_PATTERN, tables as decodeTables, type Table } from './schema';

/** Tables of events; none while nobody knows. */
export const tables = signal<readonly Table[] | null>(null);

/** Who is signed in. */
export const who = signal<Who | null>(null);

/** Why the page has no schema. */
export const failure = signal<ApiError | null>(null);

/** First and last events by table, and when that was asked. */
export const bounds = signal<{ at: number; of: ReadonlyMap<string, Bounds> }>({ at: 0, of: new Map() });

/** Whether somebody has to sign in first. */
export const needsSignIn = computed(() => failure.value?.status === 401);

/** Asks for first and last events again. */
export async function refreshBounds(): Promise<void> {
  const names = (tables.value ?? []).map((table) => table.name);
  if (names.length === 0) return;
  const { answer } = await pull(pattern([], names));
  bounds.value = { at: Date.now(), of: answer.bounds };
}

/** Learns what there is to ask for. */
export async function begin(): Promise<void> {
  failure.value = null;
  try {
    const [me, data] = await Promise.all([whoAmI(), pullTree(SCHEMA_PATTERN)]);
    who.value = me;
    const found = decodeTables(data);
    const names = found.map((table) => table.name);
    if (names.length > 0) bounds.value = { at: Date.now(), of: (await pull(pattern([], names))).answer.bounds };
    tables.value = found;
  } catch (error) {
    failure.value = asApiError(error);
  }
}

// The address keeps what was shown, so that it is there again after signing in.
onUnauthorized((error) => {
  failure.value = error;
});
