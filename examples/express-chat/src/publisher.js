/** Publishes what is stored, in its order and each message once: also what was stored while Tidings was away. */

const BATCH_MAX = 100;
const TRY_AGAIN_MS = 2_000;
/** Why a message of a batch may be refused and the same be taken later. */
const PASSING = ["unavailable", "rate_limited", "internal"];

/** A channel's room. */
export const roomOf = (channel) => `ch_${channel}`;

export class Publisher {
  #database;
  #tidings;
  #underWay = null;
  #again = false;
  #timer = null;
  #isClosed = false;
  /** Channels whose oldest message is to be tried again: what is behind it waits too. */
  #waiting = new Set();

  constructor(database, tidings) {
    this.#database = database;
    this.#tidings = tidings;
    void this.publish();
  }

  /** Resolves when everything that is stored by now was published, or could not be: then it is tried again by itself. */
  publish() {
    this.#again = true;
    this.#underWay ??= this.#run().finally(() => {
      this.#underWay = null;
      // Stored after the last look.
      if (this.#again && !this.#isClosed) return this.publish();
    });
    return this.#underWay;
  }

  async close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#underWay;
  }

  async #run() {
    try {
      while (this.#again && !this.#isClosed) {
        this.#again = false;
        // One of a channel at a time: in a batch the second may be taken where the first was not.
        const messages = this.#database.oldestUnpublished([...this.#waiting], BATCH_MAX);
        if (messages.length === 0) continue;
        // A key of its own for each: one that was published before an answer got lost is not published again.
        const results = await this.#tidings.batch(
          messages.map(({ seq, channel, ...rest }) => ({
            room: roomOf(channel),
            event: "message",
            data: { seq, ...rest },
            idempotencyKey: `message-${seq}`,
          })),
        );
        this.#settle(messages, results);
        this.#again = true;
      }
    } catch (error) {
      console.error("messages wait to be published:", error.message);
      this.#tryAgain();
    }
  }

  #settle(messages, results) {
    const isPassing = (_, index) => PASSING.includes(results[index].error?.code);
    results.forEach((result, index) => {
      if ("error" in result) console.error(`message ${messages[index].seq} was not published:`, result.error);
    });
    for (const { channel } of messages.filter(isPassing)) {
      this.#waiting.add(channel);
      this.#tryAgain();
    }
    // What else is refused is so for good: it is stored, and whoever loads the page sees it.
    const settled = messages.filter((message, index) => !isPassing(message, index));
    this.#database.markPublished(settled.map(({ seq }) => seq));
  }

  #tryAgain() {
    if (this.#isClosed) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#waiting.clear();
      void this.publish();
    }, TRY_AGAIN_MS).unref();
  }
}
