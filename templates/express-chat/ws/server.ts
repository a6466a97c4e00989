/** What is real-time, put together: the token, the webhooks, and Tidings' WebSocket on the application's own port. */

import type { Server } from "node:http";

import { Router } from "express";
import { attach, Tidings } from "tidings-server-sdk";

import type { Database } from "../src/database.ts";
import type { Login } from "../src/login.ts";
import { eventHandlers } from "./handlers/index.ts";
import { mintToken } from "./middleware/auth.ts";
import { NoChannel, RoomManager } from "./rooms.ts";

export interface Realtime {
  readonly router: Router;
  readonly rooms: RoomManager;
  /** Serves `/ws` of this server. */
  attach(server: Server): void;
  close(): void;
}

export function createRealtime(parts: { url: string; secret: string; database: Database; login: Login }): Realtime {
  const { url, secret, database, login } = parts;
  const tidings = new Tidings({ url, secret });
  const rooms = new RoomManager(tidings, database);
  const webhooks = tidings.webhooks({
    event: (call) => {
      rooms.connected(call.session, call.user);
      const handler = eventHandlers[call.event];
      if (!handler) return { error: { code: "unknown_event", message: `nothing serves ${call.event}` } };
      try {
        return handler(call, database);
      } catch (error) {
        // Any other error is a 500, and the page tries again.
        if (error instanceof NoChannel) return { error: { code: "invalid", message: error.message } };
        throw error;
      }
    },
    disconnect: ({ session }) => rooms.disconnected(session),
  });
  const router = Router();
  router.get("/token", login.required, mintToken(tidings, database));
  router.post("/tidings", webhooks.handler);
  let attached: { close(): void } | null = null;
  return {
    router,
    rooms,
    attach: (server) => (attached = attach(server, { path: "/ws", url })),
    close: () => {
      attached?.close();
      tidings.close();
    },
  };
}
