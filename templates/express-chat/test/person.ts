/** Somebody with a browser: he is logged in, asks the application, and hears what is said. */

import { Client } from "tidings-client";
import { WebSocket } from "ws";

import type { Message } from "../src/database.ts";

interface Events {
  "message.send": Message;
  "message.edit": Message;
  "typing.start": { user: string };
  "channels.changed": { room: string };
}

export class Person {
  readonly address: string;
  readonly name: string;
  readonly heard: string[] = [];
  client!: Client<Events>;
  #cookie = "";
  #changed = () => {};

  constructor(address: string, name: string) {
    this.address = address;
    this.name = name;
  }

  async logIn(password = "canary-bird password"): Promise<number> {
    const answer = await this.#fetch("/login", "POST", { name: this.name, password });
    await answer.text();
    if (answer.ok) this.#cookie = answer.headers.get("set-cookie")!.split(";")[0]!;
    return answer.status;
  }

  async ask<Body>(path: string, method = "GET", body?: unknown): Promise<{ status: number; body: Body }> {
    const answer = await this.#fetch(path, method, body);
    const text = await answer.text();
    return { status: answer.status, body: (text.startsWith("{") ? JSON.parse(text) : text) as Body };
  }

  async stored(channel = 1): Promise<string[]> {
    const { body } = await this.ask<{ messages: Message[] }>(`/channels/${channel}/messages`);
    return body.messages.map(({ user, content }) => `${user}: ${content}`);
  }

  /** Connects, and notes what is said in these rooms, and its edits. */
  async connect(...rooms: string[]): Promise<void> {
    const token = async () => (await this.ask<{ token: string }>("/token")).body.token;
    const url = `${this.address.replace("http", "ws")}/ws`;
    this.client = new Client<Events>(url, { WebSocket: WebSocket as never, token });
    for (const name of rooms) {
      const room = this.client.room(name);
      room.on("message.send", ({ data }) => this.#note(`${data.user}: ${data.content}`));
      room.on("message.edit", ({ data }) => this.#note(`${data.user} edits: ${data.content}`));
      room.on("typing.start", ({ data }) => this.#note(`${data.user} types`));
    }
    await Promise.all(rooms.map((name) => this.client.join(name)));
  }

  say(content: string, room = "ch_1"): Promise<unknown> {
    return this.client.room(room).request("message.send", { content });
  }

  /** Resolves when he has heard this. */
  async hears(words: string): Promise<void> {
    while (!this.heard.includes(words)) await new Promise<void>((resolve) => (this.#changed = resolve));
  }

  #note(words: string): void {
    this.heard.push(words);
    this.#changed();
  }

  #fetch(path: string, method: string, body: unknown): Promise<Response> {
    const headers = { "content-type": "application/json", cookie: this.#cookie };
    return fetch(this.address + path, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  }
}
