/** Requests that supersede one another, and answers that are kept. */

/** Requests by slot: a newer one aborts the older, and an answer that comes late is dropped. */
export class Slots {
  #running = new Map<string, { controller: AbortController; sequence: number }>();
  #sequence = 0;

  /** Runs `ask`; the answer is undefined if another request took the slot meanwhile. */
  async latest<T>(slot: string, ask: (signal: AbortSignal) => Promise<T>): Promise<T | undefined> {
    this.abort(slot);
    const controller = new AbortController();
    const sequence = ++this.#sequence;
    this.#running.set(slot, { controller, sequence });
    const isLatest = (): boolean => this.#running.get(slot)?.sequence === sequence;
    try {
      const answer = await ask(controller.signal);
      return isLatest() ? answer : undefined;
    } catch (error) {
      if (isLatest() && !controller.signal.aborted) throw error;
      return undefined;
    } finally {
      if (isLatest()) this.#running.delete(slot);
    }
  }

  /** Gives up what runs in a slot. */
  abort(slot: string): void {
    this.#running.get(slot)?.controller.abort();
    this.#running.delete(slot);
  }
}

/** The answers used last, at most so many and so large. */
export class Cache<T> {
  #kept = new Map<string, { value: T; size: number }>();
  #size = 0;

  constructor(
    readonly entriesMax = 64,
    readonly sizeMax = 20 << 20,
  ) {}

  get(key: string): T | undefined {
    const found = this.#kept.get(key);
    if (!found) return undefined;
    this.#kept.delete(key);
    this.#kept.set(key, found);
    return found.value;
  }

  set(key: string, value: T, size: number): void {
    this.#remove(key);
    if (size > this.sizeMax) return;
    this.#kept.set(key, { value, size });
    this.#size += size;
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= this.entriesMax && this.#size <= this.sizeMax) break;
      this.#remove(oldest);
    }
  }

  clear(): void {
    this.#kept.clear();
    this.#size = 0;
  }

  #remove(key: string): void {
    this.#size -= this.#kept.get(key)?.size ?? 0;
    this.#kept.delete(key);
  }
}
