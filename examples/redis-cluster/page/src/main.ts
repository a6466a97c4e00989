/** Six clients of one room, each led to some node: which node served what, and what every client has got. */

import { Client } from "../../../../sdks/typescript/src/index.ts";

const ROOM = "lobby";
const NAMES = ["Ada", "Bob", "Cleo", "Dan", "Eve", "Finn"];
const SAY_EVERY_MS = 1000;
const ASK_EVERY_MS = 500;
const ROWS = 12;

interface Node {
  name: string;
  address: string | null;
  led: number;
}

interface Said {
  text: string;
  through: string;
}

const element = <K extends keyof HTMLElementTagNameMap>(tag: K, text = ""): HTMLElementTagNameMap[K] =>
  Object.assign(document.createElement(tag), { textContent: text });

/** The name of a node in its colour. */
function named(node: string): HTMLElement {
  const name = element("span", node);
  name.className = "node";
  name.dataset.node = node;
  return name;
}

/** The events of the room, by id, with the nodes through which they came. */
class Log {
  readonly #body = document.getElementById("said")!;
  readonly #rows = new Map<string, { row: HTMLTableRowElement; through: Set<string> }>();

  add(id: string, said: Said, through: string): void {
    let entry = this.#rows.get(id);
    if (!entry) {
      const row = element("tr");
      const published = element("td");
      published.append(named(said.through));
      row.append(element("td", id.split("@")[1]), element("td", said.text), published, element("td"));
      this.#rows.set(id, (entry = { row, through: new Set() }));
      this.#body.prepend(row);
      while (this.#body.children.length > ROWS) this.#body.lastElementChild!.remove();
    }
    if (entry.through.has(through)) return;
    entry.through.add(through);
    entry.row.lastElementChild!.append(entry.through.size > 1 ? ", " : "", named(through));
  }
}

const log = new Log();
const sum = document.getElementById("sum")!;

/** One client, with its card. */
class Viewer {
  readonly name: string;
  readonly #client: Client;
  readonly #card = element("article");
  readonly #state = element("p", "connecting");
  readonly #count = element("p", "0 events");
  readonly #ids = new Set<string>();
  node = "?";
  events = 0;
  doubled = 0;
  resets = 0;

  constructor(name: string) {
    this.name = name;
    this.#card.className = "card";
    this.#card.append(element("strong", name), this.#state, this.#count);
    document.getElementById("clients")!.append(this.#card);
    const user = `${name}-${Math.random().toString(36).slice(2, 8)}`;
    this.#client = new Client("/ws", {
      token: async () => ((await (await fetch(`/token/${user}`)).json()) as { token: string }).token,
    });
    this.#client.onState((state) => {
      this.#card.dataset.state = state === "connected" ? "here" : "away";
      this.#state.textContent = state;
      if (state === "connected") void this.#ask();
    });
    const room = this.#client.room(ROOM);
    room.on<Said>("said", ({ id, data }) => this.#said(id!, data));
    room.onReset(() => (this.resets += 1));
  }

  /** Which node this connection was led to. */
  async #ask(): Promise<void> {
    const { node } = await this.#client.request<{ node: string }>("served_by", {});
    this.node = node;
    this.#card.dataset.node = node;
    this.#state.replaceChildren("at ", named(node));
  }

  #said(id: string, said: Said): void {
    if (this.#ids.has(id)) this.doubled += 1;
    this.#ids.add(id);
    this.events += 1;
    this.#count.textContent = `${this.events} events`;
    log.add(id, said, this.node);
  }

  async say(text: string): Promise<void> {
    await this.#client.request("say", { text });
  }
}

const viewers = NAMES.map((name) => new Viewer(name));

let said = 0;
let acked = 0;
setInterval(() => {
  const viewer = viewers[said % viewers.length]!;
  said += 1;
  void viewer.say(`${viewer.name} says ${said}`).then(() => (acked += 1));
}, SAY_EVERY_MS);

const cards = new Map<string, { card: HTMLElement; state: HTMLElement; kill: HTMLButtonElement }>();

function show({ name, address, led }: Node): void {
  let entry = cards.get(name);
  if (!entry) {
    const card = element("article");
    card.className = "card";
    card.dataset.node = name;
    const state = element("p");
    const kill = element("button", "kill -9");
    kill.setAttribute("aria-label", `kill node ${name}`);
    kill.addEventListener("click", () => {
      kill.disabled = true;
      void fetch(`/nodes/${name}/kill`, { method: "POST" });
    });
    card.append(element("strong", `Node ${name}`), state, kill);
    cards.set(name, (entry = { card, state, kill }));
    document.getElementById("nodes")!.append(card);
  }
  const here = viewers.filter((viewer) => viewer.node === name).length;
  entry.card.dataset.state = address === null ? "away" : "here";
  entry.state.textContent = address === null ? "killed; it comes back in a moment" : `${here} clients here, ${led} connections so far`;
  entry.kill.disabled = address === null;
}

setInterval(async () => {
  const answer = await fetch("/nodes");
  ((await answer.json()) as Node[]).forEach(show);
  const total = (of: (viewer: Viewer) => number) => viewers.reduce((sum, viewer) => sum + of(viewer), 0);
  const fewest = Math.min(...viewers.map((viewer) => viewer.events));
  sum.textContent = `${acked} acked; every client has at least ${fewest}; ${total((viewer) => viewer.doubled)} doubled, ${total((viewer) => viewer.resets)} resets`;
  Object.assign(sum.dataset, { acked, fewest, doubled: total((viewer) => viewer.doubled), resets: total((viewer) => viewer.resets) });
}, ASK_EVERY_MS);
