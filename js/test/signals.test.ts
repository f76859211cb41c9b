/** Files of signals: the golden ones read as Python reads them, and what is unsound is refused. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { folder, load } from "edgeae/node";
import type { Dtype, Samples } from "edgeae/signals";
import { EdgeaeError, loadSignalCodec, signalInfo } from "edgeae/signals";

import { crc, GOLDEN, python, ROOT, RUNTIMES, runtimeOf } from "./support.js";

const BUNDLE = `${GOLDEN}/tiny-signal-codec`;
const codecs = RUNTIMES.map(async (name) =>
  loadSignalCodec(folder(BUNDLE), { runtime: await runtimeOf(name) }),
);
const codec = codecs[1]!;

function golden(name: string): Uint8Array {
  return new Uint8Array(readFileSync(`${GOLDEN}/signals/${name}.eae`));
}

/** The leads of int16 that a .npy file holds. */
function npy(name: string): Int16Array[] {
  const data = readFileSync(`${GOLDEN}/signals/${name}.npy`);
  const begin = 10 + data.readUInt16LE(8);
  const header = data.toString("latin1", 10, begin);
  assert.match(header, /'descr': '<i2'/);
  const [samples, leads = 1] = [...header.matchAll(/\d+(?=[,)])/g)].map(Number) as [number, number?];
  const columns = header.includes("'fortran_order': True");
  return Array.from({ length: leads }, (_, lead) =>
    Int16Array.from({ length: samples }, (_, i) =>
      data.readInt16LE(begin + 2 * (columns ? lead * samples + i : i * leads + lead)),
    ),
  );
}

const FILES = [
  { name: "exact", exact: true, quality: undefined, sampleRate: 360, names: [] },
  { name: "keys", exact: false, quality: 3, sampleRate: 250, names: [] },
  { name: "latent", exact: false, quality: 4, sampleRate: 360, names: [] },
  { name: "leads", exact: false, quality: 6, sampleRate: 360, names: ["I", "II"] },
] as const;

for (const { name, exact, quality, sampleRate, names } of FILES) {
  for (const [i, runtime] of RUNTIMES.entries()) {
    test(`${name}.eae has Python's samples, ${runtime}`, async () => {
      const expected = npy(name);
      const signal = await (await codecs[i]!).decompress(golden(name));
      assert.deepEqual(
        { sampleRate: signal.sampleRate, dtype: signal.dtype, names: signal.names },
        { sampleRate, dtype: "int16", names },
      );
      assert.deepEqual(signal.units, names.length ? ["mV", "mV"] : []);
      assert.equal(signal.leads.length, expected.length);
      for (const [lead, samples] of expected.entries()) {
        const found = signal.leads[lead] as Int16Array;
        if (exact) assert.deepEqual(found, samples);
        // Another machine may round the last bit of a graph the other way.
        else assert.ok(found.every((value, j) => Math.abs(value - samples[j]!) <= 1));
      }
    });
  }

  test(`the header of ${name}.eae says what it holds`, () => {
    const { codecId, ...told } = signalInfo(golden(name));
    const [lead, ...more] = npy(name);
    assert.deepEqual(told, {
      samples: lead!.length, leads: 1 + more.length, dtype: "int16", sampleRate, exact, quality,
    }); // prettier-ignore
    const manifest = JSON.parse(readFileSync(`${BUNDLE}/manifest.json`, "utf8")) as {
      codec_id: string;
    };
    assert.ok(manifest.codec_id.startsWith(codecId) && codecId.length >= 8);
  });
}

test("every cut and every flipped bit is refused", async () => {
  const model = await codec;
  for (const name of ["latent", "keys"]) {
    const data = golden(name);
    for (let length = 0; length < data.length; length++) {
      await assert.rejects(model.decompress(data.slice(0, length)), EdgeaeError);
    }
    for (let bit = 0; bit < 8 * data.length; bit++) {
      const hurt = data.slice();
      hurt[bit >> 3]! ^= 1 << (bit & 7);
      await assert.rejects(model.decompress(hurt), EdgeaeError);
    }
  }
});

