/** Real-time rooms for this Express application: who may connect, the socket on its port, and what it tells its rooms. */

import { readFileSync } from "node:fs";

import { attach, Tidings } from "tidings-server-sdk";

/** In seconds. A page asks for another token at every connect. */
const TOKEN_EXPIRES_IN = 600;
const url = process.env.TIDINGS_URL ?? "http://127.0.0.1:7777";
const secret = readFileSync(process.env.TIDINGS_SECRET_FILE ?? "tidings.secret", "utf8").trim();

/** For the whole application: tidings.publish(room, event, data) and the rest of the HTTP API. */
export const tidings = new Tidings({ url, secret });

/** The route that a page gets its token from. `userOf(request)` is who is logged in, `roomsOf(user)` which rooms are his. */
export function tokenRoute(userOf, roomsOf) {
  return async (request, response, next) => {
    try {
      const known = await userOf(request);
      if (known === undefined || known === null || known === "") return response.status(401).send("log in first");
      const user = String(known);
      const token = tidings.mintToken({ user, rooms: await roomsOf(user), expiresIn: TOKEN_EXPIRES_IN });
      response.set("cache-control", "no-store").json({ token });
    } catch (error) {
      next(error);
    }
  };
}

/** The socket at /ws of the application's own http.Server. Call what it returns before `server.close()`. */
export function attachTo(server) {
  const attached = attach(server, { path: "/ws", url });
  return () => {
    attached.close();
    tidings.close();
  };
}
