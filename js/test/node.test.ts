/** A bundle's folder on disk that holds something else than files, and the server of static files. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, rmSync, symlinkSync, truncateSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { EdgeaeError, folder } from "edgeae/node";

import { serve } from "../scripts/serve.mjs";
import { GOLDEN, loadCodec } from "./support.js";

const root = mkdtempSync(join(tmpdir(), "edgeae-"));
after(() => rmSync(root, { recursive: true }));
const NO_PIPES = process.platform === "win32" ? "Windows has no named pipes" : false;
// A read that does not end would hold the run up for ever.
const timeout = 20_000;

/** A copy of a bundle in which one file is put in place by a function. */
function spoiled(title: string, file: string, put: (path: string) => void): string {
  const path = join(root, title);
  cpSync(`${GOLDEN}/tiny-codec`, path, { recursive: true });
  rmSync(join(path, file));
  put(join(path, file));
  return path;
}

const refused = (message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof EdgeaeError && error.kind === "bundle", String(error));
  assert.match(error.message, message);
  return true;
};

for (const file of ["manifest.json", "tables.bin"]) {
  test(`a named pipe instead of ${file} is refused`, { skip: NO_PIPES, timeout }, async () => {
    const path = spoiled(`pipe-${file}`, file, (at) => execFileSync("mkfifo", [at]));
    await assert.rejects(loadCodec(path), refused(/is no regular file/));
  });

  test(`a link to a device instead of ${file} is refused`, { skip: NO_PIPES, timeout }, async () => {
    const path = spoiled(`device-${file}`, file, (at) => symlinkSync("/dev/zero", at));
    await assert.rejects(loadCodec(path), refused(/is no regular file/));
  });
}

test("a file that is longer than the manifest says is not read", async () => {
  const path = join(root, "long");
  cpSync(`${GOLDEN}/tiny-codec`, path, { recursive: true });
  // More than a whole Buffer may hold; no disk is used.
  truncateSync(join(path, "tables.bin"), 2 ** 40);
  await assert.rejects(loadCodec(path), refused(/tables\.bin has 1099511627776 bytes, expected at most/));
});

test("a folder as a file is refused, a link to a file is followed", async () => {
  await assert.rejects(folder(root)("."), refused(/is no regular file|EISDIR/));
  const path = join(root, "links");
  cpSync(`${GOLDEN}/tiny-codec`, path, { recursive: true });
  for (const file of readdirSync(path)) {
    rmSync(join(path, file), { recursive: true });
    symlinkSync(`${GOLDEN}/tiny-codec/${file}`, join(path, file));
  }
  await loadCodec(path);
});

/** The status that a server answers a path with, as it stands: `fetch` would correct it. */
function statusOf(url: string, path: string): Promise<number | undefined> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    request({ hostname, port, path }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .on("error", reject)
      .end();
  });
}

test("the server says of a path that is none, and goes on", async () => {
  const server = await serve({ "/": `${GOLDEN}/tiny-codec` });
  try {
    for (const path of ["/%", "/%ff", "//"]) assert.equal(await statusOf(server.url, path), 400, path);
    for (const path of ["/none", "/../../README.md", "/%2e%2e/README.md", "/%00"]) {
      assert.equal(await statusOf(server.url, path), 404, path);
    }
    assert.equal(await statusOf(server.url, "/manifest.json"), 200);
  } finally {
    server.close();
  }
});
