/** What can go wrong between the page and its server. */
import { isObject } from './json';

/** One fault of a pattern, or of a part of its answer. */
export interface Problem {
  code: string;
  reason: string;
  path: readonly string[];
}

/** A request that was refused, failed or did not arrive. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly hint: string | undefined;
  readonly problems: readonly Problem[];
  /** Seconds to wait before asking again. */
  readonly retryAfter: number | undefined;

  constructor(status: number, code: string, message: string, more: { hint?: string; problems?: readonly Problem[]; retryAfter?: number } = {}) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
    this.hint = more.hint;
    this.problems = more.problems ?? [];
    this.retryAfter = more.retryAfter;
  }
}

/** Whether a request was given up because a newer one took its place. */
export function isAborted(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError';
}

/** The problems in a list of an answer. */
export function problems(value: unknown): Problem[] {
  if (!Array.isArray(value)) return [];
  return value.filter(isObject).map((entry) => ({
    code: String(entry['code'] ?? 'error'),
    reason: String(entry['reason'] ?? 'failed'),
    path: Array.isArray(entry['path']) ? entry['path'].map(String) : [],
  }));
}

/** The error that a refusing answer tells. */
export async function refusal(response: Response): Promise<ApiError> {
  const after = Number(response.headers.get('retry-after'));
  const retryAfter = after > 0 ? after : undefined;
  const body: unknown = await response.json().catch(() => null);
  if (isObject(body) && isObject(body['error'])) {
    const { code, message, hint } = body['error'];
    const text = typeof hint === 'string' ? hint : undefined;
    return new ApiError(response.status, String(code ?? response.status), String(message ?? response.statusText), {
      ...(text === undefined ? {} : { hint: text }),
      ...(retryAfter === undefined ? {} : { retryAfter }),
    });
  }
  const found = isObject(body) ? problems(body['errors']) : [];
  const [first] = found;
  if (first) return new ApiError(response.status, first.code, first.reason, { problems: found });
  return new ApiError(response.status, String(response.status), response.statusText || 'The server refused the request');
}

/** Any failure as an [`ApiError`]. */
export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof TypeError) return new ApiError(0, 'unreachable', 'The server does not answer');
  return new ApiError(0, 'internal', error instanceof Error ? error.message : String(error));
}
