// A page, which a bundler or a browser's own import map gives the package.
import { Client } from "tidings-client";

const { url, token } = Object.fromEntries(new URLSearchParams(location.search));
const client = new Client(url, { token });
const room = await client.join("r");
room.on("say", ({ data }) => (document.body.dataset.heard = data));
const { event_id } = await room.request("say", "hello");
document.body.dataset.stored = event_id;
