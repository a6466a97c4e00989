/** The client of Tidings. `Client` is the way in. */

export { Backoff } from "./backoff.ts";
export { Client, type ClientOptions, type Unsettled } from "./client.ts";
export type { ConnectionFault, State, TokenProvider } from "./connection.ts";
export type { Unsubscribe } from "./listeners.ts";
export { RequestError, type OutboxStorage, type Request } from "./outbox.ts";
export { Presence, type Members } from "./presence.ts";
export type { Event, Joined, Member, MembersPage, Reset, ResetReason } from "./protocol.ts";
export { Room, type CaughtUp } from "./room.ts";
