/** A chat on an Express application: starts it, and ends it. `--help` says how. */

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { parseArgs } from "node:util";

import { attach, Tidings } from "tidings-server-sdk";

import { createApp } from "./app.js";
import { Database } from "./database.js";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "3000" },
    database: { type: "string", default: "chat.db" },
    "secret-file": { type: "string", default: "tidings.secret" },
    tidings: { type: "string", default: "http://127.0.0.1:7777" },
    "no-attach": { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(
    "node src/main.js [--port 3000] [--database chat.db] [--secret-file tidings.secret] [--tidings URL] [--no-attach]",
  );
  console.log("--no-attach: Tidings is in front (tidings serve --upstream http://127.0.0.1:3000), and has /ws itself");
  process.exit();
}

const secret = readFileSync(values["secret-file"], "utf8").trim();
const database = new Database(values.database);
const tidings = new Tidings({ url: values.tidings, secret });
const application = createApp({ database, tidings, secret });
const server = createServer(application.app);
const attached = values["no-attach"] ? null : attach(server, { path: "/ws", url: values.tidings });
server.listen(Number(values.port), "127.0.0.1", () =>
  console.log(`The chat is at http://127.0.0.1:${server.address().port}/`),
);

for (const signal of ["SIGINT", "SIGTERM"])
  process.once(signal, () => {
    attached?.close();
    server.close(async () => {
      await application.close();
      tidings.close();
      database.close();
    });
    server.closeIdleConnections();
  });
