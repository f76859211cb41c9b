/** The package in a real browser: pages without a bundler, workers, the cache, a microphone. */

import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import type { Browser, Page } from "playwright-core";

import { folder as nodeFolder } from "edgeae/node";
import { loadSignalCodec } from "edgeae/signals";

import { chromiumPath, launch } from "../scripts/chromium.mjs";
import { serve } from "../scripts/serve.mjs";
import { GOLDEN, goldenFiles, loadCodec, ROOT, runtimeOf } from "./support.js";

type Edgeae = typeof import("edgeae");

const SKIP = chromiumPath ? false : "no Chromium here: set CHROMIUM to one";
if (SKIP) console.log(`NOT TESTED in a browser: ${SKIP}`);

const FOLDERS = {
  "/golden/": GOLDEN,
  "/ort/": `${ROOT}js/node_modules/onnxruntime-web/dist`,
  "/edgeae/": `${ROOT}js/dist/browser`,
  "/": `${ROOT}js/test/pages`,
};
const WASM = "/ort/ort-wasm-simd-threaded.wasm";

// A machine may be busy with other things.
const PATIENCE_MS = 120_000;

/** What the pages import; they know nothing of Node's paths. */
declare const edgeae: Edgeae;
interface Recorder {
  readonly samples: Promise<[Float32Array, Float32Array]>;
}
declare function prepare(context: AudioContext): Promise<void>;
declare function record(context: AudioContext, seconds: number): AudioWorkletNode & Recorder;

