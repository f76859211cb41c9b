// Runs the vectors of benchmarks/provider_matrix.py with onnxruntime-node or onnxruntime-web.
//
//     node run.mjs PACKAGE FOLDER OUT PROVIDER

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [name, folder, out, provider] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const ort = require(name);
if (ort.env.wasm) ort.env.wasm.numThreads = 1;

const arrays = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array, int8: Int8Array };

function read(port) {
  const bytes = readFileSync(join(folder, port.file));
  const whole = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  return new ort.Tensor(port.dtype, new arrays[port.dtype](whole), port.shape);
}

const graphs = {};
for (const vector of JSON.parse(readFileSync(join(folder, "vectors.json"), "utf8"))) {
  try {
    const session = await ort.InferenceSession.create(
      new Uint8Array(readFileSync(join(folder, vector.file))),
      { executionProviders: [provider], intraOpNumThreads: 1, logSeverityLevel: 4 },
    );
    const feeds = Object.fromEntries(vector.inputs.map((port) => [port.name, read(port)]));
    const results = await session.run(feeds);
    for (const port of vector.outputs) {
      const { data } = results[port.name];
      writeFileSync(join(out, port.file), new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    }
    // It does not tell where nodes run; with one provider there is one place.
    graphs[vector.graph] = {};
  } catch (error) {
    graphs[vector.graph] = { error: String(error.message ?? error).split("\n")[0] };
  }
}
const { version } = JSON.parse(readFileSync(join(import.meta.dirname, "node_modules", name, "package.json"), "utf8"));
writeFileSync(join(out, "report.json"), JSON.stringify({ version: `${name} ${version}`, graphs }));
