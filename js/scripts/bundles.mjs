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

export async function bundleForBrowsers() {
  await bundle({
    entryPoints: ["dist/index.js"],
    outfile: "dist/browser/edgeae.js",
    format: "iife",
    globalName: "edgeae",
    alias: runtimeIsGlobal,
  });
  await bundle({
    entryPoints: ["dist/index.js"],
    outfile: "dist/browser/edgeae.mjs",
    format: "esm",
    alias: runtimeIsGlobal,
  });
  const reader = gzippedBytes("dist/browser/edgeae.mjs");
  console.log(`edgeae.mjs: ${reader} bytes gzipped, allowed are ${READER_BYTES}`);
  if (reader > READER_BYTES) process.exitCode = 1;
}
