/**
 * Tidings' WebSocket on the application's own port: requests of one path go to Tidings, all others stay where they are.
 *
 * Tidings decides; what it answers arrives as it is. Nothing of a client's bytes goes there before it has said 101, so that
 * nobody can put a request of his own behind the one that was looked at.
 */

import {
  request as plainRequest,
  ServerResponse,
  type ClientRequest,
  type IncomingMessage,
  type Server,
} from "node:http";
import { request as tlsRequest, type Server as TlsServer } from "node:https";
import { isIP, Socket } from "node:net";
import type { Duplex } from "node:stream";

/** How long Tidings has for its answer. */
const ANSWER_MS = 10_000;
/** How long a side has to take what it has not read when the other has ended. */
const LINGER_MS = 10_000;
/** What concerns one connection only, and is not passed on. */
const HOP_BY_HOP = new Set([
  "connection",
  "http2-settings",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** What a Connection header says of an offer, with the comma that parts it from what follows. */
const OFFERS = /\b(upgrade|http2-settings)\b\s*,?/gi;
/** What belongs to a body. No request of the path has one for Tidings, and Node would write that of a GET unframed. */
const OF_A_BODY = new Set(["content-length", "expect"]);

export interface AttachOptions {
  /** The path that clients connect to; `/ws`, if unset. */
  readonly path?: string;
  /** Where Tidings listens; `http://127.0.0.1:7777`, if unset. Its WebSocket is at `/ws` there, or at the path of this URL. */
  readonly url?: string;
}

export interface Attached {
  /** WebSockets that are open. */
  readonly connections: number;
  /** Takes no more, and ends those that are open: before `server.close()`, which waits for them. Clients reconnect by themselves. */
  close(): void;
}

/** Hands a path of this server to Tidings: WebSockets, and the plain requests by which clients learn why they were refused. */
export function attach(
  server: Server | TlsServer,
  { path = "/ws", url = "http://127.0.0.1:7777" }: AttachOptions = {},
): Attached {
  const relay = new Relay(new URL(url), path);
  const isOurs = (request: IncomingMessage) => relay.isTaking && request.url?.split("?", 1)[0] === path;
  // The last response of each connection, which has that for itself until it is through.
  const responses = new WeakMap<Duplex, ServerResponse>();
  const takeRequest = (request: IncomingMessage, response: ServerResponse): boolean => {
    responses.set(request.socket, response);
    if (!isOurs(request)) return false;
    relay.request(request, response);
    return true;
  };
  const takeUpgrade = (request: IncomingMessage, socket: Socket, head: Buffer): boolean => {
    const before = responses.get(socket);
    if (before && !before.closed) {
      // Nobody else hears of its errors meanwhile, and an error that nobody hears ends the process.
      socket.on("error", () => socket.destroy());
      before.once("close", () => {
        // The time that a connection may wait for its next request is not meant for this one.
        if (!socket.destroyed) server.emit("upgrade", request, socket.setTimeout(0), head);
      });
      return true;
    }
    if (!isOurs(request)) return false;
    relay.upgrade(request, socket, head);
    return true;
  };
  // Before all listeners, those that come later too: a server of WebSockets, for one, refuses all paths but its own.
  const emit: (name: string, ...args: any[]) => boolean = server.emit;
  server.emit = (name: string, ...args: any[]) => {
    const [request, of, head] = args;
    const isTaken = name === "request" ? takeRequest(request, of) : name === "upgrade" && takeUpgrade(request, of, head);
    return isTaken || emit.call(server, name, ...args);
  };
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    // As Node does without anybody who upgrades; a listener of another path has it otherwise.
    if (server.listenerCount("upgrade") === 1) withoutOffer(server, request, socket, head);
  });
  return {
    get connections() {
      return relay.open.size;
    },
    close() {
      relay.isTaking = false;
      for (const end of relay.open) end();
    },
  };
}

class Relay {
  /** What ends each of the WebSockets that are open. */
  readonly open = new Set<() => void>();
  isTaking = true;
  readonly #url: URL;
  readonly #path: string;

  constructor(url: URL, path: string) {
    if (!["http:", "https:"].includes(url.protocol)) throw new TypeError(`${url} is not http:// or https://`);
    this.#url = url;
    this.#path = path;
  }

  request(request: IncomingMessage, response: ServerResponse): void {
    const outgoing = this.#forwarded(request, headersOf(request));
    outgoing.on("response", (answer) => answered(answer, response));
    outgoing.on("error", (error) => this.#unreachable(error, response));
    response.once("close", () => outgoing.destroy());
    outgoing.end();
    // To its end, behind which the connection's next request is.
    request.resume();
  }

  upgrade(request: IncomingMessage, client: Duplex, early: Buffer): void {
    const outgoing = this.#forwarded(request, {
      ...headersOf(request),
      connection: "Upgrade",
      upgrade: request.headers.upgrade ?? "websocket",
    });
    const gone = () => outgoing.destroy();
    client.once("close", gone);
    outgoing.on("upgrade", (answer, tidings, first) => {
      client.off("close", gone);
      // Closed while Tidings was asked.
      if (!this.isTaking) return void [client, tidings].forEach((socket) => socket.destroy());
      client.write(headOf(answer));
      if (first.length) client.write(first);
      if (early.length) tidings.write(early);
      this.#join(client, tidings);
    });
    // One, since an answer that has begun may still break off.
    let response: ServerResponse | undefined;
    const refusal = () => (response ??= plainly(request, client));
    outgoing.on("response", (answer) => answered(answer, refusal()));
    outgoing.on("error", (error) => this.#unreachable(error, refusal()));
    outgoing.end();
    client.on("error", () => client.destroy());
  }

