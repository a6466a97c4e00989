/** What the connection does, in words: quiet while all is well. */

import type { ConnectionFault, State } from "../../sdks/typescript/src/index.ts";
import { byId } from "./dom.ts";

const NEWS_SHOWN_MS = 6_000;

export class Status {
  readonly #pill = byId("state", HTMLElement);
  readonly #news = byId("news", HTMLElement);
  #timer: ReturnType<typeof setTimeout> | undefined;

  show(state: State, fault: ConnectionFault | null): void {
    this.#pill.dataset.state = state;
    this.#pill.textContent = {
      connecting: "connecting…",
      connected: "connected",
      reconnecting: "reconnecting…",
      refused: "refused",
      closed: "disconnected",
    }[state];
    if (state === "refused" || state === "closed") {
      const words = fault?.message || (fault?.status ? `the server ended it (${fault.status})` : "the server ended it");
      this.#say(`Not connected: ${words}. Sign out and in again.`);
    } else if (state === "reconnecting") this.#say("Connection lost. Reconnecting… what you write is kept.");
  }

  /** Something that happened, for a while. */
  tell(words: string): void {
    this.#say(words);
    this.#timer = setTimeout(() => (this.#news.textContent = ""), NEWS_SHOWN_MS);
  }

  #say(words: string): void {
    clearTimeout(this.#timer);
    if (this.#news.textContent !== words) this.#news.textContent = words;
  }
}
