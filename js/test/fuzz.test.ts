/**
 * Mutated files raise the package's own error or give a picture of the size that they state.
 *
 *     FUZZ=100000 npm test fuzz       so many of images, an eighth of signals; 1,200 by default
 *     SEED=7 FUZZ=500 npm test fuzz   others
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateSync, inflateSync } from "node:zlib";

import type { ImageCodec, Picture } from "edgeae/node";
import { EdgeaeError, folder, info } from "edgeae/node";
import { loadSignalCodec, signalInfo } from "edgeae/signals";

import { crc, GOLDEN, goldenFiles, loadCodec, runtimeOf } from "./support.js";

const COUNT = Number(process.env.FUZZ ?? 1200);
const SEED = Number(process.env.SEED ?? 1);
// What a small file may take; a slow machine with other work on it included.
const MOST_MS = 10_000;

const FILES = [
  "small-gray.eae", "small-one-channel.eae", "small-color.eae",
  "whole-color.eae", "whole-gray.eae", "whole-transparent.eae",
]; // prettier-ignore
const EXACT = [
  "color-2-bits", "color-4-bits", "color-8-bits", "color", "gray", "one-channel-1-bit", "transparent",
].map((name) => `exact/${name}.eae`); // prettier-ignore
const PACKETS = ["packets-color.hex", "packets-gray.hex"];
const SIGNALS = ["exact", "keys", "latent", "leads"].map((name) => `signals/${name}.eae`);

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
    const critical: number[] = [];
    for (let at = 8; at + 12 <= out.length; ) {
      const end = at + 8 + view.getUint32(at, true);
      if (end + 4 > out.length) break;
      // The check of all chunks lists those before it.
      if (Buffer.from(out.subarray(at + 4, at + 8)).equals(Buffer.from("crCS"))) {
        critical.forEach((sum, i) => {
          if (at + 12 + 4 * i <= end) view.setUint32(at + 8 + 4 * i, sum, true);
        });
      }
      const sum = crc(out.subarray(at + 4, end));
      if (out[at + 4]! < 0x61) critical.push(sum);
      view.setUint32(end, sum, true);
      at = end + 4;
    }
  } else if (out.length > 8) {
    const body = out.subarray(0, -4);
    const packet = out[0] !== 0x89;
    view.setUint32(body.length, packet ? crc(codecId, body) : crc(body), true);
  }
  return out;
}

/** An exact file whose rows, or what stands before them, are mutated before they are deflated. */
function exactMutant(file: Uint8Array, other: Uint8Array, next: Random): Uint8Array {
  const at = Buffer.from(file).indexOf(Buffer.of(0x78, 0xda), 4);
  const rows = inflateSync(file.subarray(at));
  const [head, body] = next(3)
    ? [file.subarray(0, at), mutated(rows, other, next)]
    : [mutated(file.subarray(2, at), other, next), rows];
  const start = head.length === at ? head : Buffer.concat([file.subarray(0, 2), head]);
  return sealed(Buffer.concat([start, deflateSync(body), Buffer.alloc(4)]), new Uint8Array(0));
}

function isPicture({ width, height, data }: Picture): void {
  assert.equal(data.length, 4 * width * height);
}

/** Whether something came of it. */
async function survives(call: () => Promise<Picture | undefined>): Promise<boolean> {
  const start = performance.now();
  try {
    const image = await call();
    if (image) isPicture(image);
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
  const files = [...FILES, ...EXACT].flatMap(goldenFiles);
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
    const other = files[next(files.length)]!;
    const exact = file[1] === 0x78 && next(2) > 0;
    const changed = exact ? exactMutant(file, other, next) : mutated(file, other, next);
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

/** The checksum of a packet that opens a signal is of four bytes, that of a block of two. */
function sealedPacket(data: Uint8Array, codecId: Uint8Array, check: number): Uint8Array {
  if (data[0]! >= 0x80) return sealed(data, codecId);
  const out = data.slice();
  let sum = check;
  for (const byte of out.subarray(0, -2)) {
    for (let bit = 7; bit >= 0; bit--) {
      const top = ((sum >> 15) ^ (byte >> bit)) & 1;
      sum = ((sum << 1) & 0xffff) ^ (top ? 0x1021 : 0);
    }
  }
  if (out.length > 2) out.set([sum, sum >> 8], out.length - 2);
  return out;
}

/** A signal's opening and packets of its blocks, of a whole file with several. */
function packetsOf(file: Uint8Array, codecId: Uint8Array): Uint8Array[] {
  const packets: Uint8Array[] = [];
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  for (let at = 8; at < file.length; at += 12 + view.getUint32(at, true)) {
    const body = file.subarray(at + 8, at + 8 + view.getUint32(at, true));
    const type = Buffer.from(file.subarray(at + 4, at + 8)).toString("latin1");
    if (type === "HEAD") {
      packets.push(sealed(Buffer.concat([Buffer.of(0x89), body.subarray(16), Buffer.alloc(4)]), codecId));
    } else if (type === "BLOK") packets.push(Buffer.concat([body, Buffer.alloc(2)]));
  }
  return packets;
}

const SIGNAL_COUNT = Math.ceil(COUNT / 8);

test(`${SIGNAL_COUNT} mutated signals raise nothing but the package's own error`, async (t) => {
  const limits = { samples: 1 << 12 };
  const runtime = await runtimeOf("onnxruntime-node");
  const codec = await loadSignalCodec(folder(`${GOLDEN}/tiny-signal-codec`), { runtime });
  const codecId = Uint8Array.from(Buffer.from(codec.bundle.manifest.codecId, "hex"));
  const files = SIGNALS.flatMap(goldenFiles);
  const packets = packetsOf(files[1]!, codecId);
  const check = Buffer.from(packets[0]!).readUInt16LE(packets[0]!.length - 4);
  const next = random(SEED);
  let decoded = 0;
  for (let i = 0; i < SIGNAL_COUNT; i++) {
    const seal = next(4) > 0;
    if (next(4) === 0) {
      const some = packets.flatMap((packet, j) => {
        const changed = next(4) ? packet : mutated(packet, packets[next(packets.length)]!, next);
        if (j && !next(6)) return [];
        return [seal ? sealedPacket(changed, codecId, check) : changed];
      });
      const came = await survives(async () => {
        const { signal, mask } = await codec.receive(some, { limits });
        for (const lead of signal.leads) assert.equal(lead.length, mask.length);
        return undefined;
      });
      if (came) decoded++;
      continue;
    }
    const changed = mutated(files[next(files.length)]!, files[next(files.length)]!, next);
    const data = seal ? sealed(changed, codecId) : changed;
    const came = await survives(async () => {
      const { leads } = await codec.decompress(data, { limits });
      for (const lead of leads) {
        assert.equal(lead.length, signalInfo(data).samples);
        assert.ok(!lead.some(Number.isNaN));
      }
      return undefined;
    });
    if (came) decoded++;
    try {
      signalInfo(data);
    } catch (error) {
      assert.ok(error instanceof EdgeaeError);
    }
  }
  t.diagnostic(`${decoded} of ${SIGNAL_COUNT} gave a signal`);
  assert.ok(decoded > SIGNAL_COUNT / 50, "some mutations reach the samples");
  assert.ok(decoded < SIGNAL_COUNT / 2, "most mutations are noticed");
});
