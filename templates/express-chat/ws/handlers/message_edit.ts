/** An edit, by whoever wrote it. */

import { channelOf } from "../rooms.ts";
import type { EventHandler } from "./index.ts";

export const messageEdit: EventHandler = ({ user, room, data }, database) => {
  const { seq, content } = data as { seq: number; content: string };
  const message = database.edit(channelOf(room), seq, user, content);
  if (!message) return { error: { code: "forbidden", message: "only your own messages can be edited" } };
  return { ack: message, broadcast: [{ event: "message.edit", data: message }] };
};
