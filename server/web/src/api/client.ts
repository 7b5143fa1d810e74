/** The endpoints of a server, typed. Nothing here knows of the page. */
import { answer, type Answer } from './decode';
import { refusal, type ApiError } from './errors';
import { isObject, type Json, type JsonObject } from './json';
import { request } from './pattern';

let unauthorized: (error: ApiError) => void = () => undefined;

/** Says whom to tell when a session has ended. */
export function onUnauthorized(tell: (error: ApiError) => void): void {
  unauthorized = tell;
}

/** Any path of the server's own. */
export async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const response = await fetch(path, { ...init, credentials: 'same-origin' });
  if (response.ok) return response;
  const error = await refusal(response);
  if (error.status === 401 && path !== '/api/session') unauthorized(error);
  throw error;
}

function post(path: string, body: Json, signal?: AbortSignal): Promise<Response> {
  const init: RequestInit = { method: 'POST', headers: { 'content-type': 'application/json', accept: 'application/json' }, body: JSON.stringify(body) };
  return ask(path, signal ? { ...init, signal } : init);
}

/** The answer to a pattern, and the size of its text. */
export async function pull(pattern: JsonObject, signal?: AbortSignal): Promise<{ answer: Answer; bytes: number }> {
  const response = await post('/api/pull', request(pattern), signal);
  const body = await response.text();
  return { answer: answer(JSON.parse(body)), bytes: body.length };
}

/** The tree of a pattern as it came, for facts such as `:schema`. */
export async function pullTree(pattern: JsonObject, signal?: AbortSignal): Promise<unknown> {
  const body: unknown = await (await post('/api/pull', request(pattern), signal)).json();
  return isObject(body) ? body['data'] : null;
}

/** Who asks. */
export interface Who {
  user: string | null;
  roles: readonly string[];
  admin: boolean;
}

function who(body: unknown): Who {
  const tree = isObject(body) ? body : {};
  return {
    user: typeof tree['user'] === 'string' ? tree['user'] : null,
    roles: Array.isArray(tree['roles']) ? tree['roles'].map(String) : [],
    admin: tree['admin'] === true,
  };
}

/** `GET /api/session`. */
export async function whoAmI(): Promise<Who> {
  return who(await (await ask('/api/session', { method: 'GET' })).json());
}

/** `POST /api/session`. */
export async function signIn(user: string, password: string): Promise<Who> {
  return who(await (await post('/api/session', { user, password })).json());
}

/** `DELETE /api/session`. */
export async function signOut(): Promise<void> {
  await ask('/api/session', { method: 'DELETE' });
}

/** `GET` of JSON. */
export async function get(path: string, signal?: AbortSignal): Promise<unknown> {
  return (await ask(path, signal ? { method: 'GET', signal } : { method: 'GET' })).json();
}

/** `POST` without a body, of an operator's verb. */
export async function command(path: string): Promise<unknown> {
  return (await ask(path, { method: 'POST' })).json();
}

/** A cell of SQL's answer. */
export type SqlCell = Json;

/** The answer to a statement. */
export interface SqlAnswer {
  columns: readonly { name: string; type: string }[];
  rows: readonly (readonly SqlCell[])[];
  rowCount: number;
  command: string | null;
  notices: readonly string[];
  failure: string | null;
}

/** `POST /api/sql`. */
export async function sql(query: string, settings: { readonly [name: string]: string } = {}, signal?: AbortSignal): Promise<SqlAnswer> {
  const response = await post('/api/sql', { query, settings }, signal);
  const body: unknown = await response.json();
  const tree = isObject(body) ? body : {};
  const columns = Array.isArray(tree['columns']) ? tree['columns'].filter(isObject) : [];
  const names = columns.map((column) => ({ name: String(column['name'] ?? ''), type: String(column['type'] ?? '') }));
  const found = Array.isArray(tree['rows']) ? (tree['rows'] as Json[]) : [];
  const rows = found.map((row) => (Array.isArray(row) ? (row as Json[]) : names.map(({ name }) => (row as JsonObject)[name] ?? null)));
  const notices = Array.isArray(tree['notices']) ? tree['notices'].filter(isObject) : [];
  const failed = isObject(tree['error']) ? String(tree['error']['message'] ?? 'The statement failed') : null;
  return {
    columns: names,
    rows,
    rowCount: typeof tree['row_count'] === 'number' ? tree['row_count'] : rows.length,
    command: typeof tree['command'] === 'string' ? tree['command'] : null,
    notices: notices.map((notice) => String(notice['message'] ?? '')),
    failure: failed,
  };
}
