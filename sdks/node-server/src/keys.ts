/** The secret that signs the tokens, and what is derived from it: a backend has one secret to keep. */

import { createHmac, randomUUID } from "node:crypto";

const SECRET_BYTES_MIN = 32;
/** In seconds. A page asks for another token at every connect, so an hour is long. */
const EXPIRES_IN_S = 3600;

export interface TokenOptions {
  /** Who it is for: the token's `sub`. */
  readonly user: string;
  /** The rooms that he is a member of, and is joined to on connect. */
  readonly rooms?: readonly string[];
  /** Claims of your own, which handlers, webhooks and rules see; `aud` if the server's is not `tidings`. */
  readonly claims?: Readonly<Record<string, unknown>>;
  /** In seconds: 3600, if unset. */
  readonly expiresIn?: number;
}

/** A secret that no log shows: it is in no property. */
export class Secret {
  readonly #bytes: Buffer;

  constructor(secret: string | Uint8Array) {
    // Editors and `openssl rand` end a file with a line break that the server leaves out too.
    this.#bytes = Buffer.from(typeof secret === "string" ? secret.replace(/[\r\n]+$/, "") : secret);
    if (this.#bytes.length < SECRET_BYTES_MIN)
      throw new TypeError(
        `the secret has ${this.#bytes.length} bytes and needs ${SECRET_BYTES_MIN}: openssl rand -hex 32 > tidings.secret`,
      );
  }

  #derived(purpose: string): Buffer {
    return createHmac("sha256", this.#bytes).update(purpose).digest();
  }

  /** The key of the HTTP API, as `tidings key` prints it. */
  get apiKey(): string {
    return this.#derived("tidings api key v1").toString("hex");
  }

  /** What webhooks are signed with, where the server has no `secret_file` for them. */
  get webhookKey(): Buffer {
    return this.#derived("tidings webhook v1");
  }

  /** A token that the server believes. Its `jti` and `iat` are what it can be revoked by. */
  mint({ user, rooms, claims, expiresIn = EXPIRES_IN_S }: TokenOptions): string {
    if (typeof user !== "string" || user === "")
      throw new TypeError('a token is for a user: mintToken({ user: "ann" })');
    // A token without an end is none to the server, and JSON has no Infinity.
    if (!(expiresIn > 0 && expiresIn < Infinity)) throw new TypeError(`a token that expires in ${expiresIn} seconds is none`);
    const iat = Math.floor(Date.now() / 1000);
    const defaults = { aud: "tidings", jti: randomUUID() };
    const own = { sub: user, iat, exp: iat + Math.ceil(expiresIn), ...(rooms && { rooms }) };
    const signed = [
      { alg: "HS256", typ: "JWT" },
      { ...defaults, ...claims, ...own },
    ]
      .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
      .join(".");
    return `${signed}.${createHmac("sha256", this.#bytes).update(signed).digest("base64url")}`;
  }
}
