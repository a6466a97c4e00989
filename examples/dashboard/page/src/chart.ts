/** One series as a card: its newest value, and a chart of the last minutes that goes on moving while nothing comes. */

import uPlot from "uplot";

/** What a sample says. */
export interface Sample {
  readonly series: string;
  readonly value: number;
  readonly unit: string;
}

/** How much a chart shows. */
export const WINDOW_MS = 120_000;
const CHART_HEIGHT = 120;

const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** A value as people read it. */
export function shown(value: number, unit: string): string {
  if (unit === "ratio") return `${number.format(value * 100)} %`;
  if (!unit.startsWith("bytes")) return number.format(value);
  const power = Math.min(4, Math.max(0, Math.floor(Math.log(Math.max(value, 1)) / Math.log(1024))));
  return `${number.format(value / 1024 ** power)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}${unit === "bytes" ? "" : "/s"}`;
}

/** The samples of the window, in order, with a hole where some were lost. */
export class Series {
  readonly times: number[] = [];
  readonly values: (number | null)[] = [];

  /** A sample of a moment; one that is not newer than the newest replaces nothing. */
  add(at: number, value: number): void {
    const newest = this.times.at(-1);
    if (newest !== undefined && at <= newest) return;
    this.times.push(at);
    this.values.push(value);
    while (this.times[0]! < at - WINDOW_MS) {
      this.times.shift();
      this.values.shift();
    }
  }

  /** Some samples after the newest are lost: the line ends there. */
  breakLine(): void {
    const newest = this.times.at(-1);
    if (newest === undefined || this.values.at(-1) === null) return;
    this.times.push(newest + 1);
    this.values.push(null);
  }

  /** The longest time between two samples with a line between them. */
  get longestStep(): number {
    let longest = 0;
    for (let index = 1; index < this.times.length; index++) {
      if (this.values[index] === null || this.values[index - 1] === null) continue;
      longest = Math.max(longest, this.times[index]! - this.times[index - 1]!);
    }
    return longest;
  }

  /** How often the line is broken. */
  get breaks(): number {
    return this.values.filter((value) => value === null).length;
  }
}

/** A card on the page. */
export class Chart {
  readonly series = new Series();
  readonly #card: HTMLElement;
  readonly #value: HTMLOutputElement;
  readonly #gap: HTMLElement;
  readonly #plot: uPlot;
  #isStale = false;

  constructor(board: HTMLElement, { series, unit }: Sample) {
    this.#card = document.createElement("section");
    this.#card.className = "card";
    this.#card.dataset.series = series;
    const head = document.createElement("header");
    const title = document.createElement("h2");
    title.textContent = series;
    this.#value = document.createElement("output");
    head.append(title, this.#value);
    const chart = document.createElement("div");
    chart.className = "chart";
    this.#gap = document.createElement("p");
    this.#gap.className = "gap";
    this.#card.append(head, chart, this.#gap);
    board.append(this.#card);
    // A canvas takes colours as they are and not as a variable says them.
    const style = (name: string) => () => {
      this.#gap.style.color = `var(${name})`;
      const { color } = getComputedStyle(this.#gap);
      this.#gap.style.color = "";
      return color;
    };
    this.#plot = new uPlot(
      {
        width: chart.clientWidth,
        height: CHART_HEIGHT,
        ms: 1,
        legend: { show: false },
        cursor: { show: false },
        scales: { y: { range: (_plot, _least, most) => [0, most > 0 ? most * 1.1 : 1] } },
        axes: [
          { stroke: style("--quiet"), grid: { stroke: style("--grid") }, ticks: { show: false }, font: "11px system-ui" },
          {
            stroke: style("--quiet"),
            grid: { stroke: style("--grid") },
            ticks: { show: false },
            font: "11px system-ui",
            size: 62,
            values: (_plot, values) => values.map((value) => shown(value, unit)),
          },
        ],
        series: [{}, { stroke: style("--line"), width: 1.5, points: { show: false } }],
      },
      [[], []],
      chart,
    );
    new ResizeObserver(() => this.#plot.setSize({ width: chart.clientWidth, height: CHART_HEIGHT })).observe(chart);
  }

  add(at: number, { value, unit }: Sample): void {
    this.series.add(at, value);
    this.#value.textContent = shown(value, unit);
    this.#isStale = true;
  }

  breakLine(): void {
    this.series.breakLine();
    this.#isStale = true;
  }

  /** Shows the window that ends at `now`. */
  draw(now: number): void {
    if (this.#isStale) {
      const { series } = this;
      this.#plot.setData([series.times, series.values], false);
      this.#gap.textContent = series.breaks > 0 ? "some samples were lost: the line is broken there" : "";
      Object.assign(this.#card.dataset, {
        samples: String(series.times.length - series.breaks),
        newest: String(series.times.at(-1) ?? ""),
        longestStep: String(series.longestStep),
        breaks: String(series.breaks),
      });
      this.#isStale = false;
    }
    this.#plot.setScale("x", { min: now - WINDOW_MS, max: now });
    this.#card.dataset.shownUntil = String(Math.round(now));
  }
}
