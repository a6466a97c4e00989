/**
 * What the compiler has to accept, and what to refuse: `npm run check` is the test, since an error that is expected and
 * does not come is one. Nothing runs it.
 */
import { Client, type Event, type EventOf, type Request, type Room } from "tidings-client";
import { useClient, useRoom } from "tidings-client/react";
import { WebSocket as WebSocketOfWs } from "ws";

interface Events {
  say: { text: string };
  typing: null;
}

/** Compiles exactly if both are the same type. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(_: Same<A, B>) => {};

export function aMapTypesWhatComes(client: Client<Events>, room: Room<Events>): void {
  room.on("say", ({ data, from }) => {
    same<typeof data, { text: string }>(true);
    same<typeof from, string | null>(true);
  });
  client.on("typing", ({ data }) => same<typeof data, null>(true));
  room.on("say", (event: Event<{ text: string }>) => event.data.text);
  // @ts-expect-error: not in the map
  room.on("shout", () => {});
  // @ts-expect-error: other data than the map says
  room.on("say", (event: Event<number>) => event.data);
  // @ts-expect-error: with a map, nobody says it for himself
  room.on<number>("say", ({ data }) => data);
  room.onEvent((event) => {
    same<typeof event, EventOf<Events>>(true);
    if (event.event === "say") same<typeof event.data, { text: string }>(true);
    else same<typeof event.event, "typing">(true);
  });
  void client.join("r").then((joined) => same<typeof joined, Room<Events>>(true));
  void room.join().then((joined) => same<typeof joined, Room<Events>>(true));
  void room.history().then(({ events }) => same<typeof events, EventOf<Events>[]>(true));
}

export function withoutAMapTheCallerSays(client: Client, room: Room): void {
  room.on("say", ({ data }) => same<typeof data, unknown>(true));
  room.on<{ text: string }>("say", ({ data }) => data.text);
  room.on("say", ({ data }: Event<{ text: string }>) => data.text);
  client.on("anything", ({ data }) => same<typeof data, unknown>(true));
  room.onEvent((event) => same<typeof event, Event>(true));
  // @ts-expect-error: nobody has said what it is
  room.on("say", ({ data }) => data.text);
}

export function whatIsAskedHasTheTypeThatIsAskedFor(client: Client, room: Room<Events>): void {
  const asked = room.request<{ event_id: string }>("say", { text: "hi" });
  same<typeof asked, Request<{ event_id: string }>>(true);
  same<typeof asked.id, string>(true);
  void client.request("order").then((result) => same<typeof result, unknown>(true));
  same<ReturnType<typeof room.send>, boolean>(true);
}

export function theOptions(): void {
  new Client("/ws", { token: "t", WebSocket: WebSocketOfWs });
  new Client(new URL("ws://h/ws"), { token: async ({ fresh }) => (fresh ? null : "t"), WebSocket: globalThis.WebSocket });
  new Client("/ws", { cursor: { storage: sessionStorage, key: "c" }, outbox: { storage: localStorage, key: "o" } });
  const own = new Map<string, string>();
  const storage = {
    getItem: (key: string) => own.get(key) ?? null,
    setItem: (key: string, value: string) => void own.set(key, value),
    removeItem: (key: string) => void own.delete(key),
  };
  new Client("/ws", { cursor: { storage, key: "c" } });
  // @ts-expect-error: a token is a text
  new Client("/ws", { token: 7 });
  // @ts-expect-error: that is no WebSocket
  new Client("/ws", { WebSocket: class {} });
  // @ts-expect-error: whose cursor is it?
  new Client("/ws", { cursor: { storage } });
}

export function theStates(client: Client): string {
  switch (client.state) {
    case "connecting":
    case "connected":
    case "reconnecting":
    case "refused":
    case "closed":
      return "";
  }
}

export function UsedInAComponent(): null {
  const { events, room, reset } = useRoom<Events>("r", { history: 5, eventsMax: 10 });
  same<typeof events, readonly EventOf<Events>[]>(true);
  same<typeof room, Room<Events>>(true);
  const state: unknown = reset?.state;
  void state;
  same<ReturnType<typeof useClient<Events>>, Client<Events>>(true);
  const { events: untyped } = useRoom("r");
  same<typeof untyped, readonly Event[]>(true);
  // @ts-expect-error: a number of events
  useRoom("r", { history: "5" });
  return null;
}

/** What takes any room, whatever its events, says so. */
export const anyRoom = (room: Room<Events>): Room<any> => room;
