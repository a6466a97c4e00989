/** The chat page: rooms, who is here, messages. It joins the parts; each has a file. */

import { RequestError, type Event, type Members, type Request, type ResetReason, type Room } from "../../sdks/typescript/src/index.ts";
import type { Backend } from "./backend.ts";
import { Composer } from "./composer.ts";
import { byId, h } from "./dom.ts";
import { imageBytes } from "./images.ts";
import { avatar, Log } from "./log.ts";
import { Status } from "./status.ts";
import { Timeline, type Message } from "./timeline.ts";

/** Somebody who has said nothing for so long does not type any more. */
const TYPING_SHOWN_MS = 5_000;
/** Until the server has said how large an image may be. */
const IMAGE_BYTES_MAX = 64 * 1024;
/** A binary frame's header is inside the limit too. */
const HEADER_BYTES_MAX = 512;

/** Why something may be missing, for people. */
const GAP: Record<ResetReason, string> = {
  expired: "Some messages are not stored any more",
  unknown_epoch: "The server began a new history here",
  forked: "The server's history goes another way from here",
  no_position: "Some messages may be missing here",
  too_far: "Some messages may be missing here",
  other: "Some messages may be missing here",
};

interface Chat {
  readonly id: string;
  readonly name: string;
  readonly room: Room;
  readonly timeline: Timeline;
  readonly typing: Map<string, ReturnType<typeof setTimeout>>;
  /** Shows it. One for good: an element made anew would lose the focus. */
  readonly button: HTMLButtonElement;
  members: Members;
  /** What was said before the page was there is not unread. */
  isLive: boolean;
  unread: number;
}

export class ChatPage {
  readonly #backend: Backend;
  readonly #chats = new Map<string, Chat>();
  readonly #log: Log;
  readonly #composer: Composer;
  readonly #status = new Status();
  readonly #people = byId("people", HTMLUListElement);
  readonly #rooms = byId("rooms", HTMLUListElement);
  #shown: Chat | undefined;
  #wasLost = false;

