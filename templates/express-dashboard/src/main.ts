/** Starts the dashboard, and ends it. Where everything is, the environment says: `.env.example`. */

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

import { createRealtime } from "../ws/server.ts";
import { createApp } from "./app.ts";
import { Database } from "./database.ts";
import { Login } from "./login.ts";
import { Sampler } from "./sampler.ts";

const { PORT = "3000", HOST = "127.0.0.1", DATABASE = "dashboard.db", INTERVAL_S = "1", PUMP = "on" } = process.env;
const { TIDINGS_URL: url = "http://127.0.0.1:7777", TIDINGS_SECRET_FILE = "tidings.secret" } = process.env;

const secret = readFileSync(TIDINGS_SECRET_FILE, "utf8").trim();
const database = new Database(DATABASE);
const login = new Login(database, secret);
const realtime = createRealtime({ url, secret, database, login });
const sampler = new Sampler(database, realtime.rooms);
const server = createServer(createApp({ database, login, realtime }));
realtime.attach(server);
server.listen(Number(PORT), HOST, () =>
  console.log(`The dashboard is at http://${HOST}:${(server.address() as AddressInfo).port}/`),
);
if (PUMP !== "off") sampler.start(Number(INTERVAL_S) * 1000);

for (const signal of ["SIGINT", "SIGTERM"])
  process.once(signal, () => {
    sampler.stop();
    realtime.close();
    server.close(() => database.close());
    server.closeIdleConnections();
  });
