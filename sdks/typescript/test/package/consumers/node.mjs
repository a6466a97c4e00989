// An application that is ESM.
import { Client } from "tidings-client";
import { WebSocket } from "ws";

const client = new Client(process.env.URL, { WebSocket, token: process.env.TOKEN });
const room = await client.join("r");
room.on("say", ({ data }) => console.log("heard", data));
const { event_id } = await room.request("say", "hello");
console.log("stored", event_id);
client.close();
