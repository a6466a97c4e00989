/**
 * Two people at an application that `tidings new` has made, each in a browser of his own: they talk, or they watch the same.
 *
 *   node --import tsx test/two_browsers.ts chat|dashboard ADDRESS [ADDRESS]
 *
 * With two addresses each is at another instance. `SCREENSHOT=file.png` keeps what the second one sees at the end.
 */
import assert from "node:assert/strict";

import type { Browser, Page } from "puppeteer-core";

import { launchBrowser } from "./window.ts";

const WAIT_MAX_MS = 30_000;
/** What the page begins with may be the same on both; what comes after that has come through Tidings. */
const SAMPLES_MIN = 3;

class Person {
  readonly name: string;
  readonly page: Page;
  readonly #faults: string[] = [];

  private constructor(name: string, page: Page) {
    this.name = name;
    this.page = page;
    page.setDefaultTimeout(WAIT_MAX_MS);
    page.on("pageerror", (error) => this.#faults.push(String(error)));
  }

  /** Logs in, and waits until the page is connected. */
  static async at(browser: Browser, address: string, name: string): Promise<Person> {
    const person = new Person(name, await browser.newPage());
    const { page } = person;
    await page.setViewport({ width: 900, height: 600 });
    await page.goto(address);
    await page.waitForSelector("#name", { visible: true });
    await page.type("#name", name);
    await page.type("#password", `canary-bird of ${name}`);
    await page.keyboard.press("Enter");
    await page.waitForSelector("main", { visible: true });
    await page.waitForFunction(() => document.querySelector("#state")?.textContent === "");
    return person;
  }

  async says(text: string): Promise<void> {
    await this.page.bringToFront();
    await this.page.type("#content", text);
    await this.page.keyboard.press("Enter");
  }

  /** Waits until a part of the page has all these words. */
  async sees(selector: string, ...words: string[]): Promise<void> {
    const has = (selector: string, words: string[]) => {
      const parts = [...document.querySelectorAll(selector)].map((part) => part.textContent ?? "");
      return words.every((word) => parts.some((part) => part.includes(word)));
    };
    const waiting = this.page.waitForFunction(has, {}, selector, words);
    await waiting.catch(async () => {
      const text = await this.page.$eval("body", (body) => body.innerText);
      assert.fail(`${this.name} does not see ${words.join(", ")} in ${selector}, but: ${text}`);
    });
  }

  /** How often each thing that was said is on the page. */
  counts(texts: string[]): Promise<number[]> {
    return this.page.$$eval(
      "#messages li",
      (items, texts) => texts.map((text) => items.filter((item) => item.textContent?.includes(text)).length),
      texts,
    );
  }

  /** The newest points that are drawn, of every series. */
  charts(): Promise<number[]> {
    return this.page.$$eval("polyline", (lines) =>
      lines.map((line) => (line.getAttribute("points") ?? "").split(" ").filter(Boolean).length),
    );
  }

  faultless(): void {
    assert.deepEqual(this.#faults, [], `${this.name}'s page has faults`);
  }
}

async function talk(ann: Person, bob: Person): Promise<void> {
  const run = Date.now();
  const said = [`hello from ann ${run}`, `hello from bob ${run}`];
  await ann.sees("#people", "ann", "bob");
  await bob.sees("#people", "ann", "bob");
  await ann.says(said[0]!);
  await bob.sees("#messages li", said[0]!);
  await bob.says(said[1]!);
  await ann.sees("#messages li", ...said);
  await bob.sees("#messages li", ...said);
  for (const person of [ann, bob]) assert.deepEqual(await person.counts(said), [1, 1], "each is there once");
}

async function watch(ann: Person, bob: Person): Promise<void> {
  for (const person of [ann, bob]) {
    await person.sees("figcaption", "cpu", "memory", "load");
    const before = Math.max(...(await person.charts()));
    const grown = (min: number) =>
      [...document.querySelectorAll("polyline")].every(
        (line) => (line.getAttribute("points") ?? "").split(" ").length >= min,
      );
    await person.page.waitForFunction(grown, {}, before + SAMPLES_MIN);
  }
}

const [kind, first, second = first] = process.argv.slice(2);
const play = { chat: talk, dashboard: watch }[kind ?? ""];
assert(play && first && second, "two_browsers.ts chat|dashboard ADDRESS [ADDRESS]");
const browsers = await Promise.all([launchBrowser(), launchBrowser()]);
try {
  const ann = await Person.at(browsers[0], first, "ann");
  const bob = await Person.at(browsers[1], second, "bob");
  await play(ann, bob);
  if (process.env.SCREENSHOT) await bob.page.screenshot({ path: process.env.SCREENSHOT as `${string}.png` });
  [ann, bob].forEach((person) => person.faultless());
  console.log(`ann and bob: ${kind} at ${[...new Set([first, second])].join(" and ")}`);
} finally {
  await Promise.all(browsers.map((browser) => browser.close()));
}
