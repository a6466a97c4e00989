/** A stand-in for Tidings' HTTP API, as `docs/http-api.md` has it, which can be made to fail. It keeps what it was asked. */

import { createHmac } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";

export const SECRET = "canary-bird of the tests of the server SDK";
const KEY = createHmac("sha256", SECRET).update("tidings api key v1").digest("hex");

/** What the next request gets instead of its answer: a status, or the end of its connection before or after it was served. */
export type Fault = { status: number; retryAfter?: string; body?: string } | "lost before" | "lost after" | "silence";

interface Stored {
  readonly body: string;
  readonly event_id: string | null;
}

export class StandIn {
  readonly url: string;
  readonly faults: Fault[] = [];
  /** Every request, as `METHOD path`. */
  readonly asked: string[] = [];
  /** What each published event had, by the room. */
  readonly events: { room: string; body: Record<string, unknown>; key: string | undefined }[] = [];
  readonly sockets = new Set<Socket>();
  /** The most that were open at a time. */
  socketsMax = 0;
  /** Requests are answered once this is resolved. */
  gate: Promise<unknown> = Promise.resolve();
  readonly #server: Server;
  readonly #keys = new Map<string, Stored>();

  private constructor(server: Server) {
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const open = new Set<Socket>();
    server.on("connection", (socket) => {
      this.sockets.add(socket);
      open.add(socket);
      this.socketsMax = Math.max(this.socketsMax, open.size);
      socket.on("close", () => open.delete(socket));
    });
    server.on("request", (request, response) => void this.#serve(request, response));
  }

  static async start(): Promise<StandIn> {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    return new StandIn(server);
  }

  async end(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    this.asked.push(`${request.method} ${request.url}`);
    await this.gate;
    const fault = this.faults.shift();
    if (fault === "silence") return;
    if (fault === "lost before") return void request.socket.destroy();
    if (typeof fault === "object") {
      const headers: Record<string, string> = {
        "content-type": fault.body ? "text/plain" : "application/problem+json",
      };
      if (fault.retryAfter) headers["retry-after"] = fault.retryAfter;
      response.writeHead(fault.status, headers);
      const code = fault.status === 429 ? "rate_limited" : "unavailable";
      return void response.end(fault.body ?? JSON.stringify({ status: fault.status, code, detail: "not now" }));
    }
    const [status, answer] = this.#answer(request, Buffer.concat(chunks).toString());
    if (fault === "lost after") return void request.socket.destroy();
    const type = status < 300 ? "application/json" : "application/problem+json";
    response.writeHead(status, { "content-type": type, "x-request-id": "req-1" }).end(JSON.stringify(answer));
  }

  #answer(request: IncomingMessage, text: string): [number, object] {
    const problem = (status: number, code: string, fix: string): [number, object] => [
      status,
      { type: "about:blank", title: code, status, detail: `it is ${code}`, code, fix, request_id: "req-1" },
    ];
    if (request.headers.authorization !== `Bearer ${KEY}`) return problem(401, "key_unknown", "tidings key prints it");
    const url = new URL(request.url!, this.url);
    const [version, kind, ...parts] = url.pathname.split("/").slice(1).map(decodeURIComponent);
    if (version !== "v1") return problem(404, "not_found", "/v1");
    const asked = `${request.method} ${[kind, ...parts.map((part, index) => (index % 2 ? part : "*"))].join("/")}`;
    switch (asked) {
      case "POST rooms/*/events":
      case "POST users/*/events": {
        const room = kind === "users" ? `user:${parts[0]}` : parts[0]!;
        if (!room.includes(":")) return problem(404, "unknown_room", "name it in [[rooms]]");
        return this.#publish(
          room,
          JSON.parse(text) as Record<string, unknown>,
          request.headers["idempotency-key"]?.toString(),
        );
      }
      case "POST batch": {
        const { events } = JSON.parse(text) as {
          events: ({ room?: string; user?: string; idempotency_key?: string } & Record<string, unknown>)[];
        };
        const results = events.map(({ room, user, idempotency_key, ...event }) => {
          const [status, answer] = this.#publish(room ?? `user:${user}`, event, idempotency_key);
          return status === 200 ? answer : { error: answer };
        });
        return [200, { results }];
      }
      case "GET rooms/*/members":
        return [200, { members: [{ user: "ann", info: null }], next: `${parts[0]}?${url.searchParams}` }];
      case "GET rooms/*/events":
        return [200, { events: this.events.filter(({ room }) => room === parts[0]).map(({ body }) => body) }];
      case "GET users/*/rooms":
        return [200, { rooms: ["chat:lobby"] }];
      case "POST users/*/disconnect":
      case "POST users/*/revoke":
        return [200, { connections: 2 }];
      case "PUT users/*/rooms/*":
      case "DELETE users/*/rooms/*":
        return [200, { connections: 1 }];
      default:
        return problem(404, "not_found", "docs/http-api.md has the routes");
    }
  }

  #publish(room: string, body: Record<string, unknown>, key: string | undefined): [number, object] {
    const text = JSON.stringify(body);
    const before = key === undefined ? undefined : this.#keys.get(key);
    if (before && before.body !== text)
      return [409, { status: 409, code: "idempotency_conflict", detail: "the same key, another body" }];
    if (before) return [200, { event_id: before.event_id, duplicate: true }];
    this.events.push({ room, body, key });
    const event_id = body.ephemeral ? null : `${room}@k3f9a1qz.${this.events.length}`;
    if (key !== undefined) this.#keys.set(key, { body: text, event_id });
    return [200, { event_id, duplicate: false }];
  }
}
