/**
 * The messages of one room, as a page shows them. Pure: events and answers go in, a list comes out.
 *
 * A message is known by who sent it and the id of the request that sent it: the event has both (`from`, `re`), a
 * database has both, and the page has both before anybody has answered. So whatever comes twice, by whichever way, is
 * one message.
 */

/** How far one's own message has come; null for those of others. */
export type Delivery = "sending" | "stored" | "failed" | null;

/** A message as an application stores it. */
export interface StoredMessage {
  readonly from: string;
  /** The id of the request that sent it. */
  readonly id: string;
  readonly content?: string | undefined;
  /** Where the image is: a URL, or the bytes themselves. */
  readonly image?: string | Uint8Array | undefined;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly editedAt?: number | undefined;
}

export interface Message extends StoredMessage {
  readonly key: string;
  readonly delivery: Delivery;
  /** Why it failed, for people. */
  readonly fault?: string | undefined;
}

/** Something was lost and this is where; `at` is when it was noticed. */
export interface Divider {
  readonly key: string;
  readonly divider: string;
}

export type Item = Message | Divider;

const keyOf = (from: string, id: string) => `${from}/${id}`;
const isDivider = (item: Item): item is Divider => "divider" in item;

export class Timeline {
  readonly #me: string;
  #items: Item[] = [];
  #dividers = 0;

  /** `me` is the user whose page it is. */
  constructor(me: string) {
    this.#me = me;
  }

  get items(): readonly Item[] {
    return this.#items;
  }

  /** The newest text of one's own, for editing it. */
  get lastOwn(): Message | undefined {
    return this.#items.findLast(
      (item): item is Message => !isDivider(item) && item.from === this.#me && item.content !== undefined && item.delivery === "stored",
    );
  }

  get(key: string): Message | undefined {
    const item = this.#items.find((item) => item.key === key);
    return item && !isDivider(item) ? item : undefined;
  }

  /** One's own message that has just been sent. */
  sending(message: Omit<StoredMessage, "from">): void {
    const [from, key] = [this.#me, keyOf(this.#me, message.id)];
    if (!this.get(key)) this.#items.push({ ...message, from, key, delivery: "sending" });
  }

  /** The server has it. */
  stored(id: string): void {
    this.#change(keyOf(this.#me, id), (message) => (message.delivery === "stored" ? message : { ...message, delivery: "stored" }));
  }

  /** It will not be sent again by itself. */
  failed(id: string, fault: string): void {
    this.#change(keyOf(this.#me, id), (message) => (message.delivery === "stored" ? message : { ...message, delivery: "failed", fault }));
  }

  /** A message came. One's own takes its place in the room's order, which is after everything that came before it. */
  receive(message: StoredMessage): void {
    const key = keyOf(message.from, message.id);
    const known = this.get(key);
    const delivery = message.from === this.#me ? "stored" : null;
    const received: Message = { ...known, ...message, key, delivery, fault: undefined };
    if (known && known.delivery !== "sending" && known.delivery !== "failed") {
      // A second copy: an edit that is known already stays.
      if ((known.editedAt ?? 0) <= (message.editedAt ?? 0)) this.#change(key, () => received);
      return;
    }
    this.#items = this.#items.filter((item) => item.key !== key);
    const firstSending = this.#items.findIndex((item) => !isDivider(item) && item.delivery === "sending");
    this.#items.splice(firstSending < 0 ? this.#items.length : firstSending, 0, received);
  }

  /** A message says something else now. Only its sender can have said so, since the key names him. */
  edit(from: string, id: string, content: string, at: number): void {
    this.#change(keyOf(from, id), (message) =>
      at < (message.editedAt ?? 0) ? message : { ...message, content, editedAt: at },
    );
  }

  /** What is stored, from elsewhere: it comes first, and what came meanwhile stays behind it. */
  load(messages: readonly StoredMessage[]): void {
    const later = this.#items;
    this.#items = [];
    for (const message of messages) this.receive(message);
    const known = new Set(this.#items.map(({ key }) => key));
    for (const item of later) {
      if (!known.has(item.key)) this.#items.push(item);
      else if (!isDivider(item) && item.editedAt) this.edit(item.from, item.id, item.content ?? "", item.editedAt);
    }
  }

  /**
   * What was known counts no more. With a state it is replaced by that; without one, what was read stays to be read,
   * and a divider says where something is missing.
   */
  reset(state: readonly StoredMessage[] | undefined, words: string): void {
    const unsent = this.#items.filter((item) => !isDivider(item) && (item.delivery === "sending" || item.delivery === "failed"));
    if (state) this.#items = [];
    else this.#items = this.#items.filter((item) => !unsent.includes(item));
    for (const message of state ?? []) this.receive(message);
    this.#dividers += 1;
    this.#items.push({ key: `divider/${this.#dividers}`, divider: words });
    for (const item of unsent) if (!this.get(item.key)) this.#items.push(item);
  }

  #change(key: string, change: (message: Message) => Message): void {
    this.#items = this.#items.map((item) => (item.key === key && !isDivider(item) ? change(item) : item));
  }
}
