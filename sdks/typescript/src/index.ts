/** The client of Tidings. `Client` is the way in. */

export { Client, type ClientOptions, type Unsettled } from "./client.ts";
export type { Clock } from "./clock.ts";
export type { Answer, ConnectionFault, Socket, State, TokenProvider, WebSocketClass, World } from "./connection.ts";
export type { Unsubscribe } from "./listeners.ts";
export { RequestError, type Request } from "./outbox.ts";
export { Presence, type Members } from "./presence.ts";
export type { Event, EventOf, Joined, Member, MembersPage, Reset, ResetReason } from "./protocol.ts";
export { Room, type CaughtUp } from "./room.ts";
export type { StorageSlot } from "./storage.ts";
