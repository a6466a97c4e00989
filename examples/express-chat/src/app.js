/** The application: its routes. It is Express as ever; Tidings is asked where something is to be seen at once. */

import { fileURLToPath } from "node:url";

import express from "express";

import { Login } from "./login.js";
import { Publisher, roomOf } from "./publisher.js";

const MESSAGES_MAX = 200;
const CONTENT_MAX = 4000;
/** In seconds. A page asks for another token at every connect. */
const TOKEN_EXPIRES_IN = 600;

const folder = (path) => fileURLToPath(new URL(path, import.meta.url));

export function createApp({ database, tidings, secret }) {
  const login = new Login(database, secret);
  const publisher = new Publisher(database, tidings);
  const app = express();
  app.disable("x-powered-by");
  app.use(express.json());
  app.use(express.static(folder("../page")));
  app.use("/tidings-client", express.static(folder("../node_modules/tidings-client/dist/esm")));
  app.post("/login", login.enter);
  app.post("/logout", login.leave);
  app.use(login.required);

  /** Only a member goes on. */
  const member = (request, response, next) => {
    if (database.isMember(request.params.channel, request.user)) return next();
    response.status(403).send("you are not a member of this channel");
  };

  app.get("/me", (request, response) => {
    const channels = database.channelsOf(request.user).map(({ id, name }) => ({ id, name, room: roomOf(id) }));
    response.json({ user: request.user, channels });
  });

  // The memberships go with the token: whoever connects is in his rooms at once, and in no others.
  app.get("/token", ({ user }, response) => {
    const rooms = database.channelsOf(user).map(({ id }) => roomOf(id));
    response
      .set("cache-control", "no-store")
      .json({ token: tidings.mintToken({ user, rooms, expiresIn: TOKEN_EXPIRES_IN }) });
  });

  app.get("/channels/:channel/messages", member, ({ params }, response) => {
    response.json({ messages: database.messages(params.channel, MESSAGES_MAX) });
  });

  // Stored, then published: what was stored is published even if Tidings is away, or this process ends in between.
  app.post("/channels/:channel/messages", member, ({ params, user, body }, response) => {
    const { id, content } = body ?? {};
    if (typeof content !== "string" || content.trim() === "" || content.length > CONTENT_MAX)
      return response.status(400).send(`a message has 1 to ${CONTENT_MAX} characters`);
    if (typeof id !== "string" || !/^[!-~]{1,64}$/.test(id)) return response.status(400).send("a message needs an id of the page's");
    const message = database.store(params.channel, user, content, id);
    void publisher.publish();
    response.status(201).json(message);
  });

  app.post("/channels", ({ user, body }, response) => {
    const name = String(body?.name ?? "")
      .trim()
      .slice(0, 64);
    if (!name) return response.status(400).send("a channel has a name");
    const channel = database.createChannel(name, user);
    response.status(201).json({ ...channel, room: roomOf(channel.id) });
  });

  // The database says who is a member. His pages are told, on all his devices, and connect with what the token says then.
  app.put("/channels/:channel/members/:user", member, async ({ params }, response) => {
    if (!database.passwordOf(params.user)) return response.status(404).send("there is no such user");
    database.addMember(params.channel, params.user);
    await tidings.publishToUser(params.user, "channels.changed", { channel: params.channel });
    response.sendStatus(204);
  });

  // Whoever is taken out hears nothing more. A token that he has already lets him join again until it ends: ten minutes at most.
  app.delete("/channels/:channel/members/:user", member, async ({ params }, response) => {
    database.removeMember(params.channel, params.user);
    await tidings.leave(params.user, roomOf(params.channel));
    await tidings.publishToUser(params.user, "channels.changed", { channel: params.channel });
    response.sendStatus(204);
  });

  return { app, close: () => publisher.close() };
}
