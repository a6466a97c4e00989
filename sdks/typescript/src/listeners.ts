/** Who wants to be told of something. */

import type { Event } from "./protocol.ts";

export type Unsubscribe = () => void;

export class Listeners<T> {
  readonly #listeners = new Set<(value: T) => void>();

  get size(): number {
    return this.#listeners.size;
  }

  add(listener: (value: T) => void): Unsubscribe {
    // A function of its own, so that the same listener added twice is told twice and removed once.
    const own = (value: T) => listener(value);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  /** Tells everyone. A listener that throws is reported, and costs nobody else the news. */
  tell(value: T): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(value);
      } catch (error) {
        (globalThis.reportError ?? console.error)(error);
      }
    }
  }
}

/** Who wants to be told of which event. */
export class EventListeners {
  readonly #listeners = new Map<string, Listeners<Event>>();

  add(event: string, listener: (event: Event<never>) => void): Unsubscribe {
    let listeners = this.#listeners.get(event);
    if (!listeners) this.#listeners.set(event, (listeners = new Listeners()));
    return listeners.add(listener as (event: Event) => void);
  }

  tell(event: Event): void {
    this.#listeners.get(event.event)?.tell(event);
  }
}
