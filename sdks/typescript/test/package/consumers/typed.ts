// What the published types say to a program that is checked strictly, its libraries too.
import { createElement } from "react";
import { Client, type Event, type Room } from "tidings-client";
import { TidingsProvider, useRoom } from "tidings-client/react";
import { WebSocket } from "ws";

interface Events {
  say: { text: string };
}

const client = new Client<Events>("ws://localhost/ws", { WebSocket });
const room: Room<Events> = client.room("r");
room.on("say", ({ data }: Event<{ text: string }>) => data.text.length);
export const element = createElement(TidingsProvider, { client });
export const useTexts = (): string[] => useRoom<Events>("r", { history: 5 }).events.map(({ data }) => data.text);
