// An application that is CommonJS.
const { Client } = require("tidings-client");
const { WebSocket } = require("ws");

const client = new Client(process.env.URL, { WebSocket, token: process.env.TOKEN });
client.join("r").then(async (room) => {
  room.on("say", ({ data }) => console.log("heard", data));
  const { event_id } = await room.request("say", "hello");
  console.log("stored", event_id);
  client.close();
});
