/** The application: its routes. What is real-time is in `ws/`, and mounted here as one router. */

import { fileURLToPath } from "node:url";

import express, { type Express, type RequestHandler } from "express";

import { roomOf } from "../ws/rooms.ts";
import type { Realtime } from "../ws/server.ts";
import type { Database } from "./database.ts";
import { type Login, userOf } from "./login.ts";

const MESSAGES_MAX = 200;
const CHANNEL_NAME_MAX = 64;

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
  app.post("/logout", login.leave);
  app.use(login.required);

  /** Only a member goes on. */
  const member: RequestHandler = (request, response, next) => {
    if (database.isMember(Number(request.params.channel), userOf(response))) return next();
    response.status(403).send("you are not a member of this channel");
  };

  app.get("/me", (_request, response) => {
    const user = userOf(response);
    const channels = database.channelsOf(user).map(({ id, name }) => ({ id, name, room: roomOf(id) }));
    response.json({ user, channels });
  });

  app.get("/channels/:channel/messages", member, (request, response) => {
    response.json({ messages: database.messages(Number(request.params.channel), MESSAGES_MAX) });
  });

  app.post("/channels", async (request, response) => {
    const name = String(request.body?.name ?? "")
      .trim()
      .slice(0, CHANNEL_NAME_MAX);
    if (!name) return void response.status(400).send("a channel has a name");
    const id = database.createChannel(name);
    await realtime.rooms.addUser(userOf(response), roomOf(id));
    response.status(201).json({ id, name, room: roomOf(id) });
  });

  app.put("/channels/:channel/members/:user", member, async (request, response) => {
    const { channel, user } = request.params as { channel: string; user: string };
    if (!database.passwordOf(user)) return void response.status(404).send("there is no such user");
    await realtime.rooms.addUser(user, roomOf(Number(channel)));
    response.sendStatus(204);
  });

  app.delete("/channels/:channel/members/:user", member, async (request, response) => {
    const { channel, user } = request.params as { channel: string; user: string };
    await realtime.rooms.removeUser(user, roomOf(Number(channel)));
    response.sendStatus(204);
  });

  return app;
}
