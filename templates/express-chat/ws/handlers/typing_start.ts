/** Somebody types: the others see it, and nothing is stored (`ephemeral` in tidings.toml). */

import type { EventHandler } from "./index.ts";

export const typingStart: EventHandler = ({ user }) => ({
  broadcast: [{ event: "typing.start", data: { user }, to_others: true }],
});
