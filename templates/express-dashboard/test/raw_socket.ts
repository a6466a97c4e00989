/** A WebSocket without an SDK: everything that comes. */

import { WebSocket } from "ws";

import { ROOM, type Viewer } from "./viewer.ts";

type Message = Readonly<Record<string, any>>;

export class RawSocket {
  readonly #socket: WebSocket;
  readonly #came: Message[] = [];
  #changed = () => {};

  constructor(url: string) {
    this.#socket = new WebSocket(url);
    this.#socket.on("message", (text) => {
      this.#came.push(JSON.parse(String(text)));
      this.#changed();
    });
  }

  static async of(viewer: Viewer): Promise<RawSocket> {
    return new RawSocket(`${viewer.address.replace("http", "ws")}/ws?token=${await viewer.token()}`);
  }

  /** So many of them, as soon as they are there. */
  async these(event: string, count: number): Promise<Message[]> {
    for (;;) {
      const found = this.#came.filter((message) => message.event === event);
      if (found.length >= count) return found.slice(0, count);
      await new Promise<void>((resolve) => (this.#changed = resolve));
    }
  }

  async first(event: string): Promise<Message> {
    return (await this.these(event, 1))[0]!;
  }

  all(event: string): unknown[] {
    return this.#came.filter((message) => message.event === event).map(({ data }) => data);
  }

  heartbeat(): void {
    this.#socket.send(JSON.stringify({ event: "presence.heartbeat", room: ROOM, data: null, id: "heartbeat-1" }));
  }

  close(): void {
    this.#socket.close();
  }
}
