/** The application: its routes. What is real-time is in `ws/`, and mounted here as one router. */

import { fileURLToPath } from "node:url";

import express, { type Express, type RequestHandler } from "express";

import { roomOf } from "../ws/rooms.ts";
import type { Realtime } from "../ws/server.ts";
import type { Database } from "./database.ts";
import { type Login, userOf } from "./login.ts";

/** That a page begins with. */
const SAMPLES_MAX = 1000;

const folder = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export function createApp(parts: { database: Database; login: Login; realtime: Realtime }): Express {
  const { database, login, realtime } = parts;
  const app = express();
  app.disable("x-powered-by");
  app.use(express.json());
  app.use(express.static(folder("../page")));
  app.use("/tidings-client", express.static(folder("../node_modules/tidings-client/dist/esm")));
  app.use(realtime.router);
  app.post("/login", login.enter);
  app.use(login.required);

  /** Only who may watch the board goes on. */
  const watcher: RequestHandler = (request, response, next) => {
    if (database.boardsOf(userOf(response)).includes(String(request.params.board))) return next();
    response.status(403).send("this board is not yours to watch");
  };

  app.get("/me", (_request, response) => {
    const user = userOf(response);
    response.json({ user, boards: database.boardsOf(user).map((name) => ({ name, room: roomOf(name) })) });
  });

  app.get("/boards/:board/samples", watcher, (request, response) => {
    response.json({ samples: database.samples(String(request.params.board), SAMPLES_MAX) });
  });

  app.put("/boards/:board/watchers/:user", watcher, async (request, response) => {
    const { board, user } = request.params as { board: string; user: string };
    if (!database.passwordOf(user)) return void response.status(404).send("there is no such user");
    await realtime.rooms.addUser(user, roomOf(board));
    response.sendStatus(204);
  });

  app.delete("/boards/:board/watchers/:user", watcher, async (request, response) => {
    const { board, user } = request.params as { board: string; user: string };
    await realtime.rooms.removeUser(user, roomOf(board));
    response.sendStatus(204);
  });

  return app;
}
