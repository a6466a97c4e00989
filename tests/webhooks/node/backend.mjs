// A backend that believes what Standard Webhooks' own library for Node has verified: tests/webhooks/README.md.

import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.WEBHOOK_SECRET);
const stranger = new Webhook(`whsec_${Buffer.alloc(32, 7).toString("base64")}`);

const refuses = (verify) => {
  try {
    verify();
    return false;
  } catch {
    return true;
  }
};

function answer(headers, body) {
  const event = webhook.verify(body, headers);
  const forged = {
    body: refuses(() => webhook.verify(`${body} `, headers)),
    id: refuses(() => webhook.verify(body, { ...headers, "webhook-id": "msg_another" })),
    timestamp: refuses(() => webhook.verify(body, { ...headers, "webhook-timestamp": String(Number(headers["webhook-timestamp"]) - 1) })),
    secret: refuses(() => stranger.verify(body, headers)),
  };
  if (Object.values(forged).includes(false)) throw new Error(`a forgery was taken: ${JSON.stringify(forged)}`);
  if (event.id !== headers["webhook-id"]) throw new Error("the event has another id");
  if (event.type === "dev.tidings.connect") return [event, { allow: true, rooms: ["chat:lobby"] }];
  if (event.type === "dev.tidings.join") return [event, { allow: true }];
  if (event.type === "dev.tidings.event") return [event, { ack: { verified_by: "node" } }];
  return [event, {}];
}

const server = createServer(async (request, response) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  let [status, said, told] = [200, {}, null];
  try {
    const [event, reply] = answer(request.headers, Buffer.concat(pieces).toString("utf8"));
    [said, told] = [reply, { verified: event.type }];
  } catch (error) {
    [status, told] = [401, { refused: String(error) }];
  }
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(said));
  console.log(JSON.stringify(told));
});
server.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}/tidings` }));
});
// Whoever has started it ends it by letting go.
process.stdin.on("end", () => process.exit(0)).resume();
