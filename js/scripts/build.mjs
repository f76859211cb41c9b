/**
 * Builds dist/:
 *
 *     dist/*.js           modules with types, for npm and bundlers
 *     dist/browser/*.js   files for a page without a bundler
 */

import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { bundleForBrowsers } from "./bundles.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));

rmSync(`${root}dist`, { recursive: true, force: true });
execFileSync(process.execPath, [`${root}node_modules/typescript/bin/tsc`, "-p", root], {
  stdio: "inherit",
});
await bundleForBrowsers();
