/** The page: the last two minutes from the application's database, and what comes now through Tidings. */

// Built from the TypeScript SDK of Tidings; with a bundler it is the package `tidings-client`.
import { Client } from "./tidings-client.js";

const SHOWN_S = 120;
const SVG = "http://www.w3.org/2000/svg";

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

class Chart {
  #points = new Map();
  #line = document.createElementNS(SVG, "polyline");
  #value = document.createElement("output");

  constructor(series) {
    const [figure, caption, name] = ["figure", "figcaption", "b"].map((tag) => document.createElement(tag));
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${SHOWN_S} 100`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.append(this.#line);
    name.textContent = series;
    caption.append(name, this.#value);
    figure.append(caption, svg);
    // By name, whichever comes first: after a reload they stand as before.
    const next = [...document.querySelectorAll("figure")].find((other) => other.querySelector("b").textContent > series);
    byId("board").insertBefore(figure, next ?? null);
  }

  /** A sample is known by its time: one that comes twice is one point. */
  add({ value, unit, at }) {
    this.#points.set(at, value);
    const times = [...this.#points.keys()].sort((a, b) => a - b);
    const newest = times.at(-1);
    for (const time of times) if (time < newest - SHOWN_S) this.#points.delete(time);
    const top = unit === "ratio" ? 1 : Math.max(1, ...this.#points.values());
    const shown = times.filter((time) => this.#points.has(time));
    const points = shown.map((time) => `${SHOWN_S - (newest - time)},${100 - (this.#points.get(time) / top) * 98}`);
    this.#line.setAttribute("points", points.join(" "));
    const last = this.#points.get(newest);
    this.#value.textContent = unit === "ratio" ? `${Math.round(last * 100)} %` : last.toFixed(2);
  }
}

async function begin({ boards }) {
  byId("sign-in").hidden = true;
  byId("board").hidden = false;
  if (boards.length === 0) return void (byId("state").textContent = "no board is yours to watch");
  const charts = new Map();
  const show = (sample) => {
    if (!charts.has(sample.series)) charts.set(sample.series, new Chart(sample.series));
    charts.get(sample.series).add(sample);
  };
  const load = async () => (await ask(`/boards/${boards[0].name}/samples`)).samples.forEach(show);
  const client = new Client("/ws", {
    token: async () => {
      const answer = await fetch("/token");
      return answer.status === 401 ? null : (await answer.json()).token;
    },
  });
  client.onState((state) => (byId("state").textContent = { connected: "", refused: client.fault?.message }[state] ?? state));
  // The server joins it by itself, as the token says.
  const room = client.room(boards[0].room);
  room.on("sample", ({ data }) => show(data));
  room.onReset(() => void load());
  await load();
}

byId("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await ask("/login", "POST", { name: byId("name").value, password: byId("password").value });
    await begin(await ask("/me"));
  } catch (error) {
    byId("fault").textContent = error.message;
  }
});
ask("/me").then(begin, () => byId("name").focus());
