/** The list of a room's messages, kept in step with its timeline. */

import { h } from "./dom.ts";
import { imageUrl } from "./images.ts";
import type { Item, Message } from "./timeline.ts";

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DELIVERY = { sending: "sending…", stored: "stored", failed: "not sent" } as const;
/** Whoever is nearer to the end than this sees what is new. */
const NEAR_THE_END_PX = 80;

/** A color of a user's own, from the name. */
export function hueOf(user: string): number {
  let hash = 7;
  for (const character of user) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) % 360;
  return hash;
}

/** The first letter of a user's name, on his color. */
export function avatar(user: string): HTMLElement {
  const element = h("span", { className: "avatar", aria: { hidden: "true" } }, [...user][0]?.toUpperCase() ?? "?");
  element.style.setProperty("--hue", `${hueOf(user)}`);
  return element;
}

export class Log {
  readonly #list: HTMLOListElement;
  readonly #me: string;
  readonly #onEdit: (message: Message) => void;
  readonly #rows = new Map<string, { item: Item; before: Item | undefined; element: HTMLLIElement }>();
  /** One URL for an image, however often its row is made anew. */
  readonly #images = new Map<string, string>();

  constructor(list: HTMLOListElement, me: string, onEdit: (message: Message) => void) {
    this.#list = list;
    this.#me = me;
    this.#onEdit = onEdit;
  }

  /** Another room: nothing of this one stays. */
  clear(): void {
    this.#rows.clear();
    for (const url of this.#images.values()) URL.revokeObjectURL(url);
    this.#images.clear();
    this.#list.replaceChildren();
  }

  show(items: readonly Item[]): void {
    const scroller = this.#list.parentElement ?? this.#list;
    const wasAtEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_THE_END_PX;
    const shown = new Set(items.map(({ key }) => key));
    for (const [key, { element }] of this.#rows) {
      if (shown.has(key)) continue;
      element.remove();
      this.#rows.delete(key);
    }
    items.forEach((item, index) => {
      const before = items[index - 1];
      let row = this.#rows.get(item.key);
      if (!row || row.item !== item || row.before?.key !== before?.key) {
        const element = this.#row(item, before);
        const hadFocus = row?.element.contains(document.activeElement);
        row?.element.replaceWith(element);
        // Who was about to press a row's button still is.
        if (hadFocus) element.querySelector("button")?.focus();
        row = { item, before, element };
        this.#rows.set(item.key, row);
      }
      // Only what is out of place is moved: a screen reader reads what is moved a second time.
      if (this.#list.children[index] !== row.element) this.#list.insertBefore(row.element, this.#list.children[index] ?? null);
    });
    if (wasAtEnd) scroller.scrollTop = scroller.scrollHeight;
  }

  #row(item: Item, before: Item | undefined): HTMLLIElement {
    if ("divider" in item) return h("li", { className: "divider" }, h("span", {}, item.divider));
    const isOwn = item.from === this.#me;
    const isFirst = !before || "divider" in before || before.from !== item.from;
    const element = h(
      "li",
      { className: "message", dataset: { own: String(isOwn), first: String(isFirst), delivery: item.delivery ?? "" } },
      isFirst && !isOwn && avatar(item.from),
      h("div", { className: "author" }, isOwn ? "You" : item.from),
      h("div", { className: "bubble" }, this.#body(item)),
      h(
        "div",
        { className: "about" },
        h("time", { dateTime: new Date(item.at).toISOString() }, TIME.format(item.at)),
        item.editedAt !== undefined && h("span", {}, "edited"),
        item.delivery && h("span", { className: "delivery" }, DELIVERY[item.delivery]),
        item.fault && h("span", { className: "fault" }, item.fault),
        isOwn && item.content !== undefined && item.delivery === "stored" && this.#editButton(item),
      ),
    );
    return element;
  }

  #body(message: Message): Node {
    const { image, content, key, from } = message;
    if (image === undefined) return h("p", {}, content ?? "");
    let url = typeof image === "string" ? image : this.#images.get(key);
    if (url === undefined) this.#images.set(key, (url = imageUrl(image as Uint8Array)));
    const picture = h("img", { src: url, alt: `Image from ${from}` });
    const scroller = this.#list.parentElement;
    // An image has no height before it is there; who was at the end stays there.
    picture.addEventListener("load", () => {
      if (scroller && scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < picture.height + NEAR_THE_END_PX)
        scroller.scrollTop = scroller.scrollHeight;
    });
    return picture;
  }

  #editButton(message: Message): HTMLButtonElement {
    const label = `Edit “${message.content?.slice(0, 40)}”`;
    const button = h("button", { type: "button", className: "quiet", aria: { label } }, "Edit");
    button.addEventListener("click", () => this.#onEdit(message));
    return button;
  }
}
