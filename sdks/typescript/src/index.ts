/** The client of Tidings. `Client` is the way in. */

export { Backoff } from "./backoff.ts";
export { Client, type ClientOptions, type Request, type Unsettled } from "./client.ts";
export type { ConnectionFault, State, TokenProvider } from "./connection.ts";
export type { Unsubscribe } from "./listeners.ts";
export { RequestError, type OutboxStorage } from "./outbox.ts";
export { Presence, type Members } from "./presence.ts";
export type { Event, Joined, Member, Reset, ResetReason } from "./protocol.ts";
export { Room, type CaughtUp, type MembersPage } from "./room.ts";
