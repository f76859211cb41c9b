/** The files of dist/browser, and how large they are. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));

// What a reader downloads beside the runtime and the model.
const READER_BYTES = 30_000;

/** @param {import("esbuild").BuildOptions} options */
async function bundle(options) {
  await build({
    absWorkingDir: root,
    bundle: true,
    minify: true,
    target: "es2022",
    legalComments: "eof",
    logLevel: "warning",
    ...options,
  });
}

/** @param {string} file */
export function gzippedBytes(file) {
  return gzipSync(readFileSync(`${root}${file}`), { level: 9 }).length;
}

/** In a page without a bundler the runtime is what a script tag has put into `ort`. */
const runtimeIsGlobal = { "#runtime": "./dist/runtime.global.js" };

/** A classic script knows its own address only while it is read. */
const ownAddress = {
  define: { "import.meta.url": "edgeaeScript" },
  banner: { js: "var edgeaeScript=document.currentScript.src;" },
};

export async function bundleForBrowsers() {
  // An AudioWorklet's module is added as it is, by bundlers too: it must stand alone.
  for (const outfile of ["dist/browser/worklet.js", "dist/audio/worklet.js"]) {
    await bundle({
      entryPoints: ["dist/audio/worklet.js"],
      outfile,
      format: "esm",
      allowOverwrite: true,
    });
  }
  for (const [entry, name, globalName] of [
    ["dist/index.js", "edgeae", "edgeae"],
    ["dist/signals.js", "signals", "edgeaeSignals"],
  ]) {
    const common = { entryPoints: [entry], alias: runtimeIsGlobal };
    await bundle({ ...common, outfile: `dist/browser/${name}.mjs`, format: "esm" });
    const outfile = `dist/browser/${name}.js`;
    await bundle({ ...common, outfile, format: "iife", globalName, ...ownAddress });
  }
  // With the script of the runtime, but not its WebAssembly, which is looked for beside it.
  await bundle({
    entryPoints: ["dist/worker.js"],
    outfile: "dist/browser/worker.js",
    format: "esm",
    alias: { "#runtime": "./dist/runtime.js" },
  });
  for (const name of ["edgeae.mjs", "signals.mjs"]) {
    const reader = gzippedBytes(`dist/browser/${name}`);
    console.log(`${name}: ${reader} bytes gzipped, allowed are ${READER_BYTES}`);
    if (reader > READER_BYTES) process.exitCode = 1;
  }
}
