/**
 * Builds if need be, and runs the tests beside the linter and the type checks: `npm test [-- file...]`.
 */

import { execFileSync, spawn } from "node:child_process";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const CHECKS = [
  ["node_modules/eslint/bin/eslint.js", "."],
  ["node_modules/typescript/bin/tsc", "-p", "tsconfig.test.json", "--noEmit"],
  ["node_modules/typescript/bin/tsc", "-p", "tsconfig.demo.json"],
];
// They wait for sound in real time: nothing else runs beside them.
const ALONE = ["browser", "demo"];

/**
 * Whether it ended well.
 *
 * @param {string[]} args
 * @returns {Promise<boolean>}
 */
function runs(args) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, { cwd: root, stdio: "inherit" });
    child.on("close", (status) => resolve(status === 0));
  });
}

async function checks() {
  let well = true;
  for (const check of CHECKS) well = (await runs(check)) && well;
  return well;
}

/**
 * @param {string[]} names
 * @param {number} atOnce
 */
async function tests(names, atOnce) {
  if (!names.length) return true;
  const files = names.map((name) => `build/${name}.test.js`);
  const concurrency = `--test-concurrency=${atOnce}`;
  return await runs(["--test", concurrency, "--test-reporter=spec", ...files]);
}

if (!existsSync(`${root}dist/index.js`)) {
  execFileSync(process.execPath, ["scripts/build.mjs"], { cwd: root, stdio: "inherit" });
}
rmSync(`${root}build`, { recursive: true, force: true });
const sources = readdirSync(`${root}test`).filter((file) => file.endsWith(".ts"));
await build({
  absWorkingDir: root,
  entryPoints: sources.map((file) => `test/${file}`),
  outdir: "build",
  format: "esm",
  target: "es2022",
  logLevel: "warning",
});

const wanted = process.argv.slice(2).map((file) => basename(file).replace(/(\.test)?(\.ts)?$/, ""));
const names = sources
  .filter((file) => file.endsWith(".test.ts"))
  .map((file) => file.replace(/\.test\.ts$/, ""))
  .filter((name) => !wanted.length || wanted.includes(name));
const both = await Promise.all([
  checks(),
  tests(
    names.filter((name) => !ALONE.includes(name)),
    2,
  ),
]);
const alone = await tests(
  names.filter((name) => ALONE.includes(name)),
  1,
);
process.exitCode = [...both, alone].every(Boolean) ? 0 : 1;
