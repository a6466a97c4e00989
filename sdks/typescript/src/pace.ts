/** How fast the client sends, so that nothing is refused for its rate, and then sent out of its order. PROTOCOL.md §7. */

export class Pace {
  /** So many messages at once; and as many requests without an answer. Without limits of the server there is none. */
  readonly #share: number = Infinity;
  readonly #stepMs: number = 1;
  /** When all of the share is there again, if nothing is sent until then. */
  #fullAt = 0;

  constructor({ messages_per_second: perSecond = 0, messages_burst: burst = 0 }: Readonly<Record<string, number>>) {
    if (perSecond > 0 && burst > 0) {
      this.#share = Math.max(1, Math.floor(burst / 2));
      this.#stepMs = 1000 / perSecond;
    }
  }

  /** From when on a message may be sent, while so many have no answer; only an answer knows, if they are too many. */
  readyAt(unanswered: number): number {
    return unanswered < this.#share ? this.#fullAt - (this.#share - 1) * this.#stepMs : Infinity;
  }

  /** A message was sent; one that was not held back uses up no more than there is. */
  sent(now: number): void {
    if (this.readyAt(0) <= now) this.#fullAt = Math.max(this.#fullAt, now) + this.#stepMs;
  }
}
