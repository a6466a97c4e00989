/**
 * Two people at an application that `tidings new` has made, each in a browser of his own: they talk, or they watch the same.
 *
 *   node --import tsx test/two_browsers.ts chat|dashboard ADDRESS [ADDRESS]
 *
 * With two addresses each is at another instance. `SCREENSHOT=file.png` keeps what the second one sees at the end.
 */
import assert from "node:assert/strict";

import type { Browser, CDPSession, Page } from "puppeteer-core";

import { launchBrowser } from "./window.ts";

const WAIT_MAX_MS = 30_000;
/** Of a message, in characters: a longer one is refused. */
const CONTENT_MAX = 4000;
/** What the page begins with may be the same on both; what comes after that has come through Tidings. */
const SAMPLES_MIN = 3;

declare const sockets: WebSocket[];

/** So that a connection can be cut, which a page can't by itself. */
const KEEP_SOCKETS = `
  globalThis.sockets = [];
  globalThis.WebSocket = class extends WebSocket {
    constructor(...asked) {
      super(...asked);
      sockets.push(this);
    }
  };
`;

class Person {
  readonly name: string;
  readonly page: Page;
  readonly #faults: string[] = [];
  /** It emulates for as long as it is attached. */
  #emulation: CDPSession | null = null;

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
    await page.evaluateOnNewDocument(KEEP_SOCKETS);
    await page.goto(address);
    // The focus is where one begins to type, here and in the composer.
    await page.waitForFunction(() => document.activeElement?.id === "name");
    await page.keyboard.type(name);
    await page.type("#password", `canary-bird of ${name}`);
    await page.keyboard.press("Enter");
    await page.waitForSelector("main", { visible: true });
    await page.waitForFunction(() => document.querySelector("#state")?.textContent === "");
    return person;
  }

  async says(text: string): Promise<void> {
    await this.page.bringToFront();
    await this.page.keyboard.type(text);
    await this.page.keyboard.press("Enter");
  }

  /** As in a tunnel. */
  async offline(offline: boolean): Promise<void> {
    this.#emulation ??= await this.page.createCDPSession();
    const conditions = { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 };
    await this.#emulation.send("Network.emulateNetworkConditions", conditions);
  }

  /** His session has ended, which the page hears when it connects anew. */
  async isLoggedOut(): Promise<void> {
    const cookies = await this.page.browserContext().cookies();
    await this.page.browserContext().deleteCookie(...cookies);
    await this.page.evaluate(() => sockets.at(-1)!.dispatchEvent(new CloseEvent("close", { code: 1006 })));
    await this.seesOnly("#state", "nobody is logged in");
  }

  /** Changes what he has said last, by the keyboard alone. */
  async edits(text: string): Promise<void> {
    await this.page.bringToFront();
    this.page.once("dialog", (dialog) => void dialog.accept(text));
    await this.page.keyboard.press("ArrowUp");
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

  /** Says what is refused, by a page that would not have sent it. */
  async isRefused(text: string): Promise<void> {
    await this.page.bringToFront();
    await this.page.$eval("#content", (input, text) => ((input as HTMLInputElement).value = text), text);
    await this.page.focus("#content");
    await this.page.keyboard.press("Enter");
    await this.page.waitForFunction(() => document.querySelector("#state")?.textContent !== "");
    const kept = (text: string) => document.querySelector<HTMLInputElement>("#content")?.value === text;
    await this.page.waitForFunction(kept, {}, text);
    await this.page.$eval("#content", (input) => ((input as HTMLInputElement).value = ""));
  }

  /** Asks the application about its channels with the page's cookie, and waits until the page, which loads anew by that, knows so many. */
  async changesChannels(method: string, path: string, body: unknown, count: number): Promise<void> {
    const cookies = await this.page.browserContext().cookies();
    const cookie = cookies.map(({ name, value }) => `${name}=${value}`).join("; ");
    const headers = { "content-type": "application/json", cookie };
    const asked = { method, headers, body: JSON.stringify(body) };
    const { status } = await fetch(new URL(path, this.page.url()), asked);
    assert(status === 201 || status === 204, `${method} ${path}: ${status}`);
    const isKnown = (count: number) => document.querySelectorAll("#channels option").length === count;
    await this.page.waitForFunction(isKnown, {}, count);
  }

  /** Opens a channel, by its place in the list. */
  async opens(index: number): Promise<void> {
    const channels = await this.page.$$eval("#channels option", (options) => options.map(({ value }) => value));
    await this.page.select("#channels", channels[index]!);
  }

  /** Waits until a part of the page has this text, and no other. */
  async seesOnly(selector: string, text: string): Promise<void> {
    const has = (selector: string, text: string) => document.querySelector(selector)?.textContent === text;
    const waiting = this.page.waitForFunction(has, {}, selector, text);
    await waiting.catch(async () => {
      const there = await this.page.$eval(selector, (part) => part.textContent);
      assert.fail(`${this.name} sees ${there} in ${selector}, and not ${text}`);
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
  await ann.isRefused("x".repeat(CONTENT_MAX + 1));
  await ann.says(said[0]!);
  await bob.sees("#messages li", said[0]!);
  await bob.says(said[1]!);
  await ann.sees("#messages li", ...said);
  await bob.sees("#messages li", ...said);
  for (const person of [ann, bob]) assert.deepEqual(await person.counts(said), [1, 1], "each is there once");
  await bob.edits(`changed by bob ${run}`);
  await ann.sees("#messages li", `changed by bob ${run} (edited)`);
  await ann.seesOnly("#state", "");
  await bob.offline(true);
  await bob.says(`from a tunnel ${run}`);
  await bob.seesOnly("#state", "not sent yet");
  await bob.offline(false);
  await ann.sees("#messages li", `from a tunnel ${run}`);
  await bob.seesOnly("#state", "");
  await ann.changesChannels("POST", "/channels", { name: "Her own" }, 2);
  await ann.sees("#people", "ann", "bob");
  await ann.opens(1);
  await ann.seesOnly("#people", "ann");
  await ann.opens(0);
  await ann.sees("#people", "ann", "bob");
  const own = await ann.page.$eval("#channels option:last-child", (option) => (option as HTMLOptionElement).value);
  await ann.changesChannels("DELETE", `/channels/${own}/members/ann`, {}, 1);
}

async function watch(ann: Person, bob: Person): Promise<void> {
  for (const person of [ann, bob]) {
    await person.sees("figcaption", "cpu", "memory", "load");
    const names = await person.page.$$eval("figcaption b", (names) => names.map(({ textContent }) => textContent));
    assert.deepEqual(names, ["cpu", "load", "memory"], "each page has them in one order");
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
  await bob.isLoggedOut();
  if (process.env.SCREENSHOT) await bob.page.screenshot({ path: process.env.SCREENSHOT as `${string}.png` });
  [ann, bob].forEach((person) => person.faultless());
  console.log(`ann and bob: ${kind} at ${[...new Set([first, second])].join(" and ")}`);
} finally {
  await Promise.all(browsers.map((browser) => browser.close()));
}
