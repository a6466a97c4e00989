/** A client in a simulated world, up to its first welcome, and what its server says to it. */

import { Client, type ClientOptions } from "../src/client.ts";
import { simulatedWorld } from "./world.ts";

export const URL_OF_SERVER = "ws://server/ws";

/** A client whose first connection is welcomed. */
export async function connected(options: ClientOptions = {}, welcome: object = {}) {
  const simulation = simulatedWorld();
  const client = new Client(URL_OF_SERVER, { ...options, world: simulation.world });
  await simulation.clock.advance(0);
  simulation.socket.welcome(welcome);
  const { clock } = simulation;
  const sent = () => simulation.socket.next() as { event: string; id: string; room?: string; data?: any } | undefined;
  const next = async () => {
    const before = simulation.sockets.length;
    while (simulation.sockets.length === before) await clock.advance(500);
  };
  const ack = (id: string | undefined, data: unknown = null) => simulation.socket.receive({ event: "ack", id, data });
  const joined = (room: string, offset: number) => ({
    recovery: "fresh",
    last_event_id: `${room}@k3f9a1qz.${offset}`,
    top: `${room}@k3f9a1qz.${offset}`,
    members: 1,
  });
  /** Joins a room and answers. */
  const join = async (name: string, offset = 0) => {
    const join = client.join(name);
    ack(sent()?.id, joined(name, offset));
    const room = await join;
    await clock.advance(1);
    return room;
  };
  return { simulation, clock, client, sent, next, ack, joined, join };
}
