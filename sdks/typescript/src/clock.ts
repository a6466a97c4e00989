/** Time, as the client sees it: a test moves its own. */

import { EARLY_MAX_MS } from "./limits.ts";

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

/** Time and timers: what waits until a moment tells `now` that it is at `least` that. */
export interface Time {
  readonly clock: Clock;
  now(least?: number): number;
}

/** The time of a clock, which goes on where it was when that is set back: nothing waits for the same time again. */
export function steady(clock: Clock): Time["now"] {
  let last = 0;
  let ahead = 0;
  return (least = last) => {
    const told = clock.now();
    ahead = Math.max(ahead, last - told, least - told);
    return (last = told + ahead);
  };
}

/** One timer that rings when the earliest thing is due. */
export class Alarm {
  readonly #time: Time;
  readonly #ring: () => void;
  #timer: unknown;
  #at = Infinity;

  constructor(time: Time, ring: () => void) {
    this.#time = time;
    this.#ring = ring;
  }

  /** Rings at `at` and not at whatever was set before; never if that is infinite. */
  set(at: number): void {
    if (at === this.#at) return;
    this.#time.clock.clearTimeout(this.#timer);
    this.#at = at;
    if (at === Infinity) return;
    this.#timer = this.#time.clock.setTimeout(() => {
      this.#at = Infinity;
      this.#time.now(at - EARLY_MAX_MS);
      this.#ring();
    }, at - this.#time.now());
  }
}
