/**
 * Measures SpeechDenoiserNode in headless Chromium, in real time, between a fake microphone that
 * plays the package's noisy recording and a recorder.
 *
 *     node scripts/measure_worklet.mjs [--minutes 10] [--transport memory|messages] [--json FILE]
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { launch } from "./chromium.mjs";
import { serve } from "./serve.mjs";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    transport: { type: "string", default: "memory" },
    json: { type: "string" },
  },
});
const js = fileURLToPath(new URL("..", import.meta.url));
const FOLDERS = {
  "/models/": `${js}../edgeae/models`,
  "/assets/": `${js}../edgeae/assets`,
  "/ort/": `${js}node_modules/onnxruntime-web/dist`,
  "/edgeae/": `${js}dist/browser`,
  "/": `${js}test/pages`,
};
const server = await serve(FOLDERS, { isolated: values.transport === "memory" });
const folder = mkdtempSync(join(tmpdir(), "edgeae-"));
const microphone = join(folder, "microphone.wav");

/** 16-bit WAV of the recording, as a browser decodes it. */
async function recording() {
  const browser = await launch();
  const page = await browser.newPage();
  await page.goto(`${server.url}/module.html`);
  const samples = await page.evaluate(async () => {
    const data = await (await fetch("/assets/noisy.flac")).arrayBuffer();
    const sound = await new OfflineAudioContext(1, 1, 48000).decodeAudioData(data);
    return [...sound.getChannelData(0)];
  });
  await browser.close();
  const wav = Buffer.alloc(44 + 2 * samples.length);
  wav.write("RIFF", 0);
  wav.writeUInt32LE(36 + 2 * samples.length, 4);
  wav.write("WAVEfmt ", 8);
  [16, 0x10001, 48000, 96000, 0x100002].forEach((value, i) => wav.writeUInt32LE(value, 16 + 4 * i));
  wav.write("data", 36);
  wav.writeUInt32LE(2 * samples.length, 40);
  samples.forEach((value, i) => wav.writeInt16LE(Math.round(32767 * value), 44 + 2 * i));
  return wav;
}

/**
 * @param {import("playwright-core").Browser} browser
 * @param {string} url
 */
async function measure(browser, url) {
  const page = await browser.newPage();
  await page.goto(`${url}/module.html`);
  await page.waitForFunction(() => "edgeae" in globalThis);
  return await page.evaluate(
    async ([minutes, wasm]) => {
      const { edgeae, prepare, record } = globalThis;
      const context = new AudioContext();
      await context.suspend();
      await prepare(context);
      const node = await edgeae.SpeechDenoiserNode.create(context, "/models/speech-denoiser", {
        wasm,
      });
      const audio = { noiseSuppression: false, echoCancellation: false, autoGainControl: false };
      const stream = await navigator.mediaDevices.getUserMedia({ audio });
      const source = context.createMediaStreamSource(stream);
      const recorder = record(context, 20);
      source.connect(node).connect(recorder, 0, 1);
      source.connect(recorder, 0, 0);
      await context.resume();
      let [worstMs, dropped] = [0, 0];
      /** @type {number[]} */
      const spells = [];
      const start = performance.now();
      const end = start + 60_000 * minutes;
      while (performance.now() < end) {
        await new Promise((resolve) => setTimeout(resolve, 250));
        worstMs = Math.max(worstMs, node.stats.worstMs);
        if (node.stats.droppedHops > dropped) {
          spells.push(Number(((performance.now() - start) / 1000).toFixed(1)));
        }
        dropped = node.stats.droppedHops;
      }
      const { hops, droppedHops, load } = node.stats;
      const { latency, transport } = node;
      const { sampleRate } = context;
      node.close();
      const [noisy, clean] = await recorder.samples;
      const denoiser = await edgeae.RemoteDenoiser.open("/models/speech-denoiser", { wasm });
      const [expected] = await denoiser.denoise([noisy], { sampleRate });
      const lag = Math.round(latency * sampleRate);
      let [signal, difference] = [0, 0];
      for (let i = 0; i + lag < clean.length; i++) {
        signal += expected[i] ** 2;
        difference += (expected[i] - clean[i + lag]) ** 2;
      }
      return {
        transport,
        sample_rate_hz: sampleRate,
        minutes,
        hops,
        dropped_hops: droppedHops,
        // Quarters of a second in which one was dropped, by the seconds at their ends.
        spells: spells.length,
        first_spells_s: spells.slice(0, 10),
        load: Number(load.toFixed(3)),
        worst_ms: Number(worstMs.toFixed(1)),
        latency_ms: Number((1000 * latency).toFixed(1)),
        equal_to_whole: difference === 0,
        difference_db: difference ? Number((10 * Math.log10(signal / difference)).toFixed(1)) : null,
      };
    },
    /** @type {const} */ ([Number(values.minutes), "/ort/ort-wasm-simd-threaded.wasm"]),
  );
}

writeFileSync(microphone, await recording());
const browser = await launch(microphone);
try {
  const row = await measure(browser, server.url);
  const { version } = JSON.parse(
    readFileSync(`${js}node_modules/onnxruntime-web/package.json`, "utf8"),
  );
  const manifest = readFileSync(`${js}../edgeae/models/speech-denoiser/manifest.json`);
  const hash = await crypto.subtle.digest("SHA-256", manifest);
  const result = {
    command: "node scripts/measure_worklet.mjs",
    machine: cpus()[0]?.model,
    cores: cpus().length,
    load_average: Math.round(loadavg()[1] ?? 0),
    chromium: browser.version(),
    onnxruntime_web: version,
    bundle: Buffer.from(hash).toString("hex"),
    ...row,
  };
  console.log(JSON.stringify(result, null, 1));
  if (values.json) writeFileSync(values.json, JSON.stringify(result, null, 1) + "\n");
} finally {
  await browser.close();
  server.close();
  rmSync(folder, { recursive: true });
}
