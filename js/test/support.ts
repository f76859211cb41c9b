import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import type { ImageCodec, Runtime, SignalDenoiser } from "edgeae/node";
import * as edgeae from "edgeae/node";

/** The repository's root, from js/build. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
export const GOLDEN = `${ROOT}tests/golden`;
export const RUNTIMES = ["onnxruntime-web", "onnxruntime-node"] as const;
export type RuntimeName = (typeof RUNTIMES)[number];

export async function runtimeOf(name: RuntimeName): Promise<Runtime> {
  if (name === "onnxruntime-node") return await import("onnxruntime-node");
  const web = await import("onnxruntime-web/wasm");
  web.env.wasm.numThreads = 1;
  return web;
}

interface Choice {
  readonly runtime?: RuntimeName;
  readonly precision?: string;
}

export async function loadCodec(path: string, choice: Choice = {}): Promise<ImageCodec> {
  return await edgeae.loadCodec(edgeae.folder(path), await options(choice));
}

export async function loadDenoiser(path: string, choice: Choice = {}): Promise<SignalDenoiser> {
  return await edgeae.loadDenoiser(edgeae.folder(path), await options(choice));
}

async function options({ runtime = "onnxruntime-web", precision }: Choice) {
  return { runtime: await runtimeOf(runtime), precision };
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

/** The rate and the channels, in [-1, 1], of a WAV file of 16-bit samples. */
export function readWav(path: string): { rate: number; channels: Float32Array[] } {
  const data = readFileSync(path);
  const count = data.readUInt16LE(22);
  const frames = (data.length - 44) / (2 * count);
  const channels = Array.from({ length: count }, (_, c) =>
    Float32Array.from({ length: frames }, (_, i) => data.readInt16LE(44 + 2 * (i * count + c)) / 32768),
  );
  return { rate: data.readUInt32LE(24), channels };
}

/** How far the difference lies below the signal. */
export function ratioDb(signal: Float32Array, other: Float32Array): number {
  const energy = (values: Float32Array) => values.reduce((sum, value) => sum + value * value, 0);
  const difference = signal.map((value, i) => value - other[i]!);
  return 10 * Math.log10(energy(signal) / energy(difference));
}

/** CRC-32 of all pieces, bit by bit: not the code that is tested. */
export function crc(...pieces: Uint8Array[]): number {
  let sum = 0xffffffff;
  for (const byte of Buffer.concat(pieces)) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
  }
  return ~sum >>> 0;
}
