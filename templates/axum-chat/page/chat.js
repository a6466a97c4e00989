/** The page: what was said comes from the application's database, and what is said now through Tidings; one message by its `seq`. */

// Built from the TypeScript SDK of Tidings; with a bundler it is the package `tidings-client`.
import { Client } from "./tidings-client.js";

const HEARTBEAT_MS = 30_000;
const TYPING_SHOWN_MS = 3_000;
/** What has no answer by then is told to wait. */
const ANSWERED_MS = 2_000;

const byId = (id) => document.getElementById(id);

async function ask(path, method = "GET", body = undefined) {
  const answer = await fetch(path, {
    method,
    headers: { "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.status === 204 ? null : answer.json();
}

function begin({ user, channels }) {
  byId("sign-in").hidden = true;
  byId("chat").hidden = false;
  if (channels.length === 0) return void (byId("state").textContent = "you are in no channel");
  const client = new Client("/ws", {
    token: async () => {
      const answer = await fetch("/token");
      return answer.status === 401 ? null : (await answer.json()).token;
    },
    // What has no answer when the page is reloaded is sent again, under its id.
    outbox: { storage: sessionStorage, key: `outbox:${user}` },
  });
  const heartbeat = () => void client.room(channels[0].room).request("presence.heartbeat").catch(() => {});
  client.onState((state) => {
    byId("state").textContent = { connected: "", refused: client.fault?.message }[state] ?? state;
    if (state === "connected") heartbeat();
  });
  setInterval(heartbeat, HEARTBEAT_MS);
  client.room(`user:${user}`).on("channels.changed", () => location.reload());

  const messages = new Map();
  let current = null;
  const show = () => {
    const list = byId("messages");
    list.replaceChildren(
      ...[...messages.values()]
        .sort((a, b) => a.seq - b.seq)
        .map((message) => {
          const [item, name] = [document.createElement("li"), document.createElement("b")];
          name.textContent = message.user;
          item.append(name, message.content, message.edited_at ? " (edited)" : "");
          if (message.user === user) {
            item.title = "Double-click to edit";
            item.addEventListener("dblclick", () => edit(message));
          }
          return item;
        }),
    );
    list.scrollTop = list.scrollHeight;
  };
  /** The newer of two: an edit may come before what the database said earlier. */
  const take = (message) => {
    const known = messages.get(message.seq);
    if (!known || (message.edited_at ?? 0) >= (known.edited_at ?? 0)) messages.set(message.seq, message);
  };
  /** Whether it was taken. */
  const send = async (event, data) => {
    const waits = setTimeout(() => (byId("state").textContent = "not sent yet"), ANSWERED_MS);
    try {
      await client.room(current.room).request(event, data);
      byId("state").textContent = "";
      return true;
    } catch (error) {
      byId("state").textContent = error.message;
      return false;
    } finally {
      clearTimeout(waits);
    }
  };
  const edit = ({ seq, content }) => {
    const changed = prompt("Edit", content);
    if (changed) void send("message.edit", { seq, content: changed });
  };
  /** From the database: what was said before. */
  const load = async () => {
    const channel = current;
    const stored = (await ask(`/channels/${channel.id}/messages`)).messages;
    if (channel !== current) return;
    stored.forEach(take);
    show();
  };
  const showPeople = (people) => (byId("people").textContent = [...people.keys()].join(", "));
  let typingEnds;
  for (const channel of channels) {
    byId("channels").append(new Option(channel.name, channel.id));
    // The server joins them by itself, as the token says.
    const room = client.room(channel.room);
    for (const event of ["message.send", "message.edit"])
      room.on(event, ({ data }) => {
        if (channel !== current) return;
        take(data);
        show();
        // Who has said it types no more.
        if (event === "message.send") byId("typing").textContent = "";
      });
    room.on("typing.start", ({ data }) => {
      if (channel !== current) return;
      byId("typing").textContent = `${data.user} is typing`;
      clearTimeout(typingEnds);
      typingEnds = setTimeout(() => (byId("typing").textContent = ""), TYPING_SHOWN_MS);
    });
    // What Tidings can't tell any more comes from the database, with the reset itself.
    room.onReset(({ state }) => {
      if (channel !== current) return;
      if (!state) return void load();
      state.messages.forEach(take);
      show();
    });
    room.presence.onChange((people) => channel === current && showPeople(people));
  }
  const open = (id) => {
    current = channels.find((channel) => String(channel.id) === id);
    messages.clear();
    show();
    showPeople(client.room(current.room).presence.members);
    byId("typing").textContent = "";
    void load();
  };
  byId("channels").addEventListener("change", ({ target }) => open(target.value));
  open(String(channels[0].id));

  // The keyboard's way to what a double-click does.
  byId("content").addEventListener("keydown", ({ key, target }) => {
    const own = [...messages.values()].filter((message) => message.user === user);
    if (key === "ArrowUp" && target.value === "" && own.length > 0) edit(own.reduce((a, b) => (a.seq > b.seq ? a : b)));
  });
  let typedAt = 0;
  byId("content").addEventListener("input", () => {
    if (Date.now() - typedAt < TYPING_SHOWN_MS / 2) return;
    typedAt = Date.now();
    client.room(current.room).send("typing.start");
  });
  byId("composer").addEventListener("submit", async (event) => {
    event.preventDefault();
    const [input, channel] = [byId("content"), current];
    const content = input.value;
    input.value = "";
    // What was refused can be changed, unless something else is being written by now.
    if (!(await send("message.send", { content })) && channel === current && input.value === "") input.value = content;
  });
  byId("sign-out").addEventListener("click", async () => {
    client.close();
    await ask("/logout", "POST");
    location.reload();
  });
  byId("content").focus();
}

byId("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await ask("/login", "POST", { name: byId("name").value, password: byId("password").value });
    begin(await ask("/me"));
  } catch (error) {
    byId("fault").textContent = error.message;
  }
});
ask("/me").then(begin, () => byId("name").focus());
