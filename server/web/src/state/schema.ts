/** What there is to ask for. */
import { isObject } from '../api/json';
import { titleOf } from '../format/value';

/** A column to group and filter by. */
export interface Dimension {
  name: string;
  title: string;
  type: string;
  description: string | null;
}

/** Something to compute. */
export interface Measure {
  name: string;
  title: string;
  type: string;
  description: string | null;
  unit: string | null;
  format: string | null;
  additive: boolean;
  approximate: boolean;
  /** Which way is better, if it was said. */
  better: 'up' | 'down' | null;
}

/** A rollup of a table. */
export interface Rollup {
  name: string;
  granularities: readonly string[];
  dimensions: readonly string[];
}

/** A table of events. */
export interface Table {
  name: string;
  title: string;
  description: string | null;
  time: string;
  dimensions: readonly Dimension[];
  measures: readonly Measure[];
  rollups: readonly Rollup[];
}

/** The pattern that asks for [`Table`]s. */
export const SCHEMA_PATTERN = {
  schema: { tables: [{ name: '?', title: '?', description: '?', time: '?', dimensions: '?', measures: '?', rollups: '?' }] },
} as const;

type Tree = { readonly [key: string]: unknown };

const list = (value: unknown): Tree[] => (Array.isArray(value) ? value.filter(isObject) : []);
const optional = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null);
const names = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);

function named(tree: Tree): { name: string; title: string; description: string | null; type: string } {
  const name = String(tree['name'] ?? '');
  return { name, title: optional(tree['title']) ?? titleOf(name), description: optional(tree['description']), type: String(tree['type'] ?? '') };
}

function measure(tree: Tree): Measure {
  const better = tree['better'];
  return {
    ...named(tree),
    unit: optional(tree['unit']),
    format: optional(tree['format']),
    additive: tree['additive'] === true,
    approximate: tree['approximate'] === true,
    better: better === 'up' || better === 'down' ? better : null,
  };
}

/** The tables in the answer to [`SCHEMA_PATTERN`]. */
export function tables(data: unknown): Table[] {
  const schema = isObject(data) && isObject(data['schema']) ? data['schema'] : {};
  return list(schema['tables']).map((tree) => ({
    ...named(tree),
    time: String(tree['time'] ?? 'time'),
    dimensions: list(tree['dimensions']).map(named),
    measures: list(tree['measures']).map(measure),
    rollups: list(tree['rollups']).map((rollup) => ({
      name: String(rollup['name'] ?? ''),
      granularities: names(rollup['granularities']),
      dimensions: names(rollup['dimensions']),
    })),
  }));
}

/** A measure by its name. */
export function measureOf(table: Table, name: string): Measure | undefined {
  return table.measures.find((measure) => measure.name === name);
}

/** A dimension by its name. */
export function dimensionOf(table: Table, name: string): Dimension | undefined {
  return table.dimensions.find((dimension) => dimension.name === name);
}

/** The title of a field of a table. */
export function fieldTitle(table: Table, name: string): string {
  if (name === table.time) return 'Time';
  return (dimensionOf(table, name) ?? measureOf(table, name))?.title ?? titleOf(name);
}

/** The dimensions that are shown before anybody chooses: those of rollups first, then those with few values. */
export function firstDimensions(table: Table, count: number): string[] {
  const inRollup = new Set(table.rollups.flatMap((rollup) => rollup.dimensions));
  const rank = (dimension: Dimension): number => {
    if (inRollup.has(dimension.name)) return 0;
    return dimension.type === 'text' || dimension.type === 'boolean' ? 1 : 2;
  };
  const ranked = [...table.dimensions].sort((a, b) => rank(a) - rank(b));
  return ranked.slice(0, count).map((dimension) => dimension.name);
}
