/** What the operator's place knows: asked for by SQL on the system tables, so that roles hold. */
import { command, sql, type SqlCell } from '../../api/client';

/** A row by the names of its columns. */
export type Named = { readonly [column: string]: SqlCell };

/** The rows of a statement. */
export async function ask(statement: string, signal?: AbortSignal): Promise<Named[]> {
  const answer = await sql(statement, {}, signal);
  const names = answer.columns.map((column) => column.name);
  return answer.rows.map((row) => Object.fromEntries(names.map((name, at) => [name, row[at] ?? null])));
}

export const FILES = `SELECT "table", kind, count(*) AS files, sum(rows) AS rows, sum(bytes) AS bytes, max(max_time) AS newest
FROM otus.segments GROUP BY 1, 2 ORDER BY 1, 2`;

export const PARTITIONS = `SELECT schema, "table", topic, partition, state, error, lag, end_offset, committed_offset, rows_kept, rows_filtered, rows_rejected
FROM otus.partitions ORDER BY 2, 3, 4`;

export const ROLLUPS = `SELECT schema, "table", rollup, granularity, view, dimensions, files, rows, bytes, state, covered, complete
FROM otus.rollups ORDER BY 2, 3, rows DESC`;

export const REASONS = `SELECT "table", topic, reason, count(*) AS records, min(ingested_at) AS first, max(ingested_at) AS last
FROM otus.rejected GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 200`;

export const REJECTED = `SELECT "table", topic, partition, "offset", timestamp, reason, detail, payload, payload_bytes
FROM otus.rejected ORDER BY ingested_at DESC LIMIT 100`;

export const QUERIES = `SELECT started_at, "user", query, duration_us, rows, bytes_read, rollup, raw_reason, lane, cached, sqlstate
FROM otus.queries ORDER BY started_at DESC LIMIT 200`;

/** What an operator may do, and what it means. */
export const VERBS = {
  pause: (table: string) => command(`/api/ingest/pause/${encodeURIComponent(table)}`),
  resume: (table: string) => command(`/api/ingest/resume/${encodeURIComponent(table)}`),
  flush: () => command('/api/ingest/flush'),
  maintain: () => command('/api/ingest/maintain'),
};

/** A number of a cell that may be a text. */
export function number(cell: SqlCell | undefined): number {
  const value = Number(cell ?? 0);
  return Number.isFinite(value) ? value : 0;
}

/** A text of a cell. */
export function text(cell: SqlCell | undefined): string {
  return cell === null || cell === undefined ? '' : typeof cell === 'object' ? JSON.stringify(cell) : String(cell);
}

/** Bytes that came as hexadecimal digits, as text; what is none shows as a replacement mark. */
export function bytes(cell: SqlCell | undefined): string {
  const digits = text(cell).replace(/^\\x/, '');
  const pairs = digits.match(/[0-9a-f]{2}/gi) ?? [];
  return new TextDecoder().decode(Uint8Array.from(pairs, (pair) => Number.parseInt(pair, 16)));
}
