/**
 * The chat in a real browser, two windows at a time: on `examples/chat` and on `tidings dev`, over a network that
 * breaks. It needs Chromium and both servers built; OFFLINE_SECONDS (5) is how long "offline" lasts.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import type { Browser } from "puppeteer-core";

import { writeNoise } from "./noise.ts";
import { ServerProcess } from "./servers.ts";
import { launchBrowser, Window } from "./window.ts";

const OFFLINE_MS = Number(process.env.OFFLINE_SECONDS ?? 5) * 1000;
const IMAGE = fileURLToPath(new URL("graph.png", import.meta.url));
const count = (texts: string[], text: string) => texts.filter((other) => other === text).length;

const folder = mkdtempSync(join(tmpdir(), "tidings-images-"));

let browser: Browser;
before(async () => (browser = await launchBrowser()));
after(async () => {
  await browser.close();
  rmSync(folder, { recursive: true });
});

for (const [name, start] of [
  ["examples/chat", () => ServerProcess.chatExample()],
  ["tidings dev", () => ServerProcess.dev()],
] as const) {
  describe(name, () => {
    let server: ServerProcess;
    let [ann, bob]: (Window | undefined)[] = [];
    const open = async (user: string) => (await Window.open(browser, server)).signIn(user);
    before(async () => {
      server = await start();
      ann = await open("ann");
      bob = await open("bob");
    });
    after(async () => {
      await Promise.all([ann?.close(), bob?.close()]);
      await server.end();
    });
    const windows = () => [ann!, bob!] as const;

    test("messages, edits, typing, presence and an image cross", async () => {
      const [ann, bob] = windows();
      for (const window of [ann, bob]) {
        await window.until("both are here", async () => (await window.people()).join() === "ann,bob");
      }
      await ann.write("Hel");
      await bob.seesIn("#typing", "ann is typing");
      await ann.say("lo");
      await bob.seesText("Hello");
      await bob.until("nobody types", async () => (await bob.page.$eval("#typing", (part) => part.textContent)) === "");
      await ann.allStored();
      await ann.page.keyboard.press("ArrowUp");
      await ann.say(", Bob");
      for (const window of [ann, bob]) await window.sees("the edit", (texts) => texts.join() === "Hello, Bob");
      await bob.sendImage(IMAGE);
      const digest = createHash("sha256").update(readFileSync(IMAGE)).digest("hex");
      for (const window of [ann, bob]) {
        await window.until("the image", async () => (await window.page.$$(".bubble img")).length === 1);
        assert.deepEqual(await window.images(), [digest], "byte for byte");
      }
    });

    test("an image that is too large for a frame is made smaller, and what is no image is refused in words", async () => {
      const [ann, bob] = windows();
      const before = (await bob.page.$$(".bubble img")).length;
      await ann.sendImage(writeNoise(join(folder, "noise.png"), 900, 700));
      await bob.until("the image", async () => (await bob.page.$$(".bubble img")).length === before + 1);
      const width = await bob.page.$$eval(".bubble img", (images) => (images.at(-1) as HTMLImageElement).decode().then(() => (images.at(-1) as HTMLImageElement).naturalWidth));
      assert.ok(width > 50 && width <= 900, `${width} px wide`);
      writeFileSync(join(folder, "words.png"), "no image at all");
      await ann.sendImage(join(folder, "words.png"));
      await ann.seesIn("#news", "Only PNG, JPEG, GIF and WebP");
    });

    test("a cut before the message arrives, and one before its ack does: it is there once, in both", async () => {
      const [ann, bob] = windows();
      ann.network.holdToServer();
      await ann.say("cut on the way there");
      assert.equal(await ann.page.$eval(".message:last-child", (last) => (last as HTMLElement).dataset.delivery), "sending");
      ann.network.cut();
      await bob.seesText("cut on the way there");
      await ann.allStored();
      await ann.connected();

      ann.network.holdToBrowser();
      await ann.say("cut on the way back");
      await bob.seesText("cut on the way back");
      ann.network.cut();
      await ann.reconnecting();
      await ann.connected();
      await ann.allStored();
      await bob.say("and goes on");
      for (const window of [ann, bob]) {
        await window.seesText("and goes on");
        const texts = await window.texts();
        for (const text of ["cut on the way there", "cut on the way back", "and goes on"]) assert.equal(count(texts, text), 1, text);
        assert.deepEqual(await window.dividers(), [], "no reset was shown");
      }
      assert.deepEqual((await bob.people()).join(), "ann,bob", "a reconnect is no leave");
    });

    test("offline for a while, then back: caught up, and what was written meanwhile is sent", async () => {
      const [ann, bob] = windows();
      ann.network.down();
      await ann.offline(true);
      await ann.reconnecting();
      await ann.say("written offline");
      const over = new Promise((resolve) => setTimeout(resolve, OFFLINE_MS));
      for (const text of ["one", "two", "three"]) await bob.say(text);
      await bob.allStored();
      await over;
      assert.equal(count(await ann.texts(), "three"), 0);
      ann.network.up();
      await ann.offline(false);
      await ann.seesIn("#news", "caught up on 3 events");
      await bob.seesText("written offline");
      await ann.allStored();
      for (const window of [ann, bob]) {
        const texts = await window.texts();
        assert.deepEqual(texts.slice(-4), ["one", "two", "three", "written offline"]);
        assert.deepEqual(await window.dividers(), []);
      }
    });

    test("a tab reloaded in mid-send neither loses nor doubles its message", async () => {
      const [ann, bob] = windows();
      // Once before it arrives, once when it has arrived and the page does not know.
      ann.network.holdToServer();
      await ann.say("reloaded too early");
      await ann.page.reload();
      await ann.connected();
      await bob.seesText("reloaded too early");
      await ann.allStored();
      ann.network.holdToBrowser();
      await ann.say("reloaded too late");
      await bob.seesText("reloaded too late");
      await ann.page.reload();
      await ann.connected();
      await ann.seesText("reloaded too late");
      await ann.allStored();
      await bob.say("after the reloads");
      for (const window of [ann, bob]) {
        await window.seesText("after the reloads");
        const texts = await window.texts();
        for (const text of ["reloaded too early", "reloaded too late"]) assert.equal(count(texts, text), 1, text);
      }
    });

    test("two tabs of one user are one person, and both see everything", async () => {
      const [ann, bob] = windows();
      const tab = await ann.newTab();
      if (name === "tidings dev") await tab.signIn("ann");
      await tab.connected();
      await tab.seesText("Hello, Bob");
      await tab.say("from the second tab");
      for (const window of [ann, bob, tab]) {
        await window.seesText("from the second tab");
        assert.equal(count(await window.texts(), "from the second tab"), 1);
        await window.until("ann and bob", async () => (await window.people()).join() === "ann,bob");
      }
      await tab.page.close();
    });

    test("the server is killed and started again: every stored message is there, exactly once", async () => {
      const [ann, bob] = windows();
      const said = Array.from({ length: 5 }, (_, index) => `before the end ${index}`);
      for (const text of said) await ann.say(text);
      await ann.allStored();
      await server.kill();
      for (const window of [ann, bob]) await window.reconnecting();
      await bob.say("while it was down");
      await server.start();
      for (const window of [ann, bob]) await window.connected();
      await bob.allStored();
      for (const window of [ann, bob]) {
        await window.seesText("while it was down");
        const texts = await window.texts();
        for (const text of [...said, "while it was down"]) assert.equal(count(texts, text), 1, text);
        const dividers = await window.dividers();
        assert.ok(dividers.length > 0, "a reset is visible");
      }
    });

    test("nothing went wrong on the pages meanwhile", () => {
      for (const window of windows()) assert.deepEqual(window.faults, []);
    });
  });
}
