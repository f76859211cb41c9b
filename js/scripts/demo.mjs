/** Builds site/: the demo page with models and samples, ready for any server of static files. */

import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const site = `${root}site`;

rmSync(site, { recursive: true, force: true });
mkdirSync(`${site}/samples`, { recursive: true });
await build({
  absWorkingDir: root,
  entryPoints: ["demo/main.ts"],
  outfile: "site/main.js",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  alias: { edgeae: "./dist/index.js", "#runtime": "./dist/runtime.global.js" },
  logLevel: "warning",
});
for (const file of ["index.html", "style.css"]) cpSync(`${root}demo/${file}`, `${site}/${file}`);
for (const file of ["worker.js", "worklet.js"]) {
  cpSync(`${root}dist/browser/${file}`, `${site}/${file}`);
}
const wasm = "ort-wasm-simd-threaded.wasm";
cpSync(`${root}node_modules/onnxruntime-web/dist/${wasm}`, `${site}/${wasm}`);
for (const name of ["photo.webp", "noisy.flac", "README.md"]) {
  cpSync(`${root}../edgeae/assets/${name}`, `${site}/samples/${name}`);
}
for (const name of ["photo-codec", "speech-denoiser"]) {
  cpSync(`${root}../edgeae/models/${name}`, `${site}/models/${name}`, { recursive: true });
}
// Hosts that run Jekyll would leave files out.
writeFileSync(`${site}/.nojekyll`, "");

const bytes = readdirSync(site, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .reduce((sum, entry) => sum + readFileSync(`${entry.parentPath}/${entry.name}`).length, 0);
console.log(`site/: ${(bytes / 1e6).toFixed(1)} MB`);
