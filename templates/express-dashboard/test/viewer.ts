/** Somebody with a browser: he is logged in, asks the application, and sees what is sampled. */

import { Client } from "tidings-client";
import { WebSocket } from "ws";

import type { Sample } from "../src/machine.ts";

export const ROOM = "board:machine";

export class Viewer {
  readonly address: string;
  readonly name: string;
  readonly seen: Sample[] = [];
  /** How often he was told to load anew. */
  resets = 0;
  client!: Client<{ sample: Sample }>;
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

  async ask<Body>(path: string, method = "GET"): Promise<{ status: number; body: Body }> {
    const answer = await this.#fetch(path, method);
    const text = await answer.text();
    return { status: answer.status, body: (text.startsWith("{") ? JSON.parse(text) : text) as Body };
  }

  async token(): Promise<string> {
    return (await this.ask<{ token: string }>("/token")).body.token;
  }

  async stored(): Promise<Sample[]> {
    return (await this.ask<{ samples: Sample[] }>("/boards/machine/samples")).body.samples;
  }

  /** Connects, and notes what he sees. */
  async connect(): Promise<void> {
    const url = `${this.address.replace("http", "ws")}/ws`;
    this.client = new Client(url, { WebSocket: WebSocket as never, token: () => this.token() });
    const room = this.client.room(ROOM);
    room.on("sample", ({ data }) => {
      this.seen.push(data);
      this.#changed();
    });
    room.onReset(() => {
      this.resets += 1;
      this.#changed();
    });
    await room.join();
  }

  /** Resolves when this holds of what he has seen. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await new Promise<void>((resolve) => (this.#changed = resolve));
  }

  #fetch(path: string, method: string, body?: unknown): Promise<Response> {
    const headers = { "content-type": "application/json", cookie: this.#cookie };
    return fetch(this.address + path, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  }
}
