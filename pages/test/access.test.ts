/** The page for everyone: what axe finds, at both widths and in both schemes, and a whole chat with a keyboard alone. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import type { Browser } from "puppeteer-core";

import { ServerProcess } from "./servers.ts";
import { launchBrowser, Window, type Look } from "./window.ts";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const IMAGE = fileURLToPath(new URL("graph.png", import.meta.url));
/** Where screenshots go, if they are wanted: `SCREENSHOTS=../docs/images`. */
const SCREENSHOTS = process.env.SCREENSHOTS;
const LOOKS: Look[] = [1280, 390].flatMap((width) =>
  (["light", "dark"] as const).map((scheme) => ({ width, height: 800, scheme })),
);

interface Violation {
  id: string;
  impact: string;
  nodes: { html: string }[];
}

/** What axe finds that is serious or worse. */
async function seriousFaults({ page }: Window): Promise<string[]> {
  await page.evaluate(AXE);
  const violations = (await page.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: { run(): Promise<{ violations: unknown }> } };
    return (await axe.run()).violations;
  })) as Violation[];
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
}

let browser: Browser;
before(async () => (browser = await launchBrowser()));
after(() => browser.close());

for (const [name, start] of [
  ["examples/chat", () => ServerProcess.chatExample()],
  ["tidings dev", () => ServerProcess.dev()],
] as const) {
  describe(name, () => {
    let server: ServerProcess;
    before(async () => (server = await start()));
    after(() => server.end());

    test("axe finds nothing serious, before and after signing in", async () => {
      const ann = await Window.open(browser, server);
      const bob = await Window.open(browser, server);
      for (const look of LOOKS) {
        await ann.look(look);
        assert.deepEqual(await seriousFaults(ann), [], `signing in, ${JSON.stringify(look)}`);
      }
      await ann.look(LOOKS[0]!);
      await ann.signIn("ann");
      await bob.signIn("bob");
      await bob.say("The new build is out. Shall we ship it today?");
      await ann.seesText("The new build is out. Shall we ship it today?");
      await ann.sendImage(IMAGE);
      await bob.until("the image", async () => (await bob.page.$$(".bubble img")).length === 1);
      await ann.say("The graphs look good");
      await ann.allStored();
      await ann.page.keyboard.press("ArrowUp");
      await ann.say(", so: yes");
      await bob.seesText("The graphs look good, so: yes");
      await bob.write("Then I press the button");
      await ann.seesIn("#typing", "bob is typing");
      for (const look of LOOKS) {
        await ann.page.bringToFront();
        await ann.look(look);
        assert.deepEqual(await seriousFaults(ann), [], `chatting, ${JSON.stringify(look)}`);
        if (SCREENSHOTS === undefined || name !== "tidings dev") continue;
        mkdirSync(SCREENSHOTS, { recursive: true });
        await ann.page.screenshot({ path: `${SCREENSHOTS}/chat-${look.width}-${look.scheme}.png` });
      }
      await Promise.all([ann.close(), bob.close()]);
    });

    test("signing in, writing, editing, changing the room and back: with a keyboard alone", async () => {
      const window = await Window.open(browser, server);
      const { page } = window;
      const focused = () => window.focused();
      const tabTo = async (wanted: string | null) => {
        for (let tabs = 0; tabs < 30 && (await focused()) !== wanted; tabs += 1) await page.keyboard.press("Tab");
        assert.equal(await focused(), wanted);
      };
      await window.until("the first field to have the focus", async () => (await focused()) === "name");
      await page.keyboard.down("Control");
      await page.keyboard.press("a");
      await page.keyboard.up("Control");
      await page.keyboard.type("keys");
      if (name === "examples/chat") {
        await page.keyboard.press("Tab");
        await page.keyboard.type("canary-bird of keys");
      }
      await page.keyboard.press("Enter");
      await window.connected();
      await window.until("the composer to have the focus", async () => (await focused()) === "text");
      await page.keyboard.type("by keyboard");
      await page.keyboard.press("Enter");
      await window.allStored();
      await page.keyboard.down("Shift");
      for (let tabs = 0; tabs < 10 && (await focused()) !== "Edit"; tabs += 1) await page.keyboard.press("Tab");
      await page.keyboard.up("Shift");
      assert.equal(await focused(), "Edit");
      await page.keyboard.press("Enter");
      assert.equal(await focused(), "text");
      await page.keyboard.type(" alone");
      await page.keyboard.press("Enter");
      await window.seesText("by keyboard alone");
      await page.keyboard.type("given up");
      await page.keyboard.down("Control");
      await page.keyboard.press("a");
      await page.keyboard.up("Control");
      await page.keyboard.press("Backspace");
      if (name === "tidings dev") {
        await tabTo("room-name");
        await page.keyboard.type("chat:other");
      } else await tabTo("Random");
      await page.keyboard.press("Enter");
      await window.sees("another room", (texts) => texts.length === 0);
      assert.equal(await focused(), "text");
      await tabTo(name === "tidings dev" ? "chat:lobby" : "General");
      await page.keyboard.press("Enter");
      await window.seesText("by keyboard alone");
      await tabTo("sign-out");
      await page.keyboard.press("Enter");
      await page.waitForSelector("#name", { visible: true });
      assert.deepEqual(window.faults, []);
      await window.close();
    });

    test("what comes in takes nobody's focus away", async () => {
      const [ann, bob] = [await Window.open(browser, server), await Window.open(browser, server)];
      await ann.signIn("ann");
      await bob.signIn("bob");
      await ann.say("a row that is drawn anew");
      await ann.allStored();
      const tab = await ann.newTab();
      if (name === "tidings dev") await tab.signIn("ann");
      await tab.seesText("a row that is drawn anew");
      await ann.page.focus(".message:last-child button");
      await tab.page.focus("#text");
      await tab.page.keyboard.press("ArrowUp");
      await tab.say(", and again");
      await ann.seesText("a row that is drawn anew, and again");
      assert.equal(await ann.focused(), "Edit");

      const [here, other] = name === "tidings dev" ? (["chat:lobby", "chat:other"] as const) : (["General", "Random"] as const);
      for (const window of [ann, bob]) {
        await window.page.bringToFront();
        if (name === "tidings dev") {
          await window.page.type("#room-name", other);
          await window.page.keyboard.press("Enter");
        } else await window.openRoom(other);
      }
      await ann.openRoom(here);
      await ann.page.$eval("#rooms li:last-child button", (button) => button.focus());
      await bob.say("unread");
      await ann.until("one unread", async () => (await ann.focused()) === `${other}1`);
      await Promise.all([ann.close(), bob.close()]);
    });
  });
}
