/** Builds if need be, compiles the tests and runs them all: `npm test [-- file...]`. */

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const run = (/** @type {string[]} */ ...args) =>
  execFileSync(process.execPath, args, { cwd: root, stdio: "inherit" });

if (!existsSync(`${root}dist/index.js`)) run("scripts/build.mjs");
run("node_modules/eslint/bin/eslint.js", ".");
run("node_modules/typescript/bin/tsc", "-p", "tsconfig.demo.json");
rmSync(`${root}build`, { recursive: true, force: true });
run("node_modules/typescript/bin/tsc", "-p", "tsconfig.test.json");

const wanted = process.argv.slice(2).map((file) => basename(file).replace(/(\.test)?(\.ts)?$/, ""));
const files = readdirSync(`${root}build`)
  .filter((file) => file.endsWith(".test.js"))
  .filter((file) => !wanted.length || wanted.includes(file.replace(/\.test\.js$/, "")))
  .map((file) => `build/${file}`);
const { status } = spawnSync(
  process.execPath,
  ["--test", "--test-concurrency=1", "--test-reporter=spec", ...files],
  { cwd: root, stdio: "inherit" },
);
process.exitCode = status ?? 1;