interface Case {
  readonly name: string;
  readonly blobs: number;
  readonly dtype: Dtype;
  readonly leads: number;
  readonly samples: number;
  readonly packets: boolean;
  readonly exact: boolean;
}

/** What another machine's graph may make of a sample, and how it is rounded. */
function tolerance(samples: Samples): number {
  let peak = 0;
  for (const value of samples) peak = Math.max(peak, Math.abs(value));
  const rounding = samples instanceof Float32Array || samples instanceof Float64Array ? 0 : 1;
  return rounding + 1e-5 * peak;
}

const ARRAYS = {
  int8: Int8Array, int16: Int16Array, int32: Int32Array, uint8: Uint8Array, uint16: Uint16Array,
  float32: Float32Array, float64: Float64Array,
}; // prettier-ignore

const SKIP = python ? false : "no Python with edgeae here: set PYTHON to one";

for (const [path, runtime, ...which] of [
  [BUNDLE, "onnxruntime-web"],
  [`${ROOT}edgeae/models/ecg-codec`, "onnxruntime-node", "heart"],
] as const) {
  test(`${path.slice(ROOT.length)}: Python's symbols, samples and masks`, { skip: SKIP }, async (t) => {
    const work = mkdtempSync(join(tmpdir(), "edgeae-"));
    t.after(() => rmSync(work, { recursive: true }));
    execFileSync(python!, [`${ROOT}js/test/signals.py`, work, ...which]);
    const cases = JSON.parse(readFileSync(join(work, "signals.json"), "utf8")) as Case[];
    const model = await loadSignalCodec(folder(path), { runtime: await runtimeOf(runtime) });
    assert.ok(cases.some(({ exact }) => exact) && cases.some(({ packets }) => packets));
    for (const { name, blobs, dtype, leads, samples, packets, exact } of cases) {
      await t.test(`${name}: ${samples} x ${leads} of ${dtype}${packets ? ", packets" : ""}`, async () => {
        const read = (end: string) => new Uint8Array(readFileSync(join(work, `${name}.${end}`)));
        const files = Array.from({ length: blobs }, (_, i) => read(String(i)));
        const { signal, mask } = packets
          ? await model.receive(files)
          : { signal: await model.decompress(files[0]!), mask: undefined };
        if (mask) assert.ok(Buffer.from(mask).equals(read("mask")));
        if (!packets && !exact) {
          const symbols = await model.symbols(files[0]!);
          assert.ok(Buffer.from(symbols.buffer).equals(read("symbols")), "the same symbols");
        }
        assert.deepEqual([signal.dtype, signal.leads.length], [dtype, leads]);
        const ArrayType = ARRAYS[dtype];
        const expected = new ArrayType(read("samples").buffer);
        for (const [lead, found] of signal.leads.entries()) {
          assert.ok(found instanceof ArrayType && found.length === samples);
          const theirs = expected.subarray(lead * samples, (lead + 1) * samples);
          if (exact) assert.deepEqual(found, theirs);
          const most = tolerance(theirs);
          const near = found.every((value, i) => Math.abs(value - theirs[i]!) <= most);
          assert.ok(near, "the same samples");
        }
      });
    }
  });
}

/** A file of the small form with other bytes in its header. */
function small(kind: number, numbers: number[][], rate = 360, pair = [0, 1]): Uint8Array {
  const { codecId } = signalInfo(golden("latent"));
  const parts = [Buffer.of(0x89, 0x73), Buffer.from(codecId, "hex"), Buffer.of(kind, 10)];
  for (const number of numbers) parts.push(Buffer.from(number));
  const leads = numbers[0]!.length > 1 ? 1 : numbers[0]![0]!;
  const floats = Buffer.alloc(8 + 8 * leads);
  floats.writeDoubleLE(rate, 0);
  for (let i = 0; i < 2 * leads; i++) floats.writeFloatLE(pair[i % 2]!, 8 + 4 * i);
  const body = Buffer.concat([...parts, floats, Buffer.of(77, 3)]);
  const sum = Buffer.alloc(4);
  sum.writeUInt32LE(crc(body));
  return new Uint8Array(Buffer.concat([body, sum]));
}

