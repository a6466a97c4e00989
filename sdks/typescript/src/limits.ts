/** The client's limits and waits: what keeps it from waiting, keeping or asking for ever. */

// The connection.
/** Nothing was sent for so long: a heartbeat is due, because a browser's pongs can't be seen or caused. */
export const HEARTBEAT_AFTER_MS = 25_000;
/** Nothing was heard for so long: the connection is taken for dead. */
export const SILENCE_MAX_MS = 75_000;
/** From asking for a token to the welcome. */
export const CONNECT_MAX_MS = 20_000;
/** A connection that held this long makes the backoff start anew. */
export const STABLE_AFTER_MS = 60_000;
/** The shortest wait after a close for pressure (41xx). */
export const PRESSURE_WAIT_MIN_MS = 1_000;
/** The longest wait that a server can ask for: what it says is no reason to stay away for good. */
export const TOLD_WAIT_MAX_MS = 600_000;
/** So much may be on its way into the network (1 MiB) before what nobody waits for is no longer taken. */
export const BUFFERED_BYTES_MAX = 1_048_576;
/** A timer that is so much early is exact; more, and the clock was set back while it ran. */
export const EARLY_MAX_MS = 1_000;

// Requests.
/** How long a request may stay without an answer before it settles as unknown. */
export const GIVE_UP_AFTER_MS = 120_000;
/** The wait before what was refused for now is asked again, when the server named none; it grows with every refusal. */
export const RETRY_AFTER_MS = 1_000;
/** The longest of these waits: who asks who is in a room asks for as long as he listens. */
export const RETRY_AFTER_MAX_MS = 30_000;
/** So many requests of the application may wait, with so many bytes (4 MiB). */
export const REQUESTS_MAX = 256;
export const REQUEST_BYTES_MAX = 4_194_304;

// Presence.
/** As many members as a server gives at once. */
export const PAGE_MEMBERS = 1_000;
/** So many changes may wait for the list: with more of them it is asked for anew. */
export const WAITING_MAX = 4_096;
