/** Who wants to be told of something. */

export type Unsubscribe = () => void;

export class Listeners<T> {
  readonly #listeners = new Set<(value: T) => void>();
  /** What is being told, and what is to be told behind it. */
  #untold: T[] = [];
  readonly #counted: ((by: number) => void) | undefined;

  /** Calls `counted` with each listener more or less. */
  constructor(counted?: (by: number) => void) {
    this.#counted = counted;
  }

  get size(): number {
    return this.#listeners.size;
  }

  add(listener: (value: T) => void): Unsubscribe {
    // A function of its own, so that the same listener added twice is told twice and removed once.
    const own = (value: T) => listener(value);
    this.#listeners.add(own);
    this.#counted?.(1);
    return () => {
      if (this.#listeners.delete(own)) this.#counted?.(-1);
    };
  }

  /**
   * Tells everyone, and everyone in the same order: what a listener causes is told behind what it was told. A listener that
   * throws is reported, and costs nobody else the news.
   */
  tell(value: T): void {
    if (this.#untold.push(value) > 1) return;
    for (const value of this.#untold)
      for (const listener of [...this.#listeners]) {
        try {
          listener(value);
        } catch (error) {
          (globalThis.reportError ?? console.error)(error);
        }
      }
    this.#untold = [];
  }
}
