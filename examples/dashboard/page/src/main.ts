/** The dashboard: joins the board, draws what comes, and says so when nothing does. */

import { Client } from "../../../../sdks/typescript/src/index.ts";
import { Chart, type Sample } from "./chart.ts";

const ROOM = "board";
/** About two minutes of a dozen series. */
const HISTORY_EVENTS = 1500;
const DRAW_EVERY_MS = 250;

const board = document.getElementById("board")!;
const state = document.getElementById("state")!;
const charts = new Map<string, Chart>();
/** The newest sample's time on the server's clock, and when it came on ours. */
let newest = { at: Date.now(), came: performance.now() };

const client = new Client("/ws", {
  token: async () => ((await (await fetch("/token")).json()) as { token: string }).token,
});

client.onState((now) => {
  state.dataset.state = now;
  state.textContent =
    now === "reconnecting" ? "the connection is lost: trying again" : now === "refused" ? `refused: ${client.fault?.message ?? ""}` : now;
});

const room = client.room(ROOM);
room.on<Sample>("sample", ({ data, at }) => {
  let chart = charts.get(data.series);
  if (!chart) charts.set(data.series, (chart = new Chart(board, data)));
  chart.add(at!, data);
  newest = { at: at!, came: performance.now() };
});
// What the history does not have any more can't be filled: the line is broken there, and goes on.
room.onReset(() => charts.forEach((chart) => chart.breakLine()));
room.onCaughtUp(({ events }) => {
  if (events > 0 && state.dataset.state === "connected") state.textContent = `connected, caught up on ${events} samples`;
});
void room.join({ history: HISTORY_EVENTS });

// The time goes on, whether something comes or not.
setInterval(() => {
  const now = newest.at + performance.now() - newest.came;
  charts.forEach((chart) => chart.draw(now));
}, DRAW_EVERY_MS);
