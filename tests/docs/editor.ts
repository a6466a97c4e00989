/**
 * Somebody who edits a document, for test_collaborative_editing.py: the code of the page, told by lines on stdin what to do,
 * telling by lines on stdout what came of it. Both are JSON.
 */

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Event } from "tidings-client";
import WebSocket from "ws";

import { shareCursors } from "./cursors.ts";
import { openDocument, type Stored } from "./document.ts";

/** What the test stands in for: the application that stores the document. */
interface InFile {
  readonly state: string;
  readonly at: string;
}

/** Time that can be moved on: what is due by then happens at once. */
class MovedClock {
  #ahead = 0;
  readonly #timers = new Map<NodeJS.Timeout, { call: () => void; at: number }>();

  now = () => Date.now() + this.#ahead;

  setTimeout = (call: () => void, afterMs: number) => {
    const timer = setTimeout(() => this.#ring(timer), afterMs);
    this.#timers.set(timer, { call, at: this.now() + afterMs });
    return timer;
  };

  clearTimeout = (timer: unknown) => {
    clearTimeout(timer as NodeJS.Timeout);
    this.#timers.delete(timer as NodeJS.Timeout);
  };

  moveOn(ms: number): void {
    this.#ahead += ms;
    for (const [timer, { at }] of [...this.#timers]) if (at <= this.now()) this.#ring(timer);
  }

  #ring(timer: NodeJS.Timeout): void {
    const due = this.#timers.get(timer);
    this.clearTimeout(timer);
    due?.call();
  }
}

const { URL: url = "", TOKEN: token = "", DOCUMENT: id = "", STORED: file = "" } = process.env;
const clock = new MovedClock();
const tell = (what: object) => process.stdout.write(`${JSON.stringify(what)}\n`);
const sorted = (letters: string) => [...letters].sort().join("");

/** What `load` waits for. */
let held = Promise.resolve();
let release = () => {};

async function load(): Promise<Stored> {
  await held;
  const stored = JSON.parse(readFileSync(file, "utf8")) as InFile | null;
  return stored && { ...stored, state: Buffer.from(stored.state, "base64") };
}

// Whoever has lost his connection is back soon, as if chance always wanted it.
const options = { token, WebSocket, world: { clock, random: () => Math.random() / 50 } };
const { doc, client, room, toStore } = await openDocument(url, options, id, load, (why) =>
  tell({ failed: why instanceof Error ? why.message : why }),
);
const text = doc.getText("text");
const awareness = shareCursors(doc, room);
const resets: string[] = [];
room.onReset(({ reason }) => {
  resets.push(reason);
  tell({ reset: reason });
});
/** Who has sent so many updates, ours among them. */
const updates: Record<string, number> = {};
room.on("doc.update", ({ from }: Event) => (updates[from!] = (updates[from!] ?? 0) + 1));

/** So many updates were given to the client. */
let asked = 0;
const request = room.request.bind(room);
room.request = <T,>(event: string, data: unknown) => {
  asked += 1;
  tell({ asked });
  return request<T>(event, data);
};

/** Writes a letter somewhere, and now and then takes one of its own away again. */
function write(letter: string, own: string[], erased: string[]): void {
  text.insert(Math.floor(Math.random() * (text.length + 1)), letter);
  own.push(letter);
  if (Math.random() > 0.2) return;
  const [again] = own.splice(Math.floor(Math.random() * own.length), 1);
  text.delete(text.toString().indexOf(again!), 1);
  erased.push(again!);
}

const orders: Record<string, (order: any) => unknown> = {
  /** Types letter by letter, as fast as is asked, and says after each that it has. */
  async type({ letters, pauseMsMax }) {
    const own: string[] = [];
    const erased: string[] = [];
    for (const letter of letters as string) {
      write(letter, own, erased);
      tell({ typed: letter });
      if (pauseMsMax > 0) await new Promise((resolve) => setTimeout(resolve, Math.random() * pauseMsMax));
    }
    tell({ erased: erased.join("") });
  },
  paste: ({ text: pasted }) => text.insert(text.length, pasted),
  /** Says the text as soon as it has exactly these letters, in whichever order. */
  until({ letters }) {
    const look = () => {
      if (sorted(text.toString()) !== letters) return;
      doc.off("afterTransaction", look);
      tell({ text: text.toString() });
    };
    doc.on("afterTransaction", look);
    look();
  },
  store() {
    const stored = toStore();
    tell({ stored: stored && { ...stored, state: Buffer.from(stored.state).toString("base64") } });
  },
  /** From now on the application does not answer. */
  hold: () => (held = new Promise((resolve) => (release = resolve))),
  release: () => release(),
  moveOn: ({ ms }) => clock.moveOn(ms),
  point: ({ at }) => awareness.setLocalState({ at }),
  /** Says where the others are, as soon as somebody is where it is asked for. */
  see({ at }) {
    const look = () => {
      const others = [...awareness.getStates()].filter(([who]) => who !== doc.clientID).map(([, state]) => state.at);
      if (!others.includes(at)) return;
      awareness.off("change", look);
      tell({ seen: at });
    };
    awareness.on("change", look);
    look();
  },
  state: () => tell({ state: { asked, updates, resets, client: client.state } }),
};

createInterface({ input: process.stdin }).on("line", (line) => {
  const { order, ...rest } = JSON.parse(line) as { order: string };
  void orders[order]!(rest);
});
tell({ open: text.toString() });
