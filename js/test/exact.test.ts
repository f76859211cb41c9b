/** Images that are kept exactly: every file of them reads, and what is written reads the same. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { deflateSync } from "node:zlib";

import type { Picture } from "edgeae/node";
import { compressExact, decompressExact, EdgeaeError, info, metadata } from "edgeae/node";

import { crc, GOLDEN, loadCodec } from "./support.js";

const FOLDER = `${GOLDEN}/exact`;
const IMAGES = JSON.parse(readFileSync(`${FOLDER}/images.json`, "utf8")) as Record<
  string,
  { shape: number[]; sha256: string }
>;
const codec = loadCodec(`${GOLDEN}/tiny-codec`);

function golden(name: string): Uint8Array {
  return new Uint8Array(readFileSync(`${FOLDER}/${name}`));
}

/** The bytes of the array (height, width, channels) that a picture shows. */
function valuesOf({ data }: Picture, channels: number): Uint8Array {
  return Uint8Array.from(data.filter((_, i) => i % 4 < channels));
}

/** A file of parts, with a right checksum. */
function sealed(...parts: (Uint8Array | number[])[]): Uint8Array {
  const body = Buffer.concat([Buffer.of(0x89, 0x78), ...parts.map((part) => Buffer.from(part))]);
  const sum = Buffer.alloc(4);
  sum.writeUInt32LE(crc(body));
  return new Uint8Array(Buffer.concat([body, sum]));
}

function picture(width: number, height: number, color: (i: number) => number[]): Picture {
  const data = new Uint8ClampedArray(4 * width * height);
  for (let i = 0; i < width * height; i++) data.set(color(i), 4 * i);
  return { width, height, data };
}

test("every golden file is one that is tested", () => {
  const files = readdirSync(FOLDER).filter((name) => name.endsWith(".eae"));
  assert.deepEqual(Object.keys(IMAGES).sort(), files.sort());
});

for (const [name, { shape, sha256 }] of Object.entries(IMAGES)) {
  const [height, width, channels] = shape as [number, number, number?];

  test(`${name} has its pixels, with and without a codec`, async () => {
    const data = golden(name);
    assert.deepEqual(info(data), {
      width, height, channels: channels ?? 0, quality: undefined, codecId: "", lossless: true,
    }); // prettier-ignore
    const image = decompressExact(data);
    const values = valuesOf(image, channels ?? 1);
    assert.equal(createHash("sha256").update(values).digest("hex"), sha256);
    if (channels !== 4) assert.ok(image.data.every((value, i) => i % 4 < 3 || value === 255));
    if (!channels || channels === 1) {
      assert.ok(image.data.every((value, i) => i % 4 === 3 || value === image.data[i - (i % 4)]));
    }
    assert.deepEqual((await (await codec).decompress(data)).data, image.data);
    const { image: concealed, mask } = await (await codec).conceal(data);
    assert.deepEqual(concealed.data, image.data);
    assert.ok(mask.length === width * height && !mask.includes(1));
  });

  test(`a region of ${name} is what the whole shows there`, () => {
    const whole = decompressExact(golden(name));
    const region = { top: 3, left: 5, height: 5, width: 7 };
    const part = decompressExact(golden(name), { region });
    assert.deepEqual([part.height, part.width], [5, 7]);
    for (let row = 0; row < 5; row++) {
      const from = 4 * ((3 + row) * width + 5);
      assert.deepEqual(part.data.slice(28 * row, 28 * (row + 1)), whole.data.slice(from, from + 28));
    }
  });
}

for (const name of ["color-2-bits.eae", "one-channel-1-bit.eae"]) {
  test(`every cut and every flipped bit of ${name} is refused`, () => {
    const data = golden(name);
    for (let length = 0; length < data.length; length++) {
      assert.throws(() => decompressExact(data.slice(0, length)), EdgeaeError);
    }
    assert.throws(() => decompressExact(Buffer.concat([data, Buffer.of(0)])), EdgeaeError);
    for (let bit = 0; bit < 8 * data.length; bit++) {
      const hurt = data.slice();
      hurt[bit >> 3]! ^= 1 << (bit & 7);
      assert.throws(() => decompressExact(hurt), EdgeaeError);
    }
  });
}

for (const [what, colors, alpha, gray] of [
  ["noise of every color", 2000, 255, false],
  ["noise of 256 colors", 256, 255, false],
  ["17 colors", 17, 255, false],
  ["three colors, some transparent", 3, 90, false],
  ["two colors", 2, 255, false],
  ["one color", 1, 255, false],
  ["noise that is transparent", 2000, 30, false],
  ["gray noise", 256, 255, true],
  ["two grays", 2, 255, true],
] as const) {
  test(`an image of ${what} comes back exactly`, async () => {
    let seed = 7;
    const next = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) >>> 24;
    const palette = Array.from({ length: colors }, () => {
      const level = next();
      return [level, gray ? level : next(), gray ? level : next(), Math.max(alpha, next())];
    });
    for (const [width, height] of [[1, 1], [37, 50], [301, 3]] as const) {
      const image = picture(width, height, () => palette[((next() << 8) | next()) % colors]!);
      const bytes = await compressExact(image, { gray });
      assert.deepEqual(decompressExact(bytes).data, image.data);
      const transparent = image.data.some((value, i) => i % 4 === 3 && value < 255);
      assert.equal(info(bytes).channels, gray ? 0 : transparent ? 4 : 3);
    }
  });
}

