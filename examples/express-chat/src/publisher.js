/** Publishes what is stored, in its order and each message once: also what was stored while Tidings was away. */

const BATCH_MAX = 100;
const TRY_AGAIN_MS = 2_000;

/** A channel's room. */
export const roomOf = (channel) => `ch_${channel}`;

export class Publisher {
  #database;
  #tidings;
  #underWay = null;
  #again = false;
  #timer = null;
  #isClosed = false;

  constructor(database, tidings) {
    this.#database = database;
    this.#tidings = tidings;
    void this.publish();
  }

  /** Resolves when everything that is stored by now was published, or could not be: then it is tried again by itself. */
  publish() {
    this.#again = true;
    this.#underWay ??= this.#run().finally(() => (this.#underWay = null));
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
        const messages = this.#database.unpublished(BATCH_MAX);
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
        // What is refused is so for good: it is stored, and whoever loads the page sees it.
        results.forEach((result, index) => {
          if ("error" in result) console.error(`message ${messages[index].seq} was not published:`, result.error);
        });
        this.#database.markPublished(messages.map(({ seq }) => seq));
        this.#again = true;
      }
    } catch (error) {
      console.error("messages wait to be published:", error.message);
      clearTimeout(this.#timer);
      if (!this.#isClosed) this.#timer = setTimeout(() => void this.publish(), TRY_AGAIN_MS).unref();
    }
  }
}
