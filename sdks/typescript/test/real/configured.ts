/** A real server for the client's tests: anybody may do anything, as fast as a soak wants. */

import { ServerProcess } from "../../../../pages/test/servers.ts";

const CONFIG = `
[auth]
secret_file = "secret"

[[rooms]]
pattern = "*"
join = "anyone"
publish = "anyone"
any_event = true
ephemeral = ["typing"]

[limits]
messages_per_second = 100000
messages_burst = 100000
messages_per_second_per_user = 100000
`;

export { mint, Network, ServerProcess } from "../../../../pages/test/servers.ts";

export const startServer = (...options: string[]): Promise<ServerProcess> => ServerProcess.configured(CONFIG, ...options);

export const socketOf = ({ port }: { port: number }): string => `ws://127.0.0.1:${port}/ws`;
