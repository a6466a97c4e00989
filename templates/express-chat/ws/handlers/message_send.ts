/** A message: stored, then published. One that comes again under its id is the one that is stored. */

import { channelOf } from "../rooms.ts";
import type { EventHandler } from "./index.ts";

export const messageSend: EventHandler = ({ user, room, data, id }, database) => {
  const { content } = data as { content: string };
  const message = database.store(channelOf(room), user, content, id);
  return { ack: message, broadcast: [{ event: "message.send", data: message }] };
};
