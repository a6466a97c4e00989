/** Three nodes behind a round robin, in a real browser: one is killed, and none of six clients misses or doubles anything. */
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, before, test } from "node:test";

import type { Browser } from "puppeteer-core";

import { ServerProcess } from "./servers.ts";
import { launchBrowser, Window } from "./window.ts";

/** Where screenshots go, if they are wanted: `SCREENSHOTS=../docs/images`. */
const SCREENSHOTS = process.env.SCREENSHOTS;

let browser: Browser;
let server: ServerProcess;
before(async () => {
  [browser, server] = await Promise.all([launchBrowser(), ServerProcess.nodesExample()]);
});
after(async () => {
  await browser.close();
  await server.end();
});

const sum = ({ page }: Window) =>
  page.$eval("#sum", (element) => {
    const { acked, fewest, doubled, resets } = (element as HTMLElement).dataset;
    return { acked: Number(acked), fewest: Number(fewest), doubled: Number(doubled), resets: Number(resets) };
  });

const nodesOfClients = ({ page }: Window) =>
  page.$$eval("#clients .card", (cards) => cards.map((card) => (card as HTMLElement).dataset.node));

test("a node is killed, its clients go to the others, and nobody misses anything", async () => {
  const window = await Window.open(browser, server);
  await window.until("six clients at three nodes", async () => {
    const nodes = await nodesOfClients(window);
    return nodes.length === 6 && new Set(nodes).size === 3 && !nodes.includes(undefined);
  });
  await window.until("something was said", async () => (await sum(window)).fewest >= 3);
  await window.page.click('[aria-label="kill node two"]');
  await window.until("nobody is at the node that is gone", async () => !(await nodesOfClients(window)).includes("two"));
  const { acked } = await sum(window);
  await window.until("more was said", async () => (await sum(window)).acked >= acked + 5);
  await window.until("everybody has all of it", async () => {
    const { acked, fewest } = await sum(window);
    return fewest >= acked;
  });
  const { doubled, resets } = await sum(window);
  assert.deepEqual({ doubled, resets }, { doubled: 0, resets: 0 });
  // The pages' own complaints about the sockets that the kill has cut are no faults.
  if (SCREENSHOTS !== undefined) {
    mkdirSync(SCREENSHOTS, { recursive: true });
    await window.page.screenshot({ path: `${SCREENSHOTS}/redis-cluster-1280-light.png` });
  }
});
