/** Time, as the client sees it: a test moves its own. */

export interface Clock {
  /** Milliseconds since 1970. Not a monotonic clock: those of browsers may stand still while a computer sleeps, and
   * a request must not be sent again when the server has forgotten its id. */
  now(): number;
  setTimeout(call: () => void, afterMs: number): unknown;
  clearTimeout(timer: unknown): void;
}

export interface SteadyClock extends Clock {
  /** At `least` so much, as who has waited until then knows. */
  now(least?: number): number;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  setTimeout: (call, afterMs) => setTimeout(call, afterMs),
  clearTimeout: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
};

/** A timer that is so much early is exact; more, and the clock was set back while it ran. */
const EARLY_MAX_MS = 1_000;

/** A clock that goes on where it was when its source is set back, as a computer's may be: nothing waits for that time again. */
export function steady(source: Clock): SteadyClock {
  let [last, ahead] = [0, 0];
  return {
    now(least = last) {
      const told = source.now();
      ahead = Math.max(ahead, last - told, least - told);
      return (last = told + ahead);
    },
    setTimeout: (call, afterMs) => source.setTimeout(call, afterMs),
    clearTimeout: (timer) => source.clearTimeout(timer),
  };
}

/** One timer that rings when the earliest thing is due. */
export class Alarm {
  readonly #clock: SteadyClock;
  readonly #ring: () => void;
  #timer: unknown;
  #at = Infinity;

  constructor(clock: SteadyClock, ring: () => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  /** Rings at `at` and not at whatever was set before; never if that is infinite. */
  set(at: number): void {
    if (at === this.#at) return;
    this.#clock.clearTimeout(this.#timer);
    this.#at = at;
    if (at === Infinity) return;
    this.#timer = this.#clock.setTimeout(() => {
      this.#at = Infinity;
      this.#clock.now(at - EARLY_MAX_MS);
      this.#ring();
    }, Math.max(0, at - this.#clock.now()));
  }
}
