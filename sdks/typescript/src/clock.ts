/** Time, as the client sees it: a test moves its own. */

export interface Clock {
  /** Milliseconds since 1970. Not a monotonic clock: those of browsers may stand still while a computer sleeps, and
   * a request must not be sent again when the server has forgotten its id. */
  now(): number;
  setTimeout(call: () => void, afterMs: number): unknown;
  clearTimeout(timer: unknown): void;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  setTimeout: (call, afterMs) => setTimeout(call, afterMs),
  clearTimeout: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
};

/** One timer that rings when the earliest thing is due. */
export class Alarm {
  readonly #clock: Clock;
  readonly #ring: () => void;
  #timer: unknown;
  #at = Infinity;

  constructor(clock: Clock, ring: () => void) {
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
      this.#ring();
    }, Math.max(0, at - this.#clock.now()));
  }
}
