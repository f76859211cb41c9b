import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import type { ImageCodec, Runtime } from "edgeae/node";
import { folder, load } from "edgeae/node";

/** The repository's root, from js/build/test. */
export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
export const GOLDEN = `${ROOT}tests/golden`;
export const RUNTIMES = ["onnxruntime-web", "onnxruntime-node"] as const;
export type RuntimeName = (typeof RUNTIMES)[number];

export async function runtimeOf(name: RuntimeName): Promise<Runtime> {
  if (name === "onnxruntime-node") return await import("onnxruntime-node");
  const web = await import("onnxruntime-web/wasm");
  web.env.wasm.numThreads = 1;
  return web;
}

export async function loadCodec(
  path: string,
  { runtime = "onnxruntime-web", precision }: { runtime?: RuntimeName; precision?: string } = {},
): Promise<ImageCodec> {
  return await load(folder(path), { runtime: await runtimeOf(runtime), precision });
}

/** The file, or the packets. */
export function goldenFiles(name: string): Uint8Array[] {
  const data = readFileSync(`${GOLDEN}/${name}`);
  if (!name.endsWith(".hex")) return [new Uint8Array(data)];
  return data
    .toString()
    .trim()
    .split(/\s+/)
    .map((line) => new Uint8Array(Buffer.from(line, "hex")));
}

/** A Python that has the edgeae package: PYTHON, the repository's own environment, or python3. */
export const python = [process.env.PYTHON, `${ROOT}.venv/bin/python`, "python3"].find(
  (command) => {
    if (!command || (command.includes("/") && !existsSync(command))) return false;
    try {
      execFileSync(command, ["-c", "import edgeae, edgeae.media"], { stdio: "ignore" });
      return true;
    } catch {
      return false;
    }
  },
);
