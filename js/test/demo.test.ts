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

/** Every track of a microphone that the page was given; see `holdBack`. */
declare const heard: MediaStreamTrack[];

/** Runs in the page before its own script. */
function holdBack(): void {
  const tracks: MediaStreamTrack[] = [];
  Object.assign(globalThis, { heard: tracks });
  const go = new Promise((resolve) => addEventListener("let-go", resolve));
  const { mediaDevices } = navigator;
  const listen = mediaDevices.getUserMedia.bind(mediaDevices);
  mediaDevices.getUserMedia = async (wish) => {
    const stream = await listen(wish);
    tracks.push(...stream.getTracks());
    return stream;
  };
  const bitmap = globalThis.createImageBitmap.bind(globalThis) as (blob: Blob) => Promise<ImageBitmap>;
  Object.assign(globalThis, {
    createImageBitmap: async (blob: Blob) => {
      if (blob.size >= 1e6) await go;
      return await bitmap(blob);
    },
  });
  const offline = OfflineAudioContext.prototype;
  // eslint-disable-next-line @typescript-eslint/unbound-method -- It is called on its object.
  const decode = offline.decodeAudioData;
  offline.decodeAudioData = async function (data) {
    if (data.byteLength >= 1e5) await go;
    return await decode.call(this, data);
  };
}

/** Gives what might still happen the time to do so. */
async function settled(page: Page): Promise<void> {
  await page.waitForTimeout(1500);
}

/** A WAV file of 48 kHz in which nothing is heard. */
function silence(frames: number): Buffer {
  const file = Buffer.alloc(44 + 2 * frames);
  file.write("RIFF", 0, "latin1");
  file.writeUInt32LE(36 + 2 * frames, 4);
  file.write("WAVEfmt ", 8, "latin1");
  file.set([16, 0, 0, 0, 1, 0, 1, 0], 16);
  file.writeUInt32LE(48_000, 24);
  file.writeUInt32LE(96_000, 28);
  file.set([2, 0, 16, 0], 32);
  file.write("data", 36, "latin1");
  file.writeUInt32LE(2 * frames, 40);
  return file;
}

