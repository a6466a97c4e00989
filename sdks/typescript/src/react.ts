"use client";
/**
 * Rooms, presence and the connection as React hooks: `tidings-client/react`, for React 18 and 19.
 *
 * What a hook shows is a value of a store outside React, so that all components show the same. One room is one store:
 * it is joined with its first component and left a moment after its last, which a remount (StrictMode's, a
 * route's) does not last.
 */

import {
  createContext,
  createElement,
  useCallback,
  useContext,
  useSyncExternalStore,
  type ReactElement,
  type ReactNode,
} from "react";

import type { Client } from "./client.ts";
import type { ConnectionFault, State } from "./connection.ts";
import type { Unsubscribe } from "./listeners.ts";
import type { Members } from "./presence.ts";
import type { AnyRoom } from "./room.ts";
import { RoomStore, type RoomOptions, type RoomView } from "./room_store.ts";

export type { RoomOptions, RoomView } from "./room_store.ts";

const EVENTS_MAX = 200;

const ClientContext = createContext<Client<any> | null>(null);

/**
 * Gives a client to all hooks below. Make the client outside of components, once: a component may be rendered twice for
 * one mount, and each client is a connection.
 */
export function TidingsProvider({ client, children }: { client: Client<any>; children?: ReactNode }): ReactElement {
  return createElement(ClientContext.Provider, { value: client }, children);
}

/** The client of the provider above. Throws without one. */
export function useClient<Events = unknown>(): Client<Events> {
  const client = useContext(ClientContext);
  if (!client) throw new Error("there is no <TidingsProvider client={…}> above this component");
  return client;
}

/** What the connection does, for showing it. */
export interface ConnectionView {
  readonly state: State;
  /** Why there is no connection, as far as is known. */
  readonly fault: ConnectionFault | null;
  /** Whether what rooms are stored in is out of the server's reach. */
  readonly isDegraded: boolean;
}

/** The state of the client's connection. */
export function useConnection(): ConnectionView {
  const client = useClient();
  const subscribe = useCallback(
    (changed: () => void) => {
      const ends = [client.onConnection(changed), client.onDegraded(changed)];
      return () => ends.forEach((end) => end());
    },
    [client],
  );
  return {
    state: useSnapshot(subscribe, () => client.state),
    fault: useSnapshot(subscribe, () => client.fault),
    isDegraded: useSnapshot(subscribe, () => client.isDegraded),
  };
}

/**
 * Joins a room for as long as the component is mounted, and shows its events: with `history` as many of the last ones,
 * and of all of them the newest `eventsMax` (200). A room that the application has joined before stays joined.
 */
export function useRoom<Events = unknown>(
  name: string,
  { history = 0, eventsMax = EVENTS_MAX }: RoomOptions = {},
): RoomView<Events> {
  const store = useStore(name);
  const subscribe = useCallback(
    (changed: () => void) => store.hold(changed, { history, eventsMax }),
    [store, history, eventsMax],
  );
  return useSnapshot(subscribe, () => store.view) as RoomView<Events>;
}

/** Who is in a room, and how many: also where the room tells nobody who. */
export interface PresenceView {
  readonly members: Members;
  readonly count: number;
}

/** Joins a room for as long as the component is mounted, and shows who is there. */
export function usePresence(name: string): PresenceView {
  const store = useStore(name);
  const { presence } = store.view.room;
  const subscribe = useCallback(
    (changed: () => void) => {
      const ends = [store.hold(() => {}), presence.onChange(changed)];
      return () => ends.forEach((end) => end());
    },
    [store, presence],
  );
  return {
    members: useSnapshot(subscribe, () => presence.members),
    count: useSnapshot(subscribe, () => presence.count),
  };
}

/** Calls nothing on a server, where there is nothing to subscribe to, and shows there what is known: nothing yet. */
function useSnapshot<T>(subscribe: (changed: () => void) => Unsubscribe, snapshot: () => T): T {
  return useSyncExternalStore(subscribe, snapshot, snapshot);
}

const stores = new WeakMap<AnyRoom, RoomStore>();

function useStore(name: string): RoomStore {
  const client = useClient();
  const room = client.room(name);
  let store = stores.get(room);
  if (!store) stores.set(room, (store = new RoomStore(client, room)));
  return store;
}
