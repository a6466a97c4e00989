/** A person at a window: what he does on the chat page, and what he sees there. */

import { createHash } from "node:crypto";

import { launch, type Browser, type BrowserContext, type CDPSession, type Page } from "puppeteer-core";

import { keep, Network, type ServerProcess } from "./servers.ts";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const WAIT_MAX_MS = 40_000;

/** With more switches, if a test needs them. */
export function launchBrowser(...switches: string[]): Promise<Browser> {
  const args = ["--no-sandbox", "--force-color-profile=srgb", ...switches];
  return launch({ executablePath: CHROMIUM, headless: true, args });
}

export interface Look {
  readonly width: number;
  readonly height: number;
  readonly scheme: "light" | "dark";
}

const DESKTOP: Look = { width: 1280, height: 800, scheme: "light" };

export class Window {
  readonly page: Page;
  readonly network: Network;
  readonly #context: BrowserContext;
  /** It emulates for as long as it is attached. */
  #emulation: CDPSession | null = null;
  /** What went wrong on the page. */
  readonly faults: string[] = [];

  private constructor(page: Page, network: Network, context: BrowserContext) {
    this.page = page;
    this.network = network;
    this.#context = context;
    page.setDefaultTimeout(WAIT_MAX_MS);
    page.on("pageerror", (error) => this.faults.push(String(error)));
    page.on("console", (message) => keep("browser", "page", `${message.type()} ${message.location().url} ${message.text()}`));
  }

  /** A window of its own, with its own cookies and its own network. */
  static async open(browser: Browser, server: ServerProcess, look: Look = DESKTOP): Promise<Window> {
    const [context, network] = [await browser.createBrowserContext(), await Network.to(server)];
    const window = new Window(await context.newPage(), network, context);
    await window.look(look);
    await window.page.goto(network.url);
    return window;
  }

  async look({ width, height, scheme }: Look): Promise<void> {
    await this.page.setViewport({ width, height });
    await this.page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  }

  /**
   * As a browser is in a tunnel. By the command that Chromium has had for years: what puppeteer's own method sends, not every
   * version takes.
   */
  async offline(offline: boolean): Promise<void> {
    this.#emulation ??= await this.page.createCDPSession();
    const conditions = { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 };
    await this.#emulation.send("Network.emulateNetworkConditions", conditions);
  }

  /** A second tab beside this one: the same cookies, the same network. */
  async newTab(): Promise<Window> {
    const tab = new Window(await this.#context.newPage(), this.network, this.#context);
    await tab.look(DESKTOP);
    await tab.page.goto(this.network.url);
    return tab;
  }

  async signIn(user: string): Promise<this> {
    await this.page.waitForSelector("#name", { visible: true });
    await this.page.$eval("#name", (field) => ((field as HTMLInputElement).value = ""));
    await this.page.type("#name", user);
    if (await this.page.$("#password")) await this.page.type("#password", `canary-bird of ${user}`);
    await this.page.keyboard.press("Enter");
    return this.connected();
  }

  async connected(): Promise<this> {
    await this.page.waitForSelector('#state[data-state="connected"]');
    return this;
  }

  async reconnecting(): Promise<void> {
    await this.page.waitForSelector('#state[data-state="reconnecting"]');
  }

  /** The id of what has the focus, or what stands on it. */
  focused(): Promise<string | null | undefined> {
    return this.page.evaluate(() => document.activeElement?.id || document.activeElement?.textContent);
  }

  /** Presses the button of a room, which is then the one that is shown. */
  async openRoom(room: string): Promise<void> {
    await this.page.bringToFront();
    await this.page.click(`#rooms button ::-p-text(${room})`);
    await this.seesIn("#room-title", room);
  }

  async write(text: string): Promise<void> {
    await this.page.bringToFront();
    await this.page.type("#text", text);
  }

  async say(text: string): Promise<void> {
    await this.write(text);
    await this.page.keyboard.press("Enter");
  }

  async sendImage(file: string): Promise<void> {
    const input = await this.page.$("input#image");
    await input!.uploadFile(file);
  }

  /** Every text of the log, top to bottom. */
  texts(): Promise<string[]> {
    return this.page.$$eval(".message .bubble p", (bubbles) => bubbles.map((bubble) => bubble.textContent ?? ""));
  }

  /** Waits until the log's texts fit. */
  async sees(what: string, fits: (texts: string[]) => boolean): Promise<void> {
    await this.until(`${what} in the log`, async () => fits(await this.texts()));
  }

  async seesText(text: string): Promise<void> {
    await this.sees(`“${text}”`, (texts) => texts.includes(text));
  }

  /** Waits until a part of the page says so. */
  async seesIn(selector: string, words: string): Promise<void> {
    const has = async () => (await this.page.$eval(selector, (part) => part.textContent ?? "")).includes(words);
    await this.until(`“${words}” in ${selector}`, has);
  }

  /** Waits until every message of one's own is stored. */
  async allStored(): Promise<void> {
    const waiting = '.message[data-delivery="sending"], .message[data-delivery="failed"]';
    await this.until("every message stored", async () => (await this.page.$$(waiting)).length === 0);
  }

  dividers(): Promise<string[]> {
    return this.page.$$eval(".divider", (dividers) => dividers.map((divider) => divider.textContent ?? ""));
  }

  people(): Promise<string[]> {
    return this.page.$$eval("#people li", (people) => people.map((person) => person.childNodes[1]?.textContent ?? ""));
  }

  /** The digests of the images in the log, of the very bytes that the page has. */
  async images(): Promise<string[]> {
    const images = await this.page.$$eval(".bubble img", (pictures) =>
      Promise.all(
        pictures.map(async (picture) => {
          const bytes = new Uint8Array(await (await fetch((picture as HTMLImageElement).src)).arrayBuffer());
          return [...bytes];
        }),
      ),
    );
    return images.map((bytes) => createHash("sha256").update(Uint8Array.from(bytes)).digest("hex"));
  }

  async until(what: string, holds: () => Promise<boolean>): Promise<void> {
    const end = Date.now() + WAIT_MAX_MS;
    while (!(await holds())) {
      if (Date.now() > end) {
        const news = await this.page.$eval("#news", (news) => news.textContent).catch(() => "");
        throw new Error(`waited in vain for ${what}; the page has ${JSON.stringify(await this.texts())} and says “${news}”`);
      }
      // The page changes by itself: it is looked at again at its next frame.
      await this.page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 20)));
    }
  }

  async close(): Promise<void> {
    await this.#context.close();
    this.network.end();
  }
}
