/** What pages send, by its name: one file an event. Tidings has checked its schema, and that its sender is in the room. */

import type { EventAnswer, EventCall } from "tidings-server-sdk";

import type { Database } from "../../src/database.ts";
import { handleHeartbeat } from "./presence_heartbeat.ts";

/** Returns the ack, and what is published in the room. */
export type EventHandler = (call: EventCall, database: Database) => EventAnswer;

export const eventHandlers: Readonly<Record<string, EventHandler>> = {
  "presence.heartbeat": handleHeartbeat,
};
