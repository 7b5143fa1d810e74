/** The state of Explore: the view of the address, and the answers to it. */
import { batch, effect, signal, type ReadonlySignal, type Signal } from '@preact/signals';
import { pull } from '../../api/client';
import type { Answer, Bounds, BranchAnswer } from '../../api/decode';
import { asApiError, type ApiError } from '../../api/errors';
import { canonical } from '../../api/json';
import { pattern, type Branch } from '../../api/pattern';
import { Cache, Slots } from '../../api/slots';
import { defaultView, repaired } from '../../state/defaults';
import { boardName, branches, type Asked } from '../../state/plan';
import { navigate, route } from '../../state/route';
import type { Table } from '../../state/schema';
import { bounds as allBounds } from '../../state/session';
import { parse, print, type Parsed } from '../../state/url';
import { isStep, reduce, type Action, type View } from '../../state/view';

/** What is on the screen: answers and the view that they belong to. */
export interface Shown {
  view: View;
  branches: ReadonlyMap<string, BranchAnswer>;
  snapshot: number | null;
  at: number;
}

/** All that the parts of Explore need. */
export interface Explore {
  table: Table;
  /** A tile of a dashboard: what is selected on it zooms the board. */
  isTile?: boolean;
  view: ReadonlySignal<View>;
  shown: ReadonlySignal<Shown | null>;
  /** Parts of the link that no longer exist. */
  missing: ReadonlySignal<readonly string[]>;
  error: ReadonlySignal<ApiError | null>;
  /** Since when an answer is awaited. */
  since: ReadonlySignal<number | null>;
  dispatch(action: Action): void;
  /** The view with the table it is of, as plans take it. */
  asked(view?: View): Asked;
  /** An address within this table that shows a view. */
  address(view: View): string;
  refresh(): void;
  stop(): void;
  dispose(): void;
}

/** Answers slower than this are asked for in two parts, numbers first. */
const SLOW_MS = 400;

const cache = new Cache<Answer>();

/** What is shown and an answer together, as far as the view wants it. */
function merged(old: Shown | null, view: View, wanted: ReadonlySet<string>, answer: Answer): Shown {
  const kept = old && canonicalPlace(old.view) === canonicalPlace(view) ? [...old.branches] : [];
  const now = new Map<string, BranchAnswer>(kept.filter(([name]) => wanted.has(name)));
  for (const [name, branch] of answer.branches) {
    const before = now.get(name);
    now.set(name, branch.problem && before ? { ...before, problem: branch.problem } : branch);
  }
  return { view, branches: now, snapshot: answer.snapshot, at: Date.now() };
}

/** Views of one place keep each other's answers until new ones come. */
function canonicalPlace(view: View): string {
  return `${view.mode} ${view.table}`;
}

function parted(wanted: readonly Branch[], isSlow: boolean): Branch[][] {
  const isList = (branch: Branch): boolean => branch.name.startsWith(boardName(''));
  const lists = wanted.filter(isList);
  if (!isSlow || lists.length === 0 || lists.length === wanted.length) return [[...wanted]];
  return [wanted.filter((branch) => !isList(branch)), lists];
}

/** Opens Explore on a table. */
export function explore(table: Table, zone: string): Explore {
  const slots = new Slots();
  const bounds = (): Bounds | undefined => allBounds.peek().of.get(table.name);
  const defaults = defaultView(table, bounds(), zone);
  const path = `/explore/${encodeURIComponent(table.name)}`;

  let unknown: Parsed['unknown'] = [];
  const missing = signal<readonly string[]>([]);
  const read = (fragment: string): View => {
    const parsed = parse(fragment, defaults);
    unknown = parsed.unknown;
    const found = repaired(parsed.view, table);
    if (found.missing.length > 0) missing.value = found.missing;
    return found.view;
  };

  const view: Signal<View> = signal(read(route.peek().fragment));
  const shown = signal<Shown | null>(null);
  const error = signal<ApiError | null>(null);
  const since = signal<number | null>(null);
  let lastMs = 0;

  const asked = (of: View = view.peek()): Asked => ({ table, bounds: bounds(), view: of });
  const address = (of: View): string => `${path}#${print(of, defaults, unknown)}`;

  const canonicalView = (of: View): string => print(of, defaults);

  const placeOf = (of: View): string => canonical(pattern(branches(asked(of))));

  /** Shows an answer. The view may have changed since in a way that needs no other. */
  const show = (of: View, answer: Answer): void => {
    const now = view.peek();
    const names = new Set(branches(asked(of)).map((branch) => branch.name));
    shown.value = merged(shown.peek(), placeOf(now) === placeOf(of) ? now : of, names, answer);
  };

  /** Asks for a part, and shows it. */
  const ask = async (slot: string, wanted: readonly Branch[], of: View): Promise<void> => {
    const text = pattern(wanted);
    const key = canonical(text);
    const known = cache.get(key);
    if (known) show(of, known);
    const found = await slots.latest(slot, (signal) => pull(text, signal));
    if (!found) return;
    if (found.answer.problems.length === 0) cache.set(key, found.answer, found.bytes);
    batch(() => {
      show(of, found.answer);
      error.value = null;
    });
  };

  let round = 0;
  const load = async (of: View): Promise<void> => {
    const mine = ++round;
    const started = performance.now();
    since.value = Date.now();
    const [first, lists] = parted(branches(asked(of)), lastMs > SLOW_MS);
    if (!lists) slots.abort('lists');
    try {
      await Promise.all([ask('main', first ?? [], of), lists ? ask('lists', lists, of) : undefined]);
      if (mine === round) lastMs = performance.now() - started;
    } catch (failed) {
      if (mine === round) error.value = asApiError(failed);
    }
    if (mine === round) since.value = null;
  };

  let last = '';
  const stopLoading = effect(() => {
    const now = view.value;
    const key = placeOf(now);
    if (key === last && shown.peek()) {
      // What changed needs no other answer, but may be drawn differently.
      const old = shown.peek();
      if (old) shown.value = { ...old, view: now };
      return;
    }
    last = key;
    void load(now);
  });

  const stopRoute = effect(() => {
    const { path: at, fragment } = route.value;
    if (at !== path) return;
    const now = read(fragment);
    if (canonicalView(now) !== canonicalView(view.peek())) view.value = now;
  });

  // The address says what is shown, even where nobody chose anything yet.
  if (route.peek().path === path) navigate(address(view.peek()), 'replace');

  return {
    table, view, shown, missing, error, since, asked, address,
    dispatch(action) {
      const next = reduce(view.peek(), action);
      view.value = next;
      missing.value = [];
      navigate(address(next), isStep(action) ? 'push' : 'replace');
    },
    refresh: () => void load(view.peek()),
    stop() {
      round += 1;
      slots.abort('main');
      slots.abort('lists');
      since.value = null;
    },
    dispose() {
      stopLoading();
      stopRoute();
      slots.abort('main');
      slots.abort('lists');
    },
  };
}
