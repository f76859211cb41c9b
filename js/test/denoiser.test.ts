/** The denoiser gives what Python's gives: the golden recordings, at its rate and at others. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import type { SignalDenoiser } from "edgeae/node";

import { GOLDEN, loadDenoiser, python, readWav, ROOT, ratioDb } from "./support.js";

const tiny = loadDenoiser(`${GOLDEN}/tiny-denoiser`);
const { rate, channels: noisy } = readWav(`${GOLDEN}/tiny-denoiser/noisy.wav`);

function joined(parts: readonly (readonly Float32Array[])[], delay: number): Float32Array[] {
  return parts[0]!.map((_, c) => {
    const all = parts.flatMap((part) => [...part[c]!]);
    return Float32Array.from(all.slice(delay));
  });
}

async function inBlocks(
  model: SignalDenoiser,
  samples: readonly Float32Array[],
  sampleRate: number,
  blocks: readonly number[],
): Promise<Float32Array[]> {
  const stream = model.stream({ sampleRate, channels: samples.length });
  const parts: Float32Array[][] = [];
  for (let at = 0, i = 0; at < samples[0]!.length; i++) {
    const end = at + blocks[i % blocks.length]!;
    parts.push(await stream.process(samples.map((part) => part.subarray(at, end))));
    at = end;
  }
  parts.push(await stream.flush());
  return joined(parts, stream.delay);
}

test("golden sound is denoised as it was", async () => {
  // Made when each channel was cleaned by itself.
  const clean = await (await tiny).denoise(noisy, { sampleRate: rate, linkChannels: false });
  const expected = readWav(`${GOLDEN}/tiny-denoiser/clean.wav`).channels;
  for (const [c, part] of expected.entries()) {
    assert.ok(ratioDb(part, clean[c]!) > 60, `${ratioDb(part, clean[c]!)} dB`);
    assert.ok(ratioDb(part, noisy[c]!) < 20, "the denoiser does something");
  }
});

test("golden sound with a gap is denoised as it was", async () => {
  const options = { sampleRate: rate, channels: noisy.length, linkChannels: false };
  const stream = (await tiny).stream(options);
  const parts = [
    await stream.process(noisy.map((part) => part.subarray(0, 5000))),
    await stream.skip(1500),
    await stream.process(noisy.map((part) => part.subarray(6500))),
    await stream.flush(),
  ];
  const expected = readWav(`${GOLDEN}/tiny-denoiser/gap.wav`).channels;
  for (const [c, part] of joined(parts, stream.delay).entries()) {
    assert.ok(ratioDb(expected[c]!, part) > 60, `${ratioDb(expected[c]!, part)} dB`);
  }
});

for (const sampleRate of [8000, 11025, 16000, 44100, 48000, 96000]) {
  test(`nothing depends on how the input is cut into blocks, ${sampleRate} Hz`, async () => {
    const samples = [noisy[0]!.subarray(0, 9000)];
    const whole = await (await tiny).denoise(samples, { sampleRate });
    assert.equal(whole[0]!.length, 9000);
    for (const blocks of [[1, 700, 0, 33], [128]]) {
      const parts = await inBlocks(await tiny, samples, sampleRate, blocks);
      assert.deepEqual(parts[0]!.slice(0, 9000), whole[0]);
    }
  });

  test(`a live callback gets a block for each block, ${sampleRate} Hz`, async () => {
    const stream = (await tiny).stream({ sampleRate, blockSamples: 128 });
    for (let at = 0; at < 128 * 60; at += 128) {
      const block = await stream.process([noisy[0]!.subarray(at, at + 128)]);
      assert.equal(block[0]!.length, 128);
    }
  });
}

test("an attenuation limit of 0 dB gives the input back", async () => {
  const same = await (await tiny).denoise(noisy, { sampleRate: 48_000, attenuationLimitDb: 0 });
  for (const [c, part] of noisy.entries()) assert.ok(ratioDb(part, same[c]!) > 100);
});

test("what is no audio is refused, and the stream goes on", async () => {
  const stream = (await tiny).stream({ sampleRate: rate });
  assert.throws(() => stream.process([Float32Array.of(NaN)]), RangeError);
  assert.throws(() => stream.process([Float32Array.of(5000)]), RangeError);
  assert.throws(() => stream.process([]), RangeError);
  assert.throws(() => stream.process([[0]] as unknown as Float32Array[]), TypeError);
  assert.throws(() => stream.skip(-1), RangeError);
  await assert.rejects(async () => (await tiny).denoise(noisy, { sampleRate: 4000 }), RangeError);
  await stream.process([new Float32Array(100)]);
});

const SKIP = python ? false : "no Python with edgeae here: set PYTHON to one";

// Name, rate, channels and whether they are linked: as speech.py makes them.
const HARD_CASES: readonly (readonly [string, number, number, boolean])[] = [
  ["silence", 16_000, 1, true],
  ["silence-48000", 48_000, 1, true],
  ["overload", 16_000, 1, true],
  ["linked", 16_000, 2, true],
  ["linked-48000", 48_000, 2, true],
  ["apart", 48_000, 2, false],
  ["near-15999", 15_999, 1, true],
  ["near-44101", 44_101, 1, true],
  ["near-16007", 16_007, 1, true],
];

test("channels that are linked keep their level difference", async () => {
  const model = await tiny;
  const left = noisy[0]!;
  const right = left.map((value) => value / 4);
  const linked = await model.denoise([left, right], { sampleRate: rate });
  assert.ok(ratioDb(linked[0]!, linked[1]!.map((value) => value * 4)) > 100);
  const apart = await model.denoise([left, right], { sampleRate: rate, linkChannels: false });
  assert.ok(ratioDb(apart[0]!, apart[1]!.map((value) => value * 4)) < 60);
});

test("speech is what Python's stream gives, at several rates", { skip: SKIP }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "edgeae-"));
  after(() => rmSync(folder, { recursive: true }));
  execFileSync(python!, [`${ROOT}js/test/speech.py`, folder]);
  const model = await loadDenoiser(`${ROOT}edgeae/models/speech-denoiser`);
  const floats = (name: string) => {
    const data = readFileSync(join(folder, name));
    return new Float32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.length));
  };
  for (const sampleRate of [8000, 16000, 44100, 48000]) {
    await t.test(`${sampleRate} Hz`, async (t) => {
      const clean = await model.denoise([floats(`${sampleRate}.noisy`)], { sampleRate });
      const ratio = ratioDb(floats(`${sampleRate}.clean`), clean[0]!);
      t.diagnostic(`${ratio.toFixed(0)} dB`);
      assert.ok(ratio > 60, `${ratio} dB`);
    });
  }
  for (const [name, sampleRate, channels, linkChannels] of HARD_CASES) {
    await t.test(name, async (t) => {
      const parts = (all: Float32Array) =>
        Array.from({ length: channels }, (_, c) =>
          all.subarray((c * all.length) / channels, ((c + 1) * all.length) / channels),
        );
      const options = { sampleRate, linkChannels };
      const clean = await model.denoise(parts(floats(`${name}.noisy`)), options);
      for (const [c, expected] of parts(floats(`${name}.clean`)).entries()) {
        const ratio = ratioDb(expected, clean[c]!);
        t.diagnostic(`channel ${c}: ${ratio.toFixed(0)} dB`);
        assert.ok(ratio > 60, `${ratio} dB`);
      }
    });
  }
});
