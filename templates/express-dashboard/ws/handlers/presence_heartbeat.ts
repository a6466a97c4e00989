/** A page shows that somebody is there. Who is connected Tidings knows by itself; this is when he was last seen. */

import type { EventHandler } from "./index.ts";

export const handleHeartbeat: EventHandler = ({ user }, database) => {
  const at = Date.now();
  database.seen(user, at);
  return { ack: { seen_at: at } };
};
