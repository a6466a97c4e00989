/** How long to wait before the next connection. */

const FIRST_BOUND_MS = 1_000;
const LAST_BOUND_MS = 30_000;

/** Backoff 1, 2, 4 … 30 s with full jitter: a uniform draw from zero to the bound. PROTOCOL.md §7. */
export class Backoff {
  #failures = 0;
  readonly #random: () => number;

  /** `random` draws from [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** The wait before the next attempt in milliseconds, and one failure more. */
  next(): number {
    return this.#random() * Math.min(FIRST_BOUND_MS * 2 ** this.#failures++, LAST_BOUND_MS);
  }

  /** Forgets the failures, after a connection that held. */
  reset(): void {
    this.#failures = 0;
  }
}
