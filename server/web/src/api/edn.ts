/** The EDN spelling of a pattern that was built in JSON, for people to copy. */
import { isObject, type Json, type JsonObject } from './json';

const SYMBOL = /^\?[A-Za-z0-9_-]*$/;
const NAME = /^[A-Za-z_*!?<>=+-][A-Za-z0-9_*!?<>=+./-]*$/;
const OPERATORS = new Set(['and', 'or', 'not', '=', 'not=', '>', '>=', '<', '<=', 'in', 'between', 'like', 'null?']);
/** Keys of a query map whose texts are names. */
const NAMED = new Set(['granularity', 'window', 'kind', 'align', 'anchor', 'compare', 'by', 'dim', 'order', 'fill', 'dims']);

function keyword(name: string): string {
  return NAME.test(name) && !/^\d/.test(name) ? `:${name}` : JSON.stringify(name);
}

function map(entries: readonly (readonly [string, string])[]): string {
  return `{${entries.map(([key, value]) => `${key} ${value}`).join(', ')}}`;
}

function plain(value: Json): string {
  return value === null ? 'nil' : JSON.stringify(value);
}

/** A filter tree: operators and columns are keywords, sets are sets. */
function filter(tree: readonly Json[]): string {
  const [operator, ...rest] = tree;
  const parts = rest.map((part, at) => {
    if (Array.isArray(part)) {
      const head = part[0];
      const nested = typeof head === 'string' && OPERATORS.has(head) && operator !== 'in';
      return nested ? filter(part) : `#{${part.map((item: Json) => plain(item)).join(' ')}}`;
    }
    return at === 0 && typeof part === 'string' ? keyword(part) : plain(part);
  });
  return `[${[keyword(String(operator)), ...parts].join(' ')}]`;
}

function argument(value: Json, key: string): string {
  if (key === 'filters' && Array.isArray(value)) return filter(value);
  if (Array.isArray(value)) return `[${value.map((item: Json) => argument(item, key)).join(' ')}]`;
  if (isObject(value)) {
    const entries = Object.entries(value as JsonObject);
    return map(entries.map(([name, item]) => [keyword(name), argument(item, name)]));
  }
  if (typeof value === 'string' && NAMED.has(key) && NAME.test(value)) return keyword(value);
  return plain(value);
}

function calls(name: string, values: readonly Json[], indent: string): readonly (readonly [string, string])[] {
  return values.flatMap((value) => {
    if (!isObject(value)) return [];
    const { $as, $with, $get } = value as JsonObject;
    const given = Array.isArray($with) ? $with.map((item: Json) => argument(item, '')).join(' ') : '';
    const renamed = typeof $as === 'string' ? ` :as ${keyword($as)}` : '';
    return [[`\n${indent}(${keyword(name)} :with [${given}]${renamed})`, target($get ?? null, indent)] as const];
  });
}

function target(value: Json, indent: string): string {
  if (typeof value === 'string' && SYMBOL.test(value)) return value;
  if (Array.isArray(value)) return `[${value.map((item: Json) => target(item, indent)).join(' ')}]`;
  if (!isObject(value)) return plain(value);
  const entries = Object.entries(value as JsonObject).flatMap(([name, below]) => {
    const optioned = Array.isArray(below) && below.every((item: Json) => isObject(item) && '$with' in item);
    if (optioned) return calls(name, below, `${indent}  `);
    return [[keyword(name), target(below, `${indent} `)] as const];
  });
  return map(entries);
}

/** The EDN text of a pattern. */
export function edn(pattern: JsonObject): string {
  return target(pattern, ' ');
}
