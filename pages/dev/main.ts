/** The page of `tidings dev`: whoever gives a name is that user, and every room is open. */

import { Client, type Room } from "../../sdks/typescript/src/index.ts";
import { byId } from "../chat/dom.ts";
import { ChatPage } from "../chat/page.ts";

const FIRST_ROOM = "chat:lobby";
const HISTORY_EVENTS = 200;
const NAMES = ["Ada", "Bo", "Cleo", "Dag", "Edda", "Finn", "Gro", "Hugo", "Ines", "Juno", "Kit", "Lou"];

const signIn = byId("sign-in", HTMLFormElement);
const name = byId("name", HTMLInputElement);

function begin(user: string): void {
  // In this tab's own storage, so that two tabs can be two users, and a reload stays the same one.
  sessionStorage.setItem("tidings-user", user);
  signIn.hidden = true;
  byId("chat", HTMLElement).hidden = false;
  const rooms: string[] = JSON.parse(sessionStorage.getItem("tidings-rooms") ?? "null") ?? [FIRST_ROOM];
  const client = new Client("/ws", {
    token: async () => {
      const answer = await fetch(`/dev/token?${new URLSearchParams({ user })}`);
      return ((await answer.json()) as { token: string }).token;
    },
    outbox: { storage: sessionStorage, key: `tidings-outbox:${user}` },
  });
  new ChatPage({
    title: "Tidings dev",
    user,
    client,
    rooms: rooms.map((id) => ({ id, name: id })),
    openRoom(id) {
      if (!rooms.includes(id)) rooms.push(id);
      sessionStorage.setItem("tidings-rooms", JSON.stringify(rooms));
    },
    enter: async (room: Room) => {
      // What was said before comes as events.
      const caughtUp = new Promise((resolve) => room.onCaughtUp(resolve));
      await room.join({ history: HISTORY_EVENTS });
      await caughtUp;
      return [];
    },
    say: (room, content) => room.request("message.send", { content }),
    edit: (room, messageId, content) => room.request("message.edit", { messageId, content }),
    sendImage: (room, image) => room.request("image.send", image),
    typing: (room) => void room.send("typing.start"),
    stateOf: () => undefined,
    signOut() {
      sessionStorage.removeItem("tidings-user");
      client.close();
      location.reload();
    },
  });
}

signIn.addEventListener("submit", (event) => {
  event.preventDefault();
  const user = name.value.trim();
  localStorage.setItem("tidings-name", user);
  begin(user);
});

const user = sessionStorage.getItem("tidings-user");
if (user) begin(user);
else {
  const some = NAMES[Math.floor(Math.random() * NAMES.length)];
  name.value = localStorage.getItem("tidings-name") ?? `${some}-${Math.floor(Math.random() * 90 + 10)}`;
  name.select();
}
