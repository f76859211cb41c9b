/** The demo page from end to end, as a visitor uses it, with mouse, keyboard and a small screen. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import type { Browser, Page } from "playwright-core";

import { chromiumPath, launch } from "../scripts/chromium.mjs";
import { serve } from "../scripts/serve.mjs";
import { GOLDEN, ROOT } from "./support.js";

const SKIP = chromiumPath ? false : "no Chromium here: set CHROMIUM to one";
if (SKIP) console.log(`NOT TESTED in a browser: ${SKIP}`);
const PATIENCE_MS = 120_000;

// eslint-disable-next-line max-lines-per-function -- Long: its tests share one page.
describe("the demo page", { skip: SKIP }, () => {
  const folder = mkdtempSync(join(tmpdir(), "edgeae-"));
  const elsewhere: string[] = [];
  const failures: string[] = [];
  let browser: Browser;
  let server: { url: string; close: () => void };
  let page: Page;

  const text = async (selector: string) => (await page.textContent(selector)) ?? "";
  const until = (selector: string, pattern: RegExp) =>
    page.waitForFunction(
      ([selector, source]) => {
        const line = document.querySelector(selector!);
        if (line?.classList.contains("failed")) throw new Error(line.textContent);
        return new RegExp(source!).test(line?.textContent ?? "");
      },
      [selector, pattern.source],
      { timeout: PATIENCE_MS },
    );

  before(async () => {
    execFileSync(process.execPath, [`${ROOT}js/scripts/demo.mjs`]);
    const microphone = join(folder, "microphone.wav");
    copyFileSync(`${GOLDEN}/tiny-denoiser/noisy.wav`, microphone);
    server = await serve({ "/": `${ROOT}js/site` });
    browser = await launch(microphone);
    page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
    page.setDefaultTimeout(PATIENCE_MS);
    page.on("pageerror", (error) => failures.push(String(error)));
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(server.url) && !/^(blob|data):/.test(url)) elsewhere.push(url);
    });
    await page.goto(server.url);
    await until("#photo-status", /restored in/);
    await until("#speech-status", /times real time/);
  });
  after(async () => {
    await browser.close();
    server.close();
    rmSync(folder, { recursive: true });
  });

  test("the sample photo stands beside JPEG and WebP of its size", async () => {
    const rows = await page.locator("#rows tr").allInnerTexts();
    const [ours, jpeg, webp] = rows.map((row) => row.split("\t").map((cell) => cell.trim()));
    assert.deepEqual([ours![0], jpeg![0], webp![0]], ["edgeae", "JPEG", "WebP"]);
    const number = (cell: string) => Number(cell.replace(/[^0-9.]/g, ""));
    assert.ok(number(ours![1]!) > 1000);
    assert.ok(number(jpeg![1]!) <= number(ours![1]!));
    assert.ok(number(ours![3]!) > number(jpeg![3]!));
  });

  test("the divider is moved from the keyboard", async () => {
    const split = () => page.$eval("#stage", (stage) => stage.style.getPropertyValue("--split"));
    await page.focus("#split");
    const start = await split();
    await page.keyboard.press("ArrowRight");
    assert.notEqual(await split(), start);
    await page.keyboard.press("Home");
    assert.equal(await split(), "0%");
  });

  test("another quality gives another size, and the right side shows what is chosen", async () => {
    const bytes = async () => (await page.locator("#rows td").first().textContent())!;
    const earlier = await bytes();
    await page.fill("#quality", "2");
    await page.waitForFunction(
      (earlier) => document.querySelector("#rows td")?.textContent !== earlier,
      earlier,
      { timeout: PATIENCE_MS },
    );
    await until("#photo-status", /restored in/);
    await page.getByText("JPEG", { exact: true }).first().click();
    assert.match(await text("#right-tag"), /^JPEG/);
    await page.getByText("edgeae", { exact: true }).nth(1).click();
    assert.match(await text("#right-tag"), /^edgeae/);
  });

  test("a file is saved, and opened again", async () => {
    const [download] = await Promise.all([page.waitForEvent("download"), page.click("#photo-save")]);
    const saved = join(folder, "saved.eae");
    await download.saveAs(saved);
    assert.equal(readFileSync(saved)[0], 0x89);
    await page.setInputFiles("#photo-file", saved);
    await until("#photo-status", /saved\.eae: 768 × 512 pixels, quality 2/);
    assert.equal(await page.locator("#rows tr").count(), 1);
  });

  test("what is no picture is said to be none", async () => {
    await page.setInputFiles("#photo-file", `${GOLDEN}/README.md`);
    await page.waitForSelector("#photo-status.failed");
    assert.match(await text("#photo-status"), /README\.md is no picture/);
    await page.click("#photo-sample");
    await until("#photo-status", /restored in/);
  });

  test("the recording plays, and its spectrograms are not alike", async () => {
    const brightness = (id: string) =>
      page.$eval(id, (canvas) => {
        const { width, height } = canvas as HTMLCanvasElement;
        const { data } = (canvas as HTMLCanvasElement)
          .getContext("2d")!
          .getImageData(0, 0, width, height);
        return data.reduce((sum, value, i) => sum + (i % 4 < 3 ? value : 0), 0) / data.length;
      });
    const [noisy, clean] = [await brightness("#before"), await brightness("#after")];
    assert.ok(noisy > 1.5 * clean && clean > 1, `${noisy} and ${clean}`);
    await page.click("#play");
    await page.waitForFunction(
      () => parseFloat(document.getElementById("seek-value")!.textContent) > 0.3,
      undefined,
      { timeout: PATIENCE_MS },
    );
    await page.getByText("Before", { exact: true }).nth(1).click();
    await page.click("#play");
    assert.equal(await text("#play"), "Play");
  });

  test("the microphone is cleaned live", async () => {
    await page.click("#live");
    await until("#speech-status", /Live: \d+ ms late/);
    await page.click("#live");
    assert.equal(await page.getAttribute("#live", "aria-pressed"), "false");
  });

  test("every control has a name", async () => {
    const nameless = await page.locator("input, button").evaluateAll((controls) =>
      controls
        .filter((control) => {
          const { labels } = control as HTMLInputElement;
          const label = [...(labels ?? [])].map(({ textContent }) => textContent.trim()).join("");
          return !label && !control.ariaLabel && !control.textContent.trim();
        })
        .map(({ id }) => id),
    );
    assert.deepEqual(nameless, []);
  });

  test("nothing is wider than a narrow screen", async () => {
    for (const width of [390, 320]) {
      await page.setViewportSize({ width, height: 700 });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= width, `${wide} on ${width}`);
    }
  });

  test("nothing came from elsewhere or went there, and nothing failed", () => {
    assert.deepEqual(elsewhere, []);
    assert.deepEqual(failures, []);
  });
});
