/**
 * Builds if need be, and runs the tests beside the linter and the type checks: `npm test [file...]`.
 * `npm test alone` runs what waits for sound in a browser, `npm test side-by-side` all else.
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
const sources = readdirSync(`${root}test`).filter((file) => file.endsWith(".ts"));
const all = sources
  .filter((file) => file.endsWith(".test.ts"))
  .map((file) => file.replace(/\.test\.ts$/, ""));
rmSync(`${root}build`, { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: sources.map((file) => `test/${file}`),
  outdir: "build",
  format: "esm",
  target: "es2022",
  logLevel: "warning",
});

const GROUPS = new Map([
  ["alone", ALONE],
  ["side-by-side", all.filter((name) => !ALONE.includes(name))],
]);
const asked = process.argv.slice(2);
const wanted = asked.flatMap(
  (name) => GROUPS.get(name) ?? [basename(name).replace(/(\.test)?(\.ts)?$/, "")],
);
const unknown = wanted.filter((name) => !all.includes(name));
if (unknown.length) {
  console.error(`there is no test ${unknown.join(", ")}, expected ${all.join(", ")}`);
  process.exit(2);
}
const names = wanted.length ? wanted : all;
const [beside, alone] = [false, true].map((is) => names.filter((n) => ALONE.includes(n) === is));
const both = await Promise.all([asked.includes("alone") || checks(), tests(beside, 2)]);
both.push(await tests(alone, 1));
process.exitCode = both.every(Boolean) ? 0 : 1;
