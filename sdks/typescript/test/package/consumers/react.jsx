/** @jsxImportSource react */
// An application of React, in StrictMode, whose components use one room twice.
import { StrictMode, useEffect } from "react";
import { createRoot } from "react-dom/client";
import { Client } from "tidings-client";
import { TidingsProvider, useConnection, usePresence, useRoom } from "tidings-client/react";

const { url, token } = Object.fromEntries(new URLSearchParams(location.search));
const client = new Client(url, { token });

function Lobby() {
  const { room, events, isLive } = useRoom("lobby", { history: 5 });
  return (
    <main data-live={isLive}>
      <ul>
        {events.map(({ id, data }) => (
          <li key={id}>{data}</li>
        ))}
      </ul>
      <button onClick={() => room.request("say", "hello")}>Say it</button>
    </main>
  );
}

function People() {
  const { state } = useConnection();
  useEffect(() => void (document.body.dataset.mounts = Number(document.body.dataset.mounts ?? 0) + 1), []);
  return <aside data-state={state}>{[...usePresence("lobby").members.keys()].join()}</aside>;
}

createRoot(document.body).render(
  <StrictMode>
    <TidingsProvider client={client}>
      <People />
      <Lobby />
    </TidingsProvider>
  </StrictMode>,
);