test("lines of text are kept in a tenth of their rows, by compress too", async () => {
  const image = picture(300, 200, (i) => {
    const [x, y] = [i % 300, Math.floor(i / 300)];
    const ink = y % 14 < 8 && (x * 7 + (y >> 1) * 13) % 11 < 3;
    return ink ? [20, 20, 60, 255] : [255, 255, 255, 255];
  });
  const bytes = await (await codec).compress(image, { lossless: true });
  assert.deepEqual((await (await codec).decompress(bytes)).data, image.data);
  assert.ok(bytes.length < (300 * 200 * 3) / 10, String(bytes.length));
  const smooth = picture(300, 200, (i) => [i % 300, i / 300, (i % 300) / 2, 255]);
  const filtered = await compressExact(smooth);
  assert.ok(filtered.length < deflateSync(valuesOf(smooth, 3)).length, "filters help");
});

test("metadata is kept byte for byte", async () => {
  const exif = Uint8Array.of(0x49, 0x49, 42, 0, 8, 0, 0, 0, 0, 0);
  const xmp = new TextEncoder().encode("<x:xmpmeta/>");
  const image = picture(9, 9, (i) => [i, 0, 0, 255]);
  for (const said of [{ exif, xmp }, { exif, xmp: undefined }, { exif: undefined, xmp }]) {
    const bytes = await compressExact(image, said);
    assert.deepEqual(metadata(bytes), said);
    assert.deepEqual(decompressExact(bytes).data, image.data);
  }
});

test("a few bytes that claim much are refused before there is room for it", () => {
  const gigabyte = Buffer.concat(Array.from({ length: 64 }, () => Buffer.alloc(1 << 20)));
  const bomb = deflateSync(gigabyte);
  for (const [width, height, rows] of [
    [[0xff, 0xff, 0x03], [0x80, 0x80, 0x04], bomb], // 65535 x 65536: more pixels than any file's
    [[0x80, 0x80, 0x01], [0x80, 0x80, 0x01], bomb], // 16384 x 16384 of which a file holds too little
    [[0x80, 0x40], [0x80, 0x40], deflateSync(Buffer.alloc(9))], // 8192 x 8192 out of a few bytes
    [[4], [4], bomb], // 4 x 4 that unpack to 64 MB
  ] as const) {
    const data = sealed([2], [...height], [...width], rows);
    const before = process.memoryUsage().arrayBuffers;
    assert.throws(() => decompressExact(data), EdgeaeError);
    assert.ok(process.memoryUsage().arrayBuffers - before < 1 << 24);
  }
});

test("what the page does not allow is refused", () => {
  const rows = deflateSync(Buffer.of(0, 1, 2, 3, 4, 5, 6));
  const size = [1, 2];
  const sound = sealed([2], size, rows);
  assert.deepEqual([...decompressExact(sound).data], [1, 2, 3, 255, 4, 5, 6, 255]);
  for (const [what, data] of Object.entries({
    "a flag that is not known": sealed([2 + 32], size, rows),
    "no height": sealed([2], [0, 2], rows),
    "a filter that is not known": sealed([2], size, deflateSync(Buffer.of(5, 1, 2, 3, 4, 5, 6))),
    "too few rows": sealed([2], [2, 2], rows),
    "too many rows": sealed([2], [1, 1], rows),
    "bytes after the rows": sealed([2], size, rows, [0]),
    "metadata longer than the file": sealed([2 + 8], size, [200, 1], rows),
    "a palette longer than the file": sealed([2 + 4], size, [255, 1, 2, 3]),
    "an index without a color": sealed([2 + 4], size, [2, ...Array(9).fill(0) as number[]], deflateSync(Buffer.of(0, 0b00110000))),
    "no rows": sealed([2], size),
  })) {
    assert.throws(
      () => decompressExact(data),
      (error) => error instanceof EdgeaeError && error.kind === "bitstream",
      what,
    );
  }
});

test("misuse is a TypeError or a RangeError", async () => {
  const model = await codec;
  const image = picture(2, 2, (i) => [i, 0, 0, 255]);
  await assert.rejects(compressExact(image, { gray: true }), RangeError);
  await assert.rejects(model.compress(image, { lossless: true, quality: 3 }), TypeError);
  await assert.rejects(model.compress(image, { lossless: true, maxBytes: 99 }), TypeError);
  assert.throws(() => decompressExact("file" as unknown as Uint8Array), TypeError);
  const region = { top: 0, left: 0, height: 99, width: 1 };
  assert.throws(() => decompressExact(golden("gray.eae"), { region }), RangeError);
});
