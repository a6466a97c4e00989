/** A message: stored, then published. One that comes again under its id is the one that is stored. */

import { channelOf } from "../rooms.ts";
import type { EventHandler } from "./index.ts";

export const messageSend: EventHandler = ({ user, room, data, id }, database) => {
  const channel = channelOf(room);
  const { content } = data as { content: string };
  // By which it is stored once, however often it comes.
  if (id === null) return { error: { code: "invalid", message: "a message has an id" } };
  const message = database.store(channel, user, content, id);
  return { ack: message, broadcast: [{ event: "message.send", data: message }] };
};
