/**
 * Requests to the HTTP API: a bounded pool of connections that are kept, and what did not arrive tried again.
 *
 * A request that may have been carried out is only ever sent again as the same one: whoever publishes gives it a key.
 */

import { Agent as PlainAgent, request as plainRequest, type IncomingMessage } from "node:http";
import { Agent as TlsAgent, request as tlsRequest } from "node:https";
import { setTimeout as pause } from "node:timers/promises";

/** So many times a request is sent. */
const TRIES_MAX = 5;
/** The wait before the second try is at most this long, and twice as long before each further one. */
const FIRST_BACKOFF_MS = 100;
/** A server that wants a longer pause than this is not waited for: the error says how long. */
const RETRY_AFTER_MAX_MS = 10_000;
/** Requests that wait for a connection or an answer. */
const REQUESTS_MAX = 1024;
/** Connections that nobody uses are closed before a server, or a proxy, usually does. */
const IDLE_MS = 4_000;

/** Why a request failed. `code` is for programs, `message` and `fix` for people. */
export class TidingsError extends Error {
  override readonly name = "TidingsError";
  /** The API's code (`docs/http-api.md`); or `unreachable`, `queue_full`, `closed`, `no_api` by this side. */
  readonly code: string;
  /** The HTTP status; null if there was no answer. */
  readonly status: number | null;
  /** What to do about it. */
  readonly fix: string | null;
  /** The request's name in the server's log. */
  readonly requestId: string | null;
  /** How long the server wants to be left alone. */
  readonly retryAfterMs: number | null;

  constructor(code: string, message: string, about: Partial<Omit<TidingsError, "code" | "message">> = {}) {
    super(message, about.cause === undefined ? undefined : { cause: about.cause });
    this.code = code;
    this.status = about.status ?? null;
    this.fix = about.fix ?? null;
    this.requestId = about.requestId ?? null;
    this.retryAfterMs = about.retryAfterMs ?? null;
  }

  /** Whether the same may work later. */
  get isPassing(): boolean {
    return this.code === "unreachable" || [429, 502, 503, 504].includes(this.status ?? 0);
  }
}

export interface RequestsOptions {
  readonly url: string;
  readonly key: string;
  /** How long to wait for an answer. */
  readonly timeoutMs: number;
  readonly connectionsMax: number;
}

export interface Call {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** The parts of the path behind `/v1`, not encoded. */
  readonly path: readonly string[];
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly body?: object;
  readonly idempotencyKey?: string;
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
}

export class Requests {
  readonly #base: URL;
  readonly #key: string;
  readonly #timeoutMs: number;
  readonly #agent: PlainAgent | TlsAgent;
  #underWay = 0;
  #isClosed = false;

  constructor({ url, key, timeoutMs, connectionsMax }: RequestsOptions) {
    this.#base = new URL(url);
    if (!["http:", "https:"].includes(this.#base.protocol)) throw new TypeError(`${url} is not http:// or https://`);
    this.#key = key;
    this.#timeoutMs = timeoutMs;
    const pool = { keepAlive: true, maxSockets: connectionsMax, maxFreeSockets: connectionsMax, timeout: IDLE_MS };
    this.#agent = this.#base.protocol === "https:" ? new TlsAgent(pool) : new PlainAgent(pool);
  }

  close(): void {
    this.#isClosed = true;
    this.#agent.destroy();
  }

  async send<Result>(call: Call): Promise<Result> {
    if (this.#underWay >= REQUESTS_MAX)
      throw new TidingsError("queue_full", `${REQUESTS_MAX} requests wait already`, {
        fix: "await what you publish, or send many events as one batch",
      });
    this.#underWay += 1;
    try {
      return await this.#tried<Result>(call);
    } finally {
      this.#underWay -= 1;
    }
  }

  async #tried<Result>(call: Call): Promise<Result> {
    for (let tries = 1; ; tries += 1) {
      if (this.#isClosed) throw new TidingsError("closed", "this client was closed");
      const answer = await this.#once(call).catch((error: unknown) => error as NodeJS.ErrnoException);
      if (!(answer instanceof Error) && answer.status < 300) return parsed(answer) as Result;
      const fault = answer instanceof Error ? this.#unreachable(answer) : failure(answer);
      const pleasedMs = fault.retryAfterMs ?? 0;
      if (!fault.isPassing || tries === TRIES_MAX || pleasedMs > RETRY_AFTER_MAX_MS) throw fault;
      await pause(Math.max(pleasedMs, Math.random() * FIRST_BACKOFF_MS * 2 ** (tries - 1)));
    }
  }

  #unreachable(error: NodeJS.ErrnoException): TidingsError {
    return new TidingsError("unreachable", `no answer from ${this.#base.origin}: ${error.code ?? error.message}`, {
      cause: error,
      fix: "see whether Tidings runs there; what was sent may have been done, and the same idempotencyKey makes it one",
    });
  }

  #once({ method, path, query, body, idempotencyKey }: Call): Promise<Answer> {
    const asked = new URLSearchParams();
    for (const [name, value] of Object.entries(query ?? {})) if (value !== undefined) asked.set(name, String(value));
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const options = {
      method,
      agent: this.#agent,
      hostname: this.#base.hostname.replace(/^\[|\]$/g, ""),
      port: this.#base.port,
      path: `${this.#base.pathname.replace(/\/$/, "")}/v1/${path.map(encodeURIComponent).join("/")}${asked.size ? `?${asked}` : ""}`,
      headers: {
        host: this.#base.host,
        authorization: `Bearer ${this.#key}`,
        accept: "application/json",
        ...(payload && { "content-type": "application/json", "content-length": payload.length }),
        ...(idempotencyKey !== undefined && { "idempotency-key": idempotencyKey }),
      },
    };
    return new Promise((resolve, reject) => {
      const send = this.#base.protocol === "https:" ? tlsRequest : plainRequest;
      const request = send(options, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () =>
          resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(chunks) }),
        );
      });
      request.on("error", reject);
      request.setTimeout(this.#timeoutMs, () => request.destroy(new Error(`silence for ${this.#timeoutMs} ms`)));
      request.end(payload);
    });
  }
}

function json(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString());
  } catch {
    return undefined;
  }
}

const notTheApi = (status: number) =>
  new TidingsError("no_api", `the answer (${status}) is not one of Tidings' HTTP API`, {
    status,
    fix: "url is where Tidings listens, without a path; its configuration has to have a key",
  });

function parsed({ status, body }: Answer): unknown {
  const value = json(body);
  if (value === undefined) throw notTheApi(status);
  return value;
}

function failure({ status, headers, body }: Answer): TidingsError {
  const problem = json(body) as
    { code?: unknown; title?: string; detail?: string; fix?: string; request_id?: string } | undefined;
  const seconds = Number(headers["retry-after"] ?? NaN);
  const retryAfterMs = Number.isFinite(seconds) ? seconds * 1000 : null;
  const requestId = problem?.request_id ?? headers["x-request-id"]?.toString() ?? null;
  // A proxy in between says it in its own words; what passes is worth another try all the same.
  if (typeof problem?.code !== "string") return Object.assign(notTheApi(status), { retryAfterMs, requestId });
  return new TidingsError(problem.code, problem.detail ?? problem.title ?? problem.code, {
    status,
    fix: problem.fix ?? null,
    requestId,
    retryAfterMs,
  });
}
