/** The page: what was said comes from the application's database, and what is said now through Tidings; one message by its `seq`. */

import { Client } from "tidings-client";

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
  const client = new Client("/ws", {
    token: async () => {
      const answer = await fetch("/token");
      return answer.status === 401 ? null : (await answer.json()).token;
    },
  });
  client.onState((state) => (byId("state").textContent = state === "connected" ? "" : state));

  client.room(`user:${user}`).on("channels.changed", () => location.reload());

  const messages = new Map();
  let current = null;
  const show = () => {
    const list = byId("messages");
    list.replaceChildren(
      ...[...messages.values()]
        .sort((a, b) => a.seq - b.seq)
        .map(({ user: by, content }) => {
          const [item, name] = [document.createElement("li"), document.createElement("b")];
          name.textContent = by;
          item.append(name, content);
          return item;
        }),
    );
    list.scrollTop = list.scrollHeight;
  };
  /** From the database: at first, and when Tidings can't tell any more what was missed. */
  const load = async () => {
    const channel = current;
    const stored = (await ask(`/channels/${channel.id}/messages`)).messages;
    if (channel !== current) return;
    for (const message of stored) messages.set(message.seq, message);
    show();
  };
  for (const channel of channels) {
    byId("channels").append(new Option(channel.name, channel.id));
    // The server joins them by itself, as the token says.
    const room = client.room(channel.room);
    room.on("message", ({ data }) => {
      if (channel !== current) return;
      messages.set(data.seq, data);
      show();
    });
    room.onReset(() => channel === current && void load());
    room.presence.onChange((people) => {
      if (channel === current) byId("people").textContent = [...people.keys()].join(", ");
    });
  }
  const open = (id) => {
    current = channels.find((channel) => String(channel.id) === id);
    messages.clear();
    show();
    void load();
  };
  byId("channels").addEventListener("change", ({ target }) => open(target.value));
  open(String(channels[0].id));

  byId("composer").addEventListener("submit", async (event) => {
    event.preventDefault();
    const [input, channel] = [byId("content"), current];
    const message = { id: crypto.randomUUID(), content: input.value };
    input.value = "";
    // Under the same id until there is an answer: it is stored once.
    for (let wait = 500; ; wait = Math.min(wait * 2, 8000)) {
      try {
        const stored = await ask(`/channels/${channel.id}/messages`, "POST", message);
        if (channel === current) messages.set(stored.seq, stored);
        return show();
      } catch (error) {
        if (!(error instanceof TypeError)) return void (byId("state").textContent = error.message);
        byId("state").textContent = "not sent yet";
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
  });
  byId("sign-out").addEventListener("click", async () => {
    client.close();
    await ask("/logout", "POST");
    location.reload();
  });
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
ask("/me").then(begin, () => {});
