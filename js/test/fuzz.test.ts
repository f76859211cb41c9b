/**
 * Mutated files raise the package's own error or give a picture of the size that they state.
 *
 *     FUZZ=100000 npm test fuzz       so many of them; 2,000 by default
 *     SEED=7 FUZZ=500 npm test fuzz   others
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import type { ImageCodec, Picture } from "edgeae/node";
import { EdgeaeError, info } from "edgeae/node";

import { crc, GOLDEN, goldenFiles, loadCodec } from "./support.js";

const COUNT = Number(process.env.FUZZ ?? 2000);
const SEED = Number(process.env.SEED ?? 1);
// What a small file may take; a slow machine with other work on it included.
const MOST_MS = 10_000;

const FILES = [
  "small-gray.eae", "small-one-channel.eae", "small-color.eae",
  "whole-color.eae", "whole-gray.eae", "whole-transparent.eae",
]; // prettier-ignore
const PACKETS = ["packets-color.hex", "packets-gray.hex"];

/** Mulberry32: numbers below `below`, the same for the same seed. */
function random(seed: number): (below: number) => number {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

type Random = (below: number) => number;

function mutated(file: Uint8Array, other: Uint8Array, next: Random): Uint8Array {
  let data = [...file];
  for (let i = 1 + next(3); i > 0; i--) {
    const at = next(data.length + 1);
    switch (next(7)) {
      case 0:
        data[at] = (data[at] ?? 0) ^ (1 << next(8));
        break;
      case 1:
        data[at] = next(256);
        break;
      case 2:
        data[at] = [0, 1, 0x7f, 0x80, 0xff][next(5)]!;
        break;
      case 3:
        data.splice(at, 1 + next(8));
        break;
      case 4:
        data.splice(at, 0, ...Array.from({ length: 1 + next(8) }, () => next(256)));
        break;
      case 5:
        data = data.slice(0, at);
        break;
      default: {
        const from = next(other.length);
        data = [...data.slice(0, at), ...other.slice(from, from + next(64)), ...data.slice(at)];
      }
    }
  }
  return Uint8Array.from(data);
}

/** The same bytes with right checksums, so that what lies behind them is met. */
function sealed(data: Uint8Array, codecId: Uint8Array): Uint8Array {
  const out = data.slice();
  const view = new DataView(out.buffer);
  if (out.length > 8 && out[0] === 0x89 && out[1] === 0x45) {
    for (let at = 8; at + 12 <= out.length; ) {
      const end = at + 8 + view.getUint32(at, true);
      if (end + 4 > out.length) break;
      view.setUint32(end, crc(out.subarray(at + 4, end)), true);
      at = end + 4;
    }
  } else if (out.length > 8) {
    const body = out.subarray(0, -4);
    const packet = out[0]! >> 4 === 0xe;
    view.setUint32(body.length, packet ? crc(codecId, body) : crc(body), true);
  }
  return out;
}

function isPicture({ width, height, data }: Picture): void {
  assert.equal(data.length, 4 * width * height);
}

/** Whether something came of it. */
async function survives(call: () => Promise<Picture>): Promise<boolean> {
  const start = performance.now();
  try {
    isPicture(await call());
    return true;
  } catch (error) {
    assert.ok(error instanceof EdgeaeError, String(error));
    assert.ok(["bitstream", "unknown-codec"].includes(error.kind), error.message);
    return false;
  } finally {
    assert.ok(performance.now() - start < MOST_MS);
  }
}

test(`${COUNT} mutated files raise nothing but the package's own error`, async (t) => {
  // What a mutation asks for is decided by the limits: small ones keep the test short.
  const limits = { pixels: 1 << 16, concealedPixelsPerByte: 0 };
  const codec: ImageCodec = await loadCodec(`${GOLDEN}/tiny-codec`, { runtime: "onnxruntime-node" });
  const codecId = Uint8Array.from(Buffer.from(codec.bundle.manifest.codecId, "hex"));
  const files = FILES.flatMap(goldenFiles);
  const pictures = PACKETS.map(goldenFiles);
  const next = random(SEED);
  let decoded = 0;
  let mutations = 0;
  for (; mutations < COUNT; mutations++) {
    const seal = next(4) > 0;
    if (next(5) === 0) {
      const packets = pictures[next(pictures.length)]!;
      const some = packets.map((packet) => {
        if (next(2)) return packet;
        const other = packets[next(packets.length)]!;
        const changed = mutated(packet, other, next);
        return seal ? sealed(changed, codecId) : changed;
      });
      if (await survives(async () => (await codec.receive(some, { limits })).image)) decoded++;
      continue;
    }
    const file = files[next(files.length)]!;
    const changed = mutated(file, files[next(files.length)]!, next);
    const data = seal ? sealed(changed, codecId) : changed;
    if (await survives(() => codec.decompress(data, { limits }))) decoded++;
    if (next(2)) await survives(async () => (await codec.conceal(data, { limits })).image);
    try {
      info(data);
    } catch (error) {
      assert.ok(error instanceof EdgeaeError);
    }
  }
  t.diagnostic(`${decoded} of ${mutations} gave a picture`);
  assert.ok(decoded > COUNT / 100, "some mutations reach the pixels");
  assert.ok(decoded < COUNT / 2, "most mutations are noticed");
});
