/** A real server for the client's tests: anybody may do anything, as fast as a soak wants if nothing else is said. */

import { ServerProcess } from "../../../../pages/test/servers.ts";

const config = (allowedOrigins: readonly string[], limits: string) => `
allowed_origins = ${JSON.stringify(allowedOrigins)}

[auth]
secret_file = "secret"

[[rooms]]
pattern = "*"
join = "anyone"
publish = "anyone"
any_event = true
ephemeral = ["typing"]
${limits}`;

const FAST = `
[limits]
messages_per_second = 100000
messages_burst = 100000
messages_per_second_per_user = 100000
idempotency_ids_per_user_max = 1000000
`;

export { mint, Network, ServerProcess } from "../../../../pages/test/servers.ts";

/** Pages of these origins may connect, its drain takes so long, and its limits are these: none for those of a new server. */
export function startServer({ allowedOrigins = [] as string[], drainWindow = "1s", limits = FAST } = {}): Promise<ServerProcess> {
  return ServerProcess.configured(config(allowedOrigins, limits), "--drain-window", drainWindow);
}

export const socketOf = ({ port }: { port: number }): string => `ws://127.0.0.1:${port}/ws`;
