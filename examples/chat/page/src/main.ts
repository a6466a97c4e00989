/** The example's page: its own login, its own database, the chat on Tidings. */

import { Client, type Room } from "../../../../sdks/typescript/src/index.ts";
import { byId } from "../../../../pages/chat/dom.ts";
import { ChatPage } from "../../../../pages/chat/page.ts";
import type { StoredMessage } from "../../../../pages/chat/timeline.ts";

interface Me {
  user: string;
  channels: { id: string; name: string }[];
}

const signIn = byId("sign-in", HTMLFormElement);

async function messagesOf(channel: string): Promise<StoredMessage[]> {
  const answer = await fetch(`/channels/${encodeURIComponent(channel)}/messages`);
  if (!answer.ok) throw new Error(await answer.text());
  return ((await answer.json()) as { messages: StoredMessage[] }).messages;
}

function begin({ user, channels }: Me): void {
  signIn.hidden = true;
  byId("chat", HTMLElement).hidden = false;
  const client = new Client("/ws", {
    token: async () => {
      const answer = await fetch("/token");
      if (answer.status === 401) return null;
      return ((await answer.json()) as { token: string }).token;
    },
    outbox: { storage: sessionStorage, key: `chat-outbox:${user}` },
  });
  /** The server joins the channels by itself; what is asked for after that can't miss a message in between. */
  const joined = new Promise<void>((resolve) => {
    client.onState((state) => state === "connected" && queueMicrotask(resolve));
  });
  new ChatPage({
    title: "Chat",
    user,
    client,
    rooms: channels,
    enter: async (room: Room) => {
      await joined;
      return messagesOf(room.name);
    },
    say: (room, content) => client.request("message.send", { channelId: room.name, content }),
    edit: (room, messageId, content) => client.request("message.edit", { channelId: room.name, messageId, content }),
    sendImage: (room, image) => room.request("image.send", image),
    typing: (room) => void client.send("typing.start", { channelId: room.name }),
    stateOf: (state) => (state as { messages: StoredMessage[] } | undefined)?.messages,
    async signOut() {
      client.close();
      await fetch("/logout", { method: "POST" });
      location.reload();
    },
  });
}

async function resume(): Promise<void> {
  const answer = await fetch("/me");
  if (answer.ok) begin((await answer.json()) as Me);
}

signIn.addEventListener("submit", async (event) => {
  event.preventDefault();
  const login = { name: byId("name", HTMLInputElement).value, password: byId("password", HTMLInputElement).value };
  const headers = { "content-type": "application/json" };
  const answer = await fetch("/login", { method: "POST", headers, body: JSON.stringify(login) });
  byId("sign-in-fault", HTMLElement).textContent = answer.ok ? "" : await answer.text();
  if (answer.ok) await resume();
});

void resume();