// eslint-disable-next-line max-lines-per-function -- Long: its tests share one browser.
describe("in Chromium", { skip: SKIP }, () => {
  const folder = mkdtempSync(join(tmpdir(), "edgeae-"));
  let browser: Browser;
  const servers: { url: string; close: () => void }[] = [];

  async function page(path = "/module.html", isolated = true): Promise<Page> {
    const server = await serve(FOLDERS, { isolated });
    servers.push(server);
    const opened = await browser.newPage();
    opened.setDefaultTimeout(PATIENCE_MS);
    opened.on("pageerror", (error) => console.error("in the page:", error));
    await opened.goto(server.url + path);
    await opened.waitForFunction(() => "edgeae" in globalThis);
    return opened;
  }

  before(async () => {
    const microphone = join(folder, "microphone.wav");
    copyFileSync(`${GOLDEN}/tiny-denoiser/noisy.wav`, microphone);
    browser = await launch(microphone);
  });
  after(async () => {
    await browser.close();
    for (const server of servers) server.close();
    rmSync(folder, { recursive: true });
  });

  test("a worker decodes golden files; the second time from the cache", async () => {
    const opened = await page();
    const codec = await loadCodec(`${GOLDEN}/tiny-codec`);
    const files = ["whole-color.eae", "whole-transparent.eae", "small-gray.eae"];
    const expected = [];
    for (const file of files) {
      expected.push([...(await codec.decompress(goldenFiles(file)[0]!)).data]);
    }
    for (const cached of [false, true]) {
      const found = await opened.evaluate(
        async ([files, wasm]) => {
          const progress: boolean[] = [];
          const codec = await edgeae.RemoteCodec.open("/golden/tiny-codec", {
            wasm,
            onProgress: ({ cached, loadedBytes, totalBytes }) => {
              if (loadedBytes === totalBytes) progress.push(cached);
            },
          });
          const images = [];
          for (const file of files) {
            const bytes = await (await fetch(`/golden/${file}`)).arrayBuffer();
            const image = await codec.decompress(bytes);
            images.push({ isImageData: image instanceof ImageData, data: [...image.data] });
          }
          codec.close();
          return { progress, images };
        },
        [files, WASM] as const,
      );
      assert.deepEqual(
        found.images.map(({ data }) => data),
        expected,
      );
      assert.ok(found.images.every(({ isImageData }) => isImageData));
      assert.ok(found.progress.length >= 5 && found.progress.every((value) => value === cached));
    }
  });

  test("a worker compresses, sends and receives, and Node reads it", async () => {
    const opened = await page();
    const made = await opened.evaluate(async (wasm) => {
      const codec = await edgeae.RemoteCodec.open("/golden/tiny-codec", { wasm });
      const canvas = new OffscreenCanvas(50, 40);
      const context = canvas.getContext("2d")!;
      const gradient = context.createLinearGradient(0, 0, 50, 40);
      gradient.addColorStop(0, "orange");
      gradient.addColorStop(1, "teal");
      context.fillStyle = gradient;
      context.fillRect(0, 0, 50, 40);
      const image = context.getImageData(0, 0, 50, 40);
      const bytes = await codec.compress(image, { quality: 8 });
      const packets = await codec.packets(image, { maxPacketBytes: 120 });
      const { mask } = await codec.receive(packets.slice(1));
      const cut = await codec.conceal(bytes.slice(0, 200));
      codec.close();
      return {
        image: [...image.data],
        bytes: [...bytes],
        packets: packets.length,
        lost: mask.includes(1) && mask.includes(0),
        cut: cut.mask.includes(1),
      };
    }, WASM);
    const codec = await loadCodec(`${GOLDEN}/tiny-codec`);
    const { data } = await codec.decompress(Uint8Array.from(made.bytes));
    assert.ok(data.every((value, i) => Math.abs(value - made.image[i]!) < 40));
    assert.ok(made.packets > 2 && made.lost && made.cut);
  });

  test("errors come out of the worker as they are", async () => {
    const opened = await page();
    const errors = await opened.evaluate(async (wasm) => {
      const codec = await edgeae.RemoteCodec.open("/golden/tiny-codec", { wasm });
      const image = new ImageData(2, 2);
      const calls = [
        () => codec.decompress(new Uint8Array(9)),
        () => codec.compress(image, { quality: 10 }),
        () => edgeae.RemoteCodec.open("/golden/nothing", { wasm }),
        () => edgeae.RemoteDenoiser.open("/golden/tiny-denoiser", { wasm, worker: "/no.js" }),
      ];
      const found: string[] = [];
      for (const call of calls) {
        await call().catch((error: unknown) => {
          const isOurs = error instanceof edgeae.EdgeaeError;
          found.push(isOurs ? error.kind : (error as Error).constructor.name);
        });
      }
      codec.close();
      await codec.decompress(new Uint8Array(9)).catch((error: unknown) => {
        found.push((error as Error).message);
      });
      return found;
    }, WASM);
    assert.deepEqual(errors, ["bitstream", "RangeError", "bundle", "runtime", "the model was closed"]);
  });

  test("a worker keeps every pixel, and reads signals", async () => {
    const opened = await page();
    const found = await opened.evaluate(async (wasm) => {
      const codec = await edgeae.RemoteCodec.open("/golden/tiny-codec", { wasm });
      const image = new ImageData(Uint8ClampedArray.from({ length: 400 }, (_, i) => (i * i) % 256), 20);
      const bytes = await codec.compress(image, { lossless: true });
      const images = [await codec.decompress(bytes), edgeae.decompressExact(bytes)];
      const same = images.map((back) => back.data.every((value, i) => value === image.data[i]));
      codec.close();
      const entry = "/edgeae/signals.mjs";
      const { RemoteSignalCodec } = (await import(entry)) as typeof import("edgeae/signals");
      const model = await RemoteSignalCodec.open("/golden/tiny-signal-codec", { wasm });
      const file = await (await fetch("/golden/signals/leads.eae")).arrayBuffer();
      const { leads, units, sampleRate } = await model.decompress(file);
      const refused = await model.receive([]).catch((error: unknown) => (error as Error).name);
      model.close();
      return { same, leads: leads.map((lead) => [...lead]), units, sampleRate, refused };
    }, WASM);
    assert.deepEqual(found.same, [true, true]);
    const runtime = await runtimeOf("onnxruntime-web");
    const model = await loadSignalCodec(nodeFolder(`${GOLDEN}/tiny-signal-codec`), { runtime });
    const signal = await model.decompress(goldenFiles("signals/leads.eae")[0]!);
    assert.deepEqual(
      found.leads,
      signal.leads.map((lead) => [...lead]),
    );
    assert.deepEqual([found.units, found.sampleRate, found.refused], [["mV", "mV"], 360, "EdgeaeError"]);
  });

  test("plain script tags suffice", async () => {
    const opened = await page("/script.html");
    const size = await opened.evaluate(async () => {
      const codec = await edgeae.loadCodec("/golden/tiny-codec");
      const bytes = await (await fetch("/golden/small-color.eae")).arrayBuffer();
      const { width, height } = await codec.decompress(bytes);
      const remote = await edgeae.RemoteCodec.open("/golden/tiny-codec", {
        wasm: "/ort/ort-wasm-simd-threaded.wasm",
      });
      const same = await remote.decompress(bytes);
      return [width, height, same.width];
    });
    assert.deepEqual(size, [16, 13, 16]);
  });

  for (const [transport, isolated] of [["memory", true], ["messages", false]] as const) {
    // The golden model is small: a machine that is busy with other things can run it too.
    test(`a microphone is denoised, over ${transport}`, async (t) => {
      const opened = await page("/module.html", isolated);
      const found = await opened.evaluate(async (wasm) => {
        const context = new AudioContext();
        await context.suspend();
        await prepare(context);
        // A busy machine may keep the worker waiting: this is no test of speed.
        const options = { wasm, slackMs: 400 };
        const node = await edgeae.SpeechDenoiserNode.create(
          context,
          "/golden/tiny-denoiser",
          options,
        );
        const media = { audio: { noiseSuppression: false, echoCancellation: false } };
        const stream = await navigator.mediaDevices.getUserMedia(media);
        const microphone = context.createMediaStreamSource(stream);
        const recorder = record(context, 4);
        microphone.connect(node).connect(recorder, 0, 1);
        microphone.connect(recorder, 0, 0);
        await context.resume();
        const [noisy, clean] = await recorder.samples;
        node.bypass = true;
        node.attenuationLimitDb = 12;
        const { stats, latency, transport } = node;
        await new Promise((resolve) => setTimeout(resolve, 300));
        node.close();
        const denoiser = await edgeae.RemoteDenoiser.open("/golden/tiny-denoiser", { wasm });
        const { sampleRate } = context;
        const [expected] = await denoiser.denoise([noisy], { sampleRate });
        let [signal, difference, before] = [0, 0, 0];
        const lag = Math.round(latency * sampleRate);
        // The end of the recording is still on its way.
        for (let i = 0; i + lag < clean.length; i++) {
          signal += expected![i]! ** 2;
          difference += (expected![i]! - clean[i + lag]!) ** 2;
          before += (expected![i]! - noisy[i]!) ** 2;
        }
        return {
          ratio: 10 * Math.log10(signal / difference),
          change: 10 * Math.log10(signal / before),
          power: 10 * Math.log10(signal / clean.length),
          stats,
          latency,
          transport,
        };
      }, WASM);
      t.diagnostic(JSON.stringify(found));
      assert.equal(found.transport, transport);
      assert.ok(found.power > -50, "the microphone hears something");
      assert.ok(found.change < 20, "the denoiser does something");
      assert.equal(found.stats.droppedHops, 0);
      assert.ok(found.ratio > 60, `${found.ratio} dB`);
      assert.ok(found.stats.hops > 100 && found.stats.load > 0);
    });
  }
});
