/** The dashboard in a real browser: its charts move over an outage, and what was missed is filled in. */
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, before, test } from "node:test";

import type { Browser } from "puppeteer-core";

import { ServerProcess } from "./servers.ts";
import { launchBrowser, Window } from "./window.ts";

const OUTAGE_SECONDS = Number(process.env.OFFLINE_SECONDS ?? 5);
/** Where screenshots go, if they are wanted: `SCREENSHOTS=../docs/images`. */
const SCREENSHOTS = process.env.SCREENSHOTS;

interface Shown {
  samples: number;
  newest: number;
  shownUntil: number;
  longestStep: number;
  breaks: number;
}

/** What the chart of the CPU says of itself. */
function cpu({ page }: Window): Promise<Shown> {
  return page.$eval('[data-series="cpu"]', (card) => {
    const { samples, newest, shownUntil, longestStep, breaks } = (card as HTMLElement).dataset;
    return {
      samples: Number(samples),
      newest: Number(newest),
      shownUntil: Number(shownUntil),
      longestStep: Number(longestStep),
      breaks: Number(breaks),
    };
  });
}

const has = (window: Window, samples: number) =>
  window.until(`${samples} samples`, async () => (await window.page.$('[data-series="cpu"]')) !== null && (await cpu(window)).samples >= samples);

let browser: Browser;
let server: ServerProcess;
before(async () => {
  [browser, server] = await Promise.all([launchBrowser(), ServerProcess.dashboardExample()]);
});
after(async () => {
  await browser.close();
  await server.end();
});

test("the charts move over an outage, and the gap is filled", async () => {
  const viewer = await Window.open(browser, server);
  await viewer.connected();
  await has(viewer, 10);
  viewer.network.down();
  await viewer.reconnecting();
  // What came last is drawn by then.
  const { shownUntil } = await cpu(viewer);
  await viewer.until("another look", async () => (await cpu(viewer)).shownUntil > shownUntil + 500);
  const begun = await cpu(viewer);
  // The outage is long enough to be seen as a hole, were it not filled.
  await viewer.until("the charts to move", async () => (await cpu(viewer)).shownUntil > begun.shownUntil + OUTAGE_SECONDS * 1000);
  assert.equal((await cpu(viewer)).newest, begun.newest, "nothing comes");
  viewer.network.up();
  await viewer.connected();
  await viewer.until("the samples of now", async () => (await cpu(viewer)).newest > begun.newest + OUTAGE_SECONDS * 1000);
  const filled = await cpu(viewer);
  assert.equal(filled.breaks, 0);
  assert.ok(filled.longestStep < 2000, `no hole: the longest step is ${filled.longestStep} ms`);
  assert.ok(filled.samples > begun.samples + OUTAGE_SECONDS * 3, `${filled.samples} samples`);
  assert.deepEqual(viewer.faults, []);
  if (SCREENSHOTS !== undefined) {
    mkdirSync(SCREENSHOTS, { recursive: true });
    await viewer.page.screenshot({ path: `${SCREENSHOTS}/dashboard-1280-light.png` });
  }
});

test("a server that was started again is a gap that is marked, and the charts go on", async () => {
  const viewer = await Window.open(browser, server);
  await has(viewer, 5);
  const { newest } = await cpu(viewer);
  await server.kill();
  await viewer.reconnecting();
  await server.start();
  await viewer.until("the samples of now", async () => (await cpu(viewer)).newest > newest + 500);
  assert.equal((await cpu(viewer)).breaks, 1);
  assert.deepEqual(viewer.faults, []);
});
