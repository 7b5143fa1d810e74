/** Asks again and again while somebody looks. */
import { useEffect, useState } from 'preact/hooks';
import { asApiError, isAborted, type ApiError } from '../../api/errors';

const EVERY_MS = 5000;

/** An answer, or why there is none; asked again every five seconds, and at once by `again`. */
export function useAsked<T>(ask: (signal: AbortSignal) => Promise<T>): { found: T | null; error: ApiError | null; again: () => void } {
  const [found, setFound] = useState<T | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [round, setRound] = useState(0);
  useEffect(() => {
    const controller = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const once = async (): Promise<void> => {
      try {
        if (!document.hidden) {
          setFound(await ask(controller.signal));
          setError(null);
        }
      } catch (failed) {
        if (!isAborted(failed)) setError(asApiError(failed));
      }
      if (!controller.signal.aborted) timer = setTimeout(() => void once(), EVERY_MS);
    };
    void once();
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, [round]);
  return { found, error, again: () => setRound((now) => now + 1) };
}