const ONE = [1];
const HUGE = [0xff, 0xff, 0xff, 0xff, 0x7f];

test("a header that makes no sense, or claims much, is refused at once", async () => {
  const model = await codec;
  // The same with a header that makes sense fails at its block, or not at all.
  await model.decompress(small(16, [ONE, [16], ONE, [0]])).catch((error: unknown) => {
    assert.match(String(error), /coded block/);
  });
  for (const [what, data] of Object.entries({
    "no such type": small(16 + 7, [ONE, [16], ONE, [0]]),
    "a flag that is not known": small(16 + 64, [ONE, [16], ONE, [0]]),
    "no samples": small(16, [ONE, [0], ONE, [0]]),
    "no channels": small(16, [[0], [16], ONE, [0]]),
    "a block of no steps": small(16, [ONE, [16], [0], [0]]),
    "a block of too many steps": small(16, [ONE, [16], [0x81, 0x40], [0]]),
    "no rate": small(16, [ONE, [16], ONE, [0]], 0),
    "a rate of nothing": small(16, [ONE, [16], ONE, [0]], NaN),
    "an endless offset": small(16, [ONE, [16], ONE, [0]], 360, [Infinity, 1]),
    "a scale below zero": small(16, [ONE, [16], ONE, [0]], 360, [0, -1]),
    "another number of blocks": small(16, [ONE, [17], ONE, [0]]),
    "samples without end": small(16, [ONE, HUGE, [0x80, 0x40], [0]]),
    "channels without end": small(0, [HUGE, [16], ONE, [0]]),
    "more samples than bytes for them": small(0, [[9], [0x80, 0x80, 0x08], [0x80, 0x40], [0]]),
  })) {
    const start = performance.now();
    await assert.rejects(model.decompress(data), EdgeaeError, what);
    assert.ok(performance.now() - start < 2000, what);
  }
});

test("a file of another codec is refused by name", async () => {
  const data = golden("keys");
  data[16]! ^= 1;
  const view = new DataView(data.buffer);
  const end = 16 + view.getUint32(8, true);
  view.setUint32(end, crc(data.subarray(12, end)), true);
  // The check of all chunks lists the header's CRC too.
  const list = Buffer.from(data).indexOf("crCS");
  view.setUint32(list + 4, view.getUint32(end, true), true);
  const last = list + 4 + view.getUint32(list - 4, true);
  view.setUint32(last, crc(data.subarray(list, last)), true);
  await assert.rejects((await codec).decompress(data), (error) => {
    assert.ok(error instanceof EdgeaeError && error.kind === "unknown-codec");
    assert.equal(error.codecId, signalInfo(data).codecId);
    return true;
  });
});

test("bundles of other tasks are refused, and this one by the door of images", async () => {
  const runtime = await runtimeOf("onnxruntime-node");
  const isBundle = (error: unknown) => error instanceof EdgeaeError && error.kind === "bundle";
  for (const other of ["tiny-codec", "tiny-denoiser"]) {
    await assert.rejects(loadSignalCodec(folder(`${GOLDEN}/${other}`), { runtime }), isBundle);
  }
  await assert.rejects(load(folder(BUNDLE), { runtime }), /edgeae\/signals/);
});

test("misuse is a TypeError", async () => {
  const model = await codec;
  await assert.rejects(model.decompress("file" as unknown as Uint8Array), TypeError);
  await assert.rejects(model.receive([7 as unknown as Uint8Array]), TypeError);
  await assert.rejects(model.receive([]), EdgeaeError);
});
