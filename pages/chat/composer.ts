/** Where a message is written, edited, or an image chosen. Enter sends, Shift+Enter is a new line, Escape gives up. */

import { byId } from "./dom.ts";
import type { Message } from "./timeline.ts";

/** The others are told again that somebody types after so long. */
const TYPING_AGAIN_MS = 3_000;

export interface ComposerOwner {
  say(content: string): void;
  edit(message: Message, content: string): void;
  image(file: Blob): void;
  typing(): void;
  lastOwn(): Message | undefined;
}

export class Composer {
  readonly #owner: ComposerOwner;
  readonly #text = byId("text", HTMLTextAreaElement);
  readonly #editing = byId("editing", HTMLElement);
  #edits: Message | null = null;
  #saidTypingAt = 0;

  constructor(owner: ComposerOwner) {
    this.#owner = owner;
    const form = byId("composer", HTMLFormElement);
    const file = byId("image", HTMLInputElement);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    byId("attach", HTMLButtonElement).addEventListener("click", () => file.click());
    byId("stop-editing", HTMLButtonElement).addEventListener("click", () => this.#stopEditing());
    file.addEventListener("change", () => {
      if (file.files?.[0]) owner.image(file.files[0]);
      file.value = "";
    });
    this.#text.addEventListener("keydown", (event) => this.#key(event));
    this.#text.addEventListener("input", () => {
      this.#fit();
      if (this.#text.value !== "" && Date.now() - this.#saidTypingAt > TYPING_AGAIN_MS) {
        this.#saidTypingAt = Date.now();
        owner.typing();
      }
    });
    this.#text.addEventListener("paste", (event) => this.#takeImage(event, event.clipboardData));
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => this.#takeImage(event, event.dataTransfer));
  }

  focus(): void {
    this.#text.focus();
  }

  /** Begins to edit a message of one's own. */
  edit(message: Message): void {
    this.#edits = message;
    this.#editing.hidden = false;
    this.#text.value = message.content ?? "";
    this.#fit();
    this.focus();
  }

  /** Another room is shown: what was written for this one is not meant for that one. */
  clear(): void {
    this.#stopEditing();
  }

  #stopEditing(): void {
    this.#edits = null;
    this.#editing.hidden = true;
    this.#text.value = "";
    this.#fit();
    this.focus();
  }

  #key(event: KeyboardEvent): void {
    // While a word is being composed, Enter chooses it.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === "Escape" && this.#edits) this.#stopEditing();
    else if (event.key === "ArrowUp" && this.#text.value === "" && !this.#edits) {
      const own = this.#owner.lastOwn();
      if (!own) return;
      event.preventDefault();
      this.edit(own);
    }
  }

  #submit(): void {
    const content = this.#text.value.trim();
    if (content === "") return;
    if (this.#edits) this.#owner.edit(this.#edits, content);
    else this.#owner.say(content);
    this.#saidTypingAt = 0;
    this.#stopEditing();
  }

  #takeImage(event: Event, transfer: DataTransfer | null): void {
    const file = [...(transfer?.files ?? [])].find(({ type }) => type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    this.#owner.image(file);
  }

  /** As high as its text, up to the style's limit. */
  #fit(): void {
    this.#text.style.height = "auto";
    this.#text.style.height = `${this.#text.scrollHeight}px`;
  }
}
