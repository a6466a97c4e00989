/** Who somebody is: a name and a password, then a cookie that is signed, so that no session is stored. */

import { createHmac, randomBytes, scrypt, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";

const COOKIE = "chat";
const COOKIE_MAX_AGE_S = 30 * 24 * 60 * 60;
const derive = promisify(scrypt);

async function hashOf(password, salt = randomBytes(16)) {
  return `${salt.toString("base64url")}.${(await derive(password, salt, 32)).toString("base64url")}`;
}

async function isRight(password, hash) {
  const again = await hashOf(password, Buffer.from(hash.split(".")[0], "base64url"));
  return timingSafeEqual(Buffer.from(again), Buffer.from(hash));
}

export class Login {
  #database;
  #key;

  /** The cookie's key comes from the application's one secret. */
  constructor(database, secret) {
    this.#database = database;
    this.#key = createHmac("sha256", secret).update("express-chat cookie v1").digest();
  }

  #signature(text) {
    return createHmac("sha256", this.#key).update(text).digest("base64url");
  }

  /** A name that nobody has is signed up, else its password has to be right. */
  enter = async (request, response) => {
    const { name, password } = request.body ?? {};
    if (typeof name !== "string" || !/^[A-Za-z0-9_.-]{1,32}$/.test(name))
      return response.status(400).send("a name has 1 to 32 letters, digits, _ . or -");
    if (typeof password !== "string" || password.length < 1 || password.length > 128)
      return response.status(400).send("a password has 1 to 128 characters");
    const known = this.#database.passwordOf(name);
    const isGood = known ? await isRight(password, known) : this.#database.signUp(name, await hashOf(password));
    if (!isGood) return response.status(401).send("this name has another password");
    const text = `${name}~${Math.floor(Date.now() / 1000) + COOKIE_MAX_AGE_S}`;
    response.cookie(COOKIE, `${text}~${this.#signature(text)}`, {
      httpOnly: true,
      sameSite: "strict",
      maxAge: COOKIE_MAX_AGE_S * 1000,
    });
    response.sendStatus(204);
  };

  leave = (_request, response) => void response.clearCookie(COOKIE).sendStatus(204);

  /** Goes on with `request.user`; 401 without one. */
  required = (request, response, next) => {
    const cookie = /(?:^|; )chat=([A-Za-z0-9_.~%-]*)/.exec(request.headers.cookie ?? "")?.[1] ?? "";
    const [name, until, signature = ""] = cookie.replaceAll("%7E", "~").split("~");
    const expected = Buffer.from(this.#signature(`${name}~${until}`));
    const given = Buffer.from(signature);
    const isGood =
      given.length === expected.length && timingSafeEqual(given, expected) && Number(until) > Date.now() / 1000;
    if (!isGood) return response.status(401).send("log in first");
    request.user = name;
    next();
  };
}
