/** Who somebody is: a name and a password, then a cookie that is signed, so that no session is stored. */

import { createHmac, randomBytes, scrypt, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";

import type { RequestHandler, Response } from "express";

import type { Database } from "./database.ts";

const COOKIE = "dashboard";
const COOKIE_MAX_AGE_S = 30 * 24 * 60 * 60;
const derive = promisify<string, Buffer, number, Buffer>(scrypt);

async function hashOf(password: string, salt = randomBytes(16)): Promise<string> {
  return `${salt.toString("base64url")}.${(await derive(password, salt, 32)).toString("base64url")}`;
}

async function isRight(password: string, hash: string): Promise<boolean> {
  const again = await hashOf(password, Buffer.from(hash.split(".")[0]!, "base64url"));
  return timingSafeEqual(Buffer.from(again), Buffer.from(hash));
}

/** Who asks, behind `required`. */
export const userOf = (response: Response): string => response.locals.user as string;

export class Login {
  readonly #database: Database;
  readonly #key: Buffer;

  /** The cookie's key comes from the application's one secret. */
  constructor(database: Database, secret: string) {
    this.#database = database;
    this.#key = createHmac("sha256", secret).update("dashboard cookie v1").digest();
  }

  #signature(text: string): string {
    return createHmac("sha256", this.#key).update(text).digest("base64url");
  }

  /** A name that nobody has is signed up, else its password has to be right. */
  readonly enter: RequestHandler = async (request, response) => {
    const { name, password } = (request.body ?? {}) as { name?: unknown; password?: unknown };
    if (typeof name !== "string" || !/^[A-Za-z0-9_.-]{1,32}$/.test(name))
      return void response.status(400).send("a name has 1 to 32 letters, digits, _ . or -");
    if (typeof password !== "string" || password.length < 1 || password.length > 128)
      return void response.status(400).send("a password has 1 to 128 characters");
    const hash = await hashOf(password);
    const isGood = this.#database.signUp(name, hash) || (await isRight(password, this.#database.passwordOf(name)!));
    if (!isGood) return void response.status(401).send("this name has another password");
    const text = `${name}~${Math.floor(Date.now() / 1000) + COOKIE_MAX_AGE_S}`;
    response.cookie(COOKIE, `${text}~${this.#signature(text)}`, {
      httpOnly: true,
      sameSite: "strict",
      maxAge: COOKIE_MAX_AGE_S * 1000,
    });
    response.sendStatus(204);
  };

  /** Goes on with a user; 401 without one. */
  readonly required: RequestHandler = (request, response, next) => {
    const cookie = /(?:^|; )dashboard=([A-Za-z0-9_.~%-]*)/.exec(request.headers.cookie ?? "")?.[1] ?? "";
    const [name, until, signature = ""] = cookie.replaceAll("%7E", "~").split("~");
    const expected = Buffer.from(this.#signature(`${name}~${until}`));
    const given = Buffer.from(signature);
    const isGood =
      given.length === expected.length && timingSafeEqual(given, expected) && Number(until) > Date.now() / 1000;
    if (!isGood) return void response.status(401).send("log in first");
    response.locals.user = name;
    next();
  };
}
