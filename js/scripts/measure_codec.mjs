/**
 * Reads and writes photographs beside the Python package: are symbols and pixels the same, and how
 * long does it take, on this machine, in one thread.
 *
 *     PYTHON=python node scripts/measure_codec.mjs PICTURES [--json FILE]
 */

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import * as edgeae from "edgeae/node";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "string" } },
});
const js = fileURLToPath(new URL("..", import.meta.url));
const work = mkdtempSync(join(tmpdir(), "edgeae-"));
const python = (/** @type {string[]} */ ...args) =>
  execFileSync(process.env.PYTHON ?? "python3", [`${js}scripts/measure_codec.py`, ...args], {
    encoding: "utf8",
    maxBuffer: 1 << 26,
  });

/** @param {number[]} numbers */
const median = (numbers) => Math.round([...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? 0);

/**
 * CPU time, which other work on the machine does not change.
 *
 * @param {NodeJS.CpuUsage} start
 */
function cpuMs(start) {
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}

/** @param {string} name */
async function runtimeOf(name) {
  if (name === "onnxruntime-node") return await import("onnxruntime-node");
  const web = await import("onnxruntime-web/wasm");
  web.env.wasm.numThreads = 1;
  return web;
}

try {
  python("make", positionals[0] ?? "", work);
  const { bundle, files } = JSON.parse(readFileSync(join(work, "files.json"), "utf8"));
  const rows = [];
  const source = edgeae.folder(`${js}../edgeae/models/photo-codec`);
  for (const [name, precision] of [
    ["onnxruntime-web", "int8"],
    ["onnxruntime-web", "fp32"],
    ["onnxruntime-node", "int8"],
  ]) {
    const codec = await edgeae.loadCodec(source, { runtime: await runtimeOf(name), precision });
    const [encode, decode] = [[], []];
    let [equal, same, worst] = [0, 0, 0];
    for (const [i, file] of files.entries()) {
      const bytes = new Uint8Array(readFileSync(join(work, `${file.name}.eae`)));
      const symbols = await codec.symbols([bytes]);
      if (createHash("sha256").update(symbols).digest("hex") === file.symbols_sha256) equal++;
      let start = process.cpuUsage();
      const image = await codec.decompress(bytes);
      const decodeMs = cpuMs(start);
      const pixels = readFileSync(join(work, `${file.name}.${precision}.rgb`));
      for (let j = 0; j < pixels.length / 3; j++) {
        for (let c = 0; c < 3; c++) {
          worst = Math.max(worst, Math.abs(image.data[4 * j + c] - pixels[3 * j + c]));
        }
      }
      const data = new Uint8ClampedArray(readFileSync(join(work, `${file.picture}.rgba`)));
      const { width, height, quality } = file;
      start = process.cpuUsage();
      const written = await codec.compress({ data, width, height }, { quality });
      const encodeMs = cpuMs(start);
      if (Buffer.compare(written, bytes) === 0) same++;
      if (precision === "int8") {
        writeFileSync(join(work, `${name}-${file.name}.js.eae`), written);
        const { data: restored } = await codec.decompress(written);
        writeFileSync(join(work, `${name}-${file.name}.jsrgba`), restored);
      }
      // Engines compile what they run often: the first picture takes longer.
      if (i === 0) continue;
      decode.push(decodeMs);
      encode.push(encodeMs);
    }
    rows.push({
      runtime: name,
      precision,
      files: files.length,
      symbols_equal: equal,
      worst_gray_levels: worst,
      files_equal: same,
      encode_cpu_ms: median(encode),
      decode_cpu_ms: median(decode),
    });
  }
  const differences = Object.values(JSON.parse(python("read", work)));
  const result = {
    command: "node scripts/measure_codec.mjs PICTURES",
    machine: cpus()[0]?.model,
    bundle,
    python: {
      encode_cpu_ms: median(files.slice(1).map((/** @type {any} */ file) => file.encode_ms)),
      decode_cpu_ms: median(files.slice(1).map((/** @type {any} */ file) => file.decode_ms)),
      read_of_javascript: differences.length,
      worst_gray_levels: Math.max(...differences),
    },
    rows,
  };
  console.log(JSON.stringify(result, null, 1));
  if (values.json) writeFileSync(values.json, JSON.stringify(result, null, 1) + "\n");
} finally {
  rmSync(work, { recursive: true });
}
