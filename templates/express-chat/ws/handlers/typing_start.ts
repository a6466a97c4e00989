/** Somebody types: the others see it, and nothing is stored (`ephemeral` in tidings.toml). */

import { channelOf } from "../rooms.ts";
import type { EventHandler } from "./index.ts";

export const typingStart: EventHandler = ({ user, room }) => {
  // Refuses where there are no others.
  channelOf(room);
  return { broadcast: [{ event: "typing.start", data: { user }, to_others: true }] };
};