/** Of a message of failure on its card, as WCAG 2 defines it; runs in the page. */
function contrastOfFailure(): number {
  const luminance = (color: string) => {
    const [r, g, b] = color.match(/[\d.]+/g)!.map((part) => {
      const value = Number(part) / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
  };
  const line = document.querySelector(".status.failed")!;
  const [front, back] = [
    luminance(getComputedStyle(line).color),
    luminance(getComputedStyle(line.closest(".card")!).backgroundColor),
  ].sort((one, other) => other - one);
  return (front! + 0.05) / (back! + 0.05);
}

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
    assert.equal(download.suggestedFilename(), "photo.eae");
    const buffer = readFileSync(saved);
    const file = { name: "SAVED.EAE", mimeType: "application/octet-stream", buffer };
    await page.setInputFiles("#photo-file", file);
    await until("#photo-status", /SAVED\.EAE: 768 × 512 pixels, quality 2/);
    assert.equal(await page.locator("#rows tr").count(), 1);
    // There is no original: nothing is called so, and nothing can be compressed anew.
    assert.equal(await page.isVisible("#left-tag"), false);
    assert.equal(await page.isDisabled("#quality"), true);
    assert.equal(await page.isDisabled("#split"), true);
  });

  test("what is no picture is said to be none", async () => {
    await page.setInputFiles("#photo-file", `${GOLDEN}/README.md`);
    await page.waitForSelector("#photo-status.failed");
    assert.match(await text("#photo-status"), /README\.md is no picture/);
    const contrast = async (colorScheme: "light" | "dark") => {
      await page.emulateMedia({ colorScheme });
      return await page.evaluate(contrastOfFailure);
    };
    const [light, dark] = [await contrast("light"), await contrast("dark")];
    assert.ok(light >= 4.5 && dark >= 4.5, `contrasts of ${light} and ${dark}`);
    await page.click("#photo-sample");
    await until("#photo-status", /restored in/);
    assert.equal(await page.isVisible("#left-tag"), true);
    assert.equal(await page.isDisabled("#quality"), false);
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
    assert.match((await page.getAttribute("#seek", "aria-valuetext"))!, /^\d+\.\d seconds$/);
  });

  test("the microphone is cleaned live", async () => {
    await page.click("#live");
    await until("#speech-status", /Live: \d+ ms late/);
    await page.click("#live");
    assert.equal(await page.getAttribute("#live", "aria-pressed"), "false");
  });

  test("a file that is dropped beside the cards leaves the page as it is", async () => {
    const kept = await page.evaluate(() =>
      ["dragover", "drop"].map((type) => {
        const event = new DragEvent(type, { bubbles: true, cancelable: true });
        document.querySelector("footer")!.dispatchEvent(event);
        return event.defaultPrevented;
      }),
    );
    assert.deepEqual(kept, [true, true]);
  });

  /** A page whose samples, and files with more than a number of bytes, wait until they are let go. */
  async function slowPage(): Promise<{ slow: Page; samples: Promise<() => Promise<void>> }> {
    const slow = await browser.newPage();
    slow.setDefaultTimeout(PATIENCE_MS);
    await slow.addInitScript(holdBack);
    const samples = new Promise<() => Promise<void>>((asked) => {
      void slow.route("**/samples/*", (route) => asked(() => route.continue()));
    });
    await slow.goto(server.url);
    return { slow, samples };
  }
  const failed = (of: Page) => of.waitForSelector("#speech-status.failed");
  const says = (of: Page, selector: string, pattern: RegExp) =>
    of.waitForFunction(
      ([selector, source]) =>
        new RegExp(source!).test(document.querySelector(selector!)?.textContent ?? ""),
      [selector, pattern.source],
    );

  test("a sample does not take the place of what was opened while it came", async () => {
    const { slow, samples } = await slowPage();
    const letGo = await samples;
    const buffer = await slow.screenshot({ clip: { x: 0, y: 0, width: 64, height: 48 } });
    await slow.setInputFiles("#photo-file", { name: "own.png", mimeType: "image/png", buffer });
    await says(slow, "#photo-status", /64 × 48 pixels\. Compressed/);
    const [answer] = await Promise.all([slow.waitForResponse("**/samples/photo.webp"), letGo()]);
    await answer.finished();
    await settled(slow);
    assert.match((await slow.textContent("#photo-status"))!, /64 × 48 pixels/);
    const [download] = await Promise.all([slow.waitForEvent("download"), slow.click("#photo-save")]);
    assert.equal(download.suggestedFilename(), "own.eae");

    // Nor does an older file that took longer to read.
    const older = { name: "older.png", mimeType: "image/png", buffer: Buffer.alloc(1e6) };
    buffer.copy(older.buffer);
    await slow.setInputFiles("#photo-file", older);
    await slow.setInputFiles("#photo-file", { name: "newer.png", mimeType: "image/png", buffer });
    await says(slow, "#photo-status", /64 × 48 pixels\. Compressed/);
    await slow.setInputFiles("#speech-file", { name: "older.wav", mimeType: "audio/wav", buffer: silence(60_000) });
    await slow.setInputFiles("#speech-file", { name: "newer.wav", mimeType: "audio/wav", buffer: silence(9_600) });
    await says(slow, "#speech-status", /newer\.wav: 0\.2 s/);
    await slow.evaluate(() => dispatchEvent(new Event("let-go")));
    await settled(slow);
    const [own] = await Promise.all([slow.waitForEvent("download"), slow.click("#photo-save")]);
    assert.equal(own.suggestedFilename(), "newer.eae");
    assert.match((await slow.textContent("#speech-status"))!, /newer\.wav/);
    await slow.close();
  });

  test("no microphone stays on after a second click, or where Live fails", async () => {
    const { slow } = await slowPage();
    const listening = () => slow.evaluate(() => heard.filter((track) => track.readyState === "live").length);
    for (const id of ["live", "record"]) {
      await slow.evaluate((id) => {
        for (let i = 0; i < 2; i++) document.getElementById(id)!.click();
      }, id);
      await settled(slow);
      assert.equal(await slow.getAttribute(`#${id}`, "aria-pressed"), "false");
      assert.equal(await listening(), 0, id);
    }
    await slow.evaluate(() => {
      AudioWorklet.prototype.addModule = () => Promise.reject(new Error("no worklet"));
    });
    await slow.click("#live");
    await failed(slow);
    assert.equal(await slow.getAttribute("#live", "aria-pressed"), "false");
    assert.ok((await slow.evaluate(() => heard.length)) > 0);
    assert.equal(await listening(), 0);
    await slow.close();
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