  #forwarded(request: IncomingMessage, headers: Record<string, string[] | string>): ClientRequest {
    const send = this.#url.protocol === "https:" ? tlsRequest : plainRequest;
    const own = this.#url.pathname === "/" ? "/ws" : this.#url.pathname;
    const hostname = this.#url.hostname.replace(/^\[|\]$/g, "");
    const outgoing = send({
      agent: false,
      method: request.method,
      hostname,
      // Node takes it from Host, which is the client's.
      servername: isIP(hostname) ? "" : hostname,
      port: this.#url.port,
      path: own + request.url!.slice(this.#path.length),
      setHost: false,
      headers,
    });
    outgoing.setTimeout(ANSWER_MS, () => outgoing.destroy(new Error(`no answer within ${ANSWER_MS} ms`)));
    return outgoing;
  }

  /** Bytes go both ways from here on, each side being read only as fast as the other takes them. */
  #join(client: Duplex, tidings: Duplex): void {
    for (const socket of [client, tidings])
      if (socket instanceof Socket) socket.setTimeout(0).setNoDelay(true).setKeepAlive(true, 30_000);
    const end = () => {
      client.end();
      tidings.end();
    };
    this.open.add(end);
    client.pipe(tidings);
    tidings.pipe(client);
    let left = 2;
    for (const [socket, other] of [
      [client, tidings],
      [tidings, client],
    ] as const) {
      socket.on("error", () => socket.destroy());
      const closed = () => {
        left -= 1;
        if (left === 0) this.open.delete(end);
        // What was cut is cut for the other too; what ended has passed its end on, and the last words are on their way.
        else if (!socket.readableEnded) other.destroy();
        else {
          // What it still sends is for nobody, and it has to get through to the end.
          other.resume();
          setTimeout(() => other.destroy(), LINGER_MS).unref();
        }
      };
      if (socket.closed) closed();
      else socket.once("close", closed);
    }
  }

  #unreachable(error: Error, response: ServerResponse): void {
    if (response.headersSent) return void response.destroy();
    const problem = {
      type: "about:blank",
      title: "Bad Gateway",
      status: 502,
      detail: `Tidings does not answer at ${this.#url.origin}: ${(error as NodeJS.ErrnoException).code ?? error.message}`,
      code: "upstream_unreachable",
      fix: "start Tidings there, or give attach() the url at which it listens",
    };
    response.writeHead(502, { "content-type": "application/problem+json" }).end(JSON.stringify(problem));
  }
}

/** The request's own headers, Host among them, without those of a body, and whom it came from. */
function headersOf(request: IncomingMessage): Record<string, string[] | string> {
  const headers: Record<string, string[] | string> = {};
  const named = new Set((request.headers.connection ?? "").toLowerCase().split(/\s*,\s*/));
  for (const [name, values] of Object.entries(request.headersDistinct))
    if (values && !HOP_BY_HOP.has(name) && !OF_A_BODY.has(name) && !named.has(name))
      headers[name] = name === "host" ? values[0]! : values;
  const before = request.headers["x-forwarded-for"];
  const from = request.socket.remoteAddress;
  if (from) headers["x-forwarded-for"] = before ? `${before}, ${from}` : from;
  return headers;
}

function pairs({ rawHeaders }: IncomingMessage): [string, string][] {
  return rawHeaders.flatMap((name, index) => (index % 2 ? [] : [[name, rawHeaders[index + 1]!] as [string, string]]));
}

function headOf(answer: IncomingMessage): string {
  const lines = pairs(answer).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\n${lines.join("")}\r\n`;
}

function answered(answer: IncomingMessage, response: ServerResponse): void {
  // Before anything that this server would add: what Tidings says is all that is said.
  response.sendDate = false;
  const headers = new Map<string, string[]>();
  for (const [name, value] of pairs(answer))
    if (!HOP_BY_HOP.has(name.toLowerCase())) headers.set(name, [...(headers.get(name) ?? []), value]);
  for (const [name, values] of headers) response.setHeader(name, values.length === 1 ? values[0]! : values);
  response.writeHead(answer.statusCode!, answer.statusMessage);
  answer.on("error", () => response.destroy());
  answer.pipe(response);
}

/**
 * Gives a connection that was handed over for an upgrade back to the server, with the same request that offers none: its body
 * has not been read, and nobody else would.
 */
function withoutOffer(server: Server | TlsServer, request: IncomingMessage, socket: Duplex, head: Buffer): void {
  const lines = pairs(request)
    .filter(([name]) => !/^(upgrade|http2-settings)$/i.test(name))
    .map(([name, value]) => `${name}: ${/^connection$/i.test(name) ? value.replace(OFFERS, "") : value}\r\n`);
  const start = `${request.method} ${request.url} HTTP/${request.httpVersion}\r\n${lines.join("")}\r\n`;
  socket.unshift(Buffer.concat([Buffer.from(start, "latin1"), head]));
  server.emit("encrypted" in socket ? "secureConnection" : "connection", socket);
}

/** A response to a request whose socket was handed over for an upgrade. It ends the connection. */
function plainly(request: IncomingMessage, socket: Duplex): ServerResponse {
  const response = new ServerResponse(request);
  response.shouldKeepAlive = false;
  // A socket that Node has made for HTTP, or TLS over one.
  response.assignSocket(socket as Socket);
  response.once("finish", () => {
    response.detachSocket(socket as Socket);
    socket.end();
  });
  socket.on("error", () => socket.destroy());
  return response;
}
