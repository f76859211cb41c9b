/**
 * A server of static files, for the demo page and the tests.
 *
 *     node scripts/serve.mjs [FOLDER] [PORT]    site/ and 8080 by default
 */

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".mjs": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".webp": "image/webp",
};

// What a page needs to share memory with its worker: see docs/javascript.md.
const ISOLATED = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

/**
 * The path that a request names, or undefined where it names none.
 *
 * @param {string} url
 */
function pathOf(url) {
  try {
    return decodeURIComponent(new URL(url, "http://localhost").pathname);
  } catch {
    return undefined;
  }
}

/**
 * Serves folders by the beginning of their paths.
 *
 * @param {Record<string, string>} folders
 * @param {{ port?: number, isolated?: boolean }} [options]
 * @returns {Promise<{ url: string, close: () => void }>}
 */
export function serve(folders, { port = 0, isolated = true } = {}) {
  const server = createServer((request, response) => {
    const path = pathOf(request.url ?? "/");
    if (path === undefined) {
      response.writeHead(400).end();
      return;
    }
    const prefix = Object.keys(folders).find((start) => path.startsWith(start));
    const file = prefix && join(folders[prefix] ?? "", normalize(`/${path.slice(prefix.length)}`));
    const found = file?.endsWith("/") ? `${file}index.html` : file;
    try {
      if (!found || !statSync(found).isFile()) throw new Error("no such file");
    } catch {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      "Content-Type": TYPES[/** @type {keyof TYPES} */ (extname(found))] ?? "application/octet-stream",
      "Cache-Control": "no-cache",
      ...(isolated ? ISOLATED : {}),
    });
    // A file that cannot be read ends this answer, not the server.
    createReadStream(found).on("error", () => response.destroy()).pipe(response);
  });
  return new Promise((started, failed) => {
    server.on("error", failed).listen(port, "127.0.0.1", () => {
      const address = /** @type {import("node:net").AddressInfo} */ (server.address());
      started({
        url: `http://127.0.0.1:${address.port}`,
        close: () => {
          server.closeAllConnections();
          server.close();
        },
      });
    });
  });
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const [folder = fileURLToPath(new URL("../site", import.meta.url)), port = "8080"] =
    process.argv.slice(2);
  const { url } = await serve({ "/": resolve(folder) }, { port: Number(port) });
  console.log(`${url}/ shows ${folder}`);
}
