/** Authentication is before the upgrade: a page shows the token that it gets here, and Tidings lets nobody in without one. */

import type { RequestHandler } from "express";
import type { Tidings } from "tidings-server-sdk";

import type { Database } from "../../src/database.ts";
import { userOf } from "../../src/login.ts";
import { roomOf } from "../rooms.ts";

/** In seconds. A page asks for another token at every connect. */
const TOKEN_EXPIRES_IN = 600;

/** Behind the login. His boards go with the token: whoever connects watches them at once, and no others. */
export function mintToken(tidings: Tidings, database: Database): RequestHandler {
  return (_request, response) => {
    const user = userOf(response);
    const rooms = database.boardsOf(user).map(roomOf);
    const token = tidings.mintToken({ user, rooms, expiresIn: TOKEN_EXPIRES_IN });
    response.set("cache-control", "no-store").json({ token });
  };
}