  constructor(backend: Backend) {
    this.#backend = backend;
    this.#log = new Log(byId("messages", HTMLOListElement), backend.user, (message) => this.#composer.edit(message));
    this.#composer = new Composer({
      say: (content) => this.#shown && this.#say(this.#shown, content),
      edit: (message, content) => this.#shown && void this.#edit(this.#shown, message, content),
      image: (file) => this.#shown && void this.#sendImage(this.#shown, file),
      typing: () => this.#shown && backend.typing(this.#shown.room),
      lastOwn: () => this.#shown?.timeline.lastOwn,
    });
    byId("title", HTMLElement).textContent = backend.title;
    byId("user", HTMLElement).textContent = backend.user;
    byId("sign-out", HTMLButtonElement).addEventListener("click", () => backend.signOut());
    this.#offerRooms();
    for (const { id, name } of backend.rooms) this.#open(id, name);
    this.#showUnsettled();
    backend.client.onState((state) => {
      this.#wasLost ||= state === "reconnecting";
      this.#status.show(state, backend.client.fault);
    });
    const first = this.#chats.get(decodeURIComponent(location.hash.slice(1))) ?? [...this.#chats.values()][0];
    if (first) this.#show(first);
    this.#composer.focus();
  }

  #offerRooms(): void {
    const form = byId("open-room", HTMLFormElement);
    form.hidden = !this.#backend.openRoom;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const id = byId("room-name", HTMLInputElement).value.trim();
      form.reset();
      this.#backend.openRoom?.(id);
      this.#show(this.#chats.get(id) ?? this.#open(id, id));
      this.#composer.focus();
    });
  }

  #open(id: string, name: string): Chat {
    const room = this.#backend.client.room(id);
    const timeline = new Timeline(this.#backend.user);
    const button = h("button", { type: "button" });
    const chat: Chat = { id, name, room, timeline, typing: new Map(), button, members: new Map(), isLive: false, unread: 0 };
    this.#chats.set(id, chat);
    this.#rooms.append(h("li", {}, button));
    button.addEventListener("click", () => {
      this.#show(chat);
      this.#composer.focus();
    });
    room.on<{ content: string }>("message.send", (event) => {
      this.#received(chat, event, { content: String(event.data?.content) });
    });
    room.on<Uint8Array>("image.send", (event) => this.#received(chat, event, { image: event.data }));
    room.on<{ messageId: string; content: string }>("message.edit", ({ from, data, at }) => {
      chat.timeline.edit(from ?? "", String(data?.messageId), String(data?.content), at ?? 0);
      this.#redraw(chat);
    });
    room.on("typing.start", ({ from }) => this.#types(chat, from ?? ""));
    room.onReset(({ state, reason }) => {
      const messages = this.#backend.stateOf(state);
      timeline.reset(messages, messages ? "Brought up to date from the database" : GAP[reason]);
      this.#redraw(chat);
    });
    room.onCaughtUp(({ events, recovery }) => {
      if (!this.#wasLost || chat !== this.#shown) return;
      this.#wasLost = false;
      const missed = events === 0 ? ": nothing was missed" : `: caught up on ${events} ${events === 1 ? "event" : "events"}`;
      // After a gap the divider in the log has said what there is to say.
      this.#status.tell(`Back again${recovery === "gap" ? "" : missed}.`);
    });
    room.onLost((code) => this.#status.tell(`You are not in ${name} any more (${code}).`));
    room.presence.onChange((members) => {
      chat.members = members;
      if (chat === this.#shown) this.#drawPeople(chat);
    });
    this.#backend.enter(room).then(
      (messages) => {
        chat.isLive = true;
        timeline.load(messages);
        this.#redraw(chat);
      },
      (error: unknown) => this.#status.tell(`${name} could not be opened: ${wordsOf(error)}.`),
    );
    this.#drawRooms();
    return chat;
  }

  /** What the page before the reload was still sending. */
  #showUnsettled(): void {
    for (const { id, event, room, data, answer } of this.#backend.client.unsettled) {
      const fields = data as { channelId?: string; content?: string } | null;
      const chat = this.#chats.get(room ?? fields?.channelId ?? "");
      if (!chat) continue;
      if (event === "message.send") chat.timeline.sending({ id, content: fields?.content, at: Date.now() });
      else if (event === "image.send") chat.timeline.sending({ id, image: data as Uint8Array, at: Date.now() });
      else continue;
      void this.#settle(chat, id, answer);
    }
  }

  #received(chat: Chat, event: Event, body: { content?: string; image?: Uint8Array }): void {
    const from = event.from ?? "the server";
    chat.timeline.receive({ from, id: event.re ?? event.id ?? "", at: event.at ?? Date.now(), ...body });
    this.#stopsTyping(chat, from);
    if (chat !== this.#shown && chat.isLive) {
      chat.unread += 1;
      this.#drawRooms();
    }
    this.#redraw(chat);
  }

  #say(chat: Chat, content: string): void {
    const request = this.#backend.say(chat.room, content);
    chat.timeline.sending({ id: request.id, content, at: Date.now() });
    void this.#settle(chat, request.id, request);
  }

  async #sendImage(chat: Chat, file: Blob): Promise<void> {
    const limit = (this.#backend.client.limits.binary_message_bytes ?? IMAGE_BYTES_MAX) - HEADER_BYTES_MAX;
    let image: Uint8Array<ArrayBuffer>;
    try {
      image = await imageBytes(file, limit);
    } catch (error) {
      this.#status.tell(wordsOf(error));
      return;
    }
    const request: Request<unknown> = this.#backend.sendImage(chat.room, image);
    chat.timeline.sending({ id: request.id, image, at: Date.now() });
    void this.#settle(chat, request.id, request);
  }

  async #settle(chat: Chat, id: string, answer: Promise<unknown>): Promise<void> {
    this.#redraw(chat);
    try {
      await answer;
      chat.timeline.stored(id);
    } catch (error) {
      chat.timeline.failed(id, wordsOf(error));
    }
    this.#redraw(chat);
  }

  async #edit(chat: Chat, message: Message, content: string): Promise<void> {
    if (content === message.content) return;
    try {
      await this.#backend.edit(chat.room, message.id, content);
    } catch (error) {
      this.#status.tell(`The edit was not taken: ${wordsOf(error)}.`);
    }
  }

  #types(chat: Chat, user: string): void {
    // One's own other tab.
    if (user === this.#backend.user) return;
    clearTimeout(chat.typing.get(user));
    chat.typing.set(user, setTimeout(() => this.#stopsTyping(chat, user), TYPING_SHOWN_MS));
    if (chat === this.#shown) this.#drawTyping(chat);
  }

  #stopsTyping(chat: Chat, user: string): void {
    clearTimeout(chat.typing.get(user));
    if (chat.typing.delete(user) && chat === this.#shown) this.#drawTyping(chat);
  }

  #show(chat: Chat): void {
    this.#shown = chat;
    chat.unread = 0;
    history.replaceState(null, "", `#${encodeURIComponent(chat.id)}`);
    byId("room-title", HTMLElement).textContent = chat.name;
    this.#log.clear();
    this.#composer.clear();
    this.#drawRooms();
    this.#drawPeople(chat);
    this.#drawTyping(chat);
    this.#redraw(chat);
  }

  #redraw(chat: Chat): void {
    if (chat === this.#shown) this.#log.show(chat.timeline.items);
  }

  #drawRooms(): void {
    for (const chat of this.#chats.values()) {
      const { button, name, unread } = chat;
      if (chat === this.#shown) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
      button.replaceChildren(name);
      if (unread > 0) button.append(h("span", { className: "unread", aria: { label: `${unread} unread` } }, `${unread}`));
    }
  }

  #drawPeople(chat: Chat): void {
    const users = [...chat.members.keys()].sort();
    byId("people-count", HTMLElement).textContent = users.length === 0 ? "" : `${users.length}`;
    this.#people.replaceChildren(
      ...users.map((user) => h("li", {}, avatar(user), user, user === this.#backend.user && h("span", { className: "you" }, "you"))),
    );
  }

  #drawTyping({ typing }: Chat): void {
    const users = [...typing.keys()];
    byId("typing", HTMLElement).textContent =
      users.length === 0 ? "" : users.length === 1 ? `${users[0]} is typing…` : `${users.slice(0, 3).join(", ")} are typing…`;
  }
}

function wordsOf(error: unknown): string {
  if (error instanceof RequestError && error.code === "outcome_unknown") return "no answer came; it may have arrived all the same";
  return error instanceof Error ? error.message : String(error);
}
