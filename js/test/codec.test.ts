/** What the codec promises of whole pictures: sizes, regions, transparency, calls side by side. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { EdgeaeError, info, load, metadata } from "edgeae/node";
import * as edgeae from "edgeae/node";

import { GOLDEN, loadCodec, loadDenoiser } from "./support.js";

const model = loadCodec(`${GOLDEN}/tiny-codec`);

function picture(width: number, height: number, alpha = false) {
  const data = new Uint8ClampedArray(4 * width * height);
  for (let i = 0; i < width * height; i++) {
    const [x, y] = [i % width, Math.floor(i / width)];
    const color = [3 * x + y, 128 + 100 * Math.sin((x + y) / 9), 200 - 3 * y];
    data.set([...color, alpha ? (x * 16) % 256 : 255], 4 * i);
  }
  return { data, width, height };
}

function psnr(one: Uint8ClampedArray, other: Uint8ClampedArray): number {
  let sum = 0;
  for (let i = 0; i < one.length; i++) sum += (one[i]! - other[i]!) ** 2;
  return 10 * Math.log10((255 ** 2 * one.length) / sum);
}

for (const [width, height] of [[1, 1], [16, 16], [17, 5], [70, 33]] as const) {
  test(`a picture of ${width} x ${height} comes back, better at a higher quality`, async () => {
    const codec = await model;
    const image = picture(width, height);
    const ratios: number[] = [];
    for (const quality of [1, 9]) {
      const bytes = await codec.compress(image, { quality });
      assert.deepEqual(
        { ...info(bytes), codecId: "" },
        { width, height, channels: 3, quality, codecId: "", lossless: false },
      );
      const back = await codec.decompress(bytes);
      assert.deepEqual([back.width, back.height], [width, height]);
      ratios.push(psnr(image.data, back.data));
    }
    assert.ok(ratios[1]! > 25 && ratios[1]! > ratios[0]!, String(ratios));
  });
}

test("a file is as large as it may be", async () => {
  const codec = await model;
  const image = picture(70, 50);
  const smallest = (await codec.compress(image, { quality: 1 })).length;
  for (const maxBytes of [smallest, 1.2 * smallest, 1.5 * smallest]) {
    const bytes = await codec.compress(image, { maxBytes });
    assert.ok(bytes.length <= maxBytes);
    const level = 8 * (info(bytes).quality! - 1);
    if (level === 64) continue;
    const next = await codec.compress(image, { quality: 1 + (level + 1) / 8 });
    assert.ok(next.length > maxBytes, "the next level does not fit");
  }
});

test("transparency is kept exactly, and gray stays gray", async () => {
  const codec = await model;
  const image = picture(31, 22, true);
  const back = await codec.decompress(await codec.compress(image));
  assert.ok(back.data.every((value, i) => i % 4 < 3 || value === image.data[i]));
  const gray = await codec.compress(picture(31, 22), { gray: true });
  assert.equal(info(gray).channels, 0);
  const { data } = await codec.decompress(gray);
  assert.ok(data.every((value, i) => i % 4 === 3 || value === data[i - (i % 4)]));
});

test("a region is what the whole shows there", async () => {
  const codec = await model;
  const bytes = await codec.compress(picture(70, 50, true));
  const whole = await codec.decompress(bytes);
  for (const region of [
    { top: 0, left: 0, height: 1, width: 1 },
    { top: 49, left: 69, height: 1, width: 1 },
    { top: 13, left: 20, height: 30, width: 41 },
  ]) {
    const part = await codec.decompress(bytes, { region });
    assert.deepEqual([part.height, part.width], [region.height, region.width]);
    for (let row = 0; row < region.height; row++) {
      const from = 4 * ((region.top + row) * 70 + region.left);
      const line = part.data.slice(4 * row * region.width, 4 * (row + 1) * region.width);
      assert.deepEqual(line, whole.data.slice(from, from + 4 * region.width));
    }
  }
});

test("what is not masked is exact", async () => {
  const codec = await model;
  const bytes = await codec.compress(picture(70, 50));
  const whole = await codec.decompress(bytes);
  const hurt = bytes.slice();
  hurt[hurt.length >> 1]! ^= 0x10;
  const { image, mask } = await codec.conceal(hurt);
  assert.ok(mask.includes(0) && mask.includes(1));
  for (const [i, masked] of mask.entries()) {
    const same = [0, 1, 2].every((c) => image.data[4 * i + c] === whole.data[4 * i + c]);
    assert.ok(masked || same, `pixel ${i}`);
  }
  const sound = await codec.conceal(bytes);
  assert.ok(!sound.mask.includes(1));
  assert.deepEqual(sound.image.data, whole.data);
});

test("metadata is kept byte for byte", async () => {
  const codec = await model;
  const exif = Uint8Array.of(0x49, 0x49, 42, 0, 8, 0, 0, 0, 0, 0);
  const xmp = new TextEncoder().encode("<x:xmpmeta/>");
  const bytes = await codec.compress(picture(9, 9), { exif, xmp });
  assert.deepEqual(metadata(bytes), { exif, xmp });
  const plain = await codec.compress(picture(9, 9));
  assert.deepEqual(metadata(plain), { exif: undefined, xmp: undefined });
  const pixels = async (file: Uint8Array) => (await codec.decompress(file)).data;
  assert.deepEqual(await pixels(bytes), await pixels(plain));
});

test("a file put together of two files is refused, and concealed as one of them", async () => {
  const codec = await model;
  const [one, other] = [picture(70, 50), picture(70, 50, true)];
  const bytes = await codec.compress(one, { quality: 3 });
  other.data.forEach((_, i) => (other.data[i] = i % 4 === 3 ? 255 : 255 - one.data[i]!));
  const foreign = await codec.compress(other, { quality: 3 });
  const [ours, theirs] = [tilesOf(bytes), tilesOf(foreign)];
  const spliced = Buffer.concat([
    bytes.subarray(0, ours[4]!.begin),
    foreign.subarray(theirs[4]!.begin, theirs[4]!.end),
    bytes.subarray(ours[4]!.end),
  ]);
  await assert.rejects(codec.decompress(spliced), /several files/);
  const { image, mask } = await codec.conceal(spliced);
  const whole = await codec.decompress(bytes);
  assert.ok(mask.includes(0) && mask.includes(1));
  for (const [i, masked] of mask.entries()) {
    assert.ok(masked || image.data[4 * i] === whole.data[4 * i], `pixel ${i}`);
  }
});

/** Where the chunks of tiles begin and end. */
function tilesOf(file: Uint8Array): { begin: number; end: number }[] {
  const view = Buffer.from(file);
  const tiles = [];
  for (let begin = 8; begin < view.length; ) {
    const end = begin + 12 + view.readUInt32LE(begin);
    if (view.toString("latin1", begin + 4, begin + 8) === "TILE") tiles.push({ begin, end });
    begin = end;
  }
  return tiles;
}

test("calls side by side give what calls in turn give", async () => {
  const codec = await model;
  const images = [picture(40, 30), picture(20, 61), picture(33, 33)];
  const inTurn: Uint8Array[] = [];
  for (const image of images) inTurn.push(await codec.compress(image));
  const sideBySide = await Promise.all(images.map((image) => codec.compress(image)));
  assert.deepEqual(sideBySide, inTurn);
});

test("a bundle that is not there, changed, or of another task is refused", async () => {
  const folder = edgeae.folder(`${GOLDEN}/tiny-codec`);
  const bundleError = (error: unknown) => error instanceof EdgeaeError && error.kind === "bundle";
  await assert.rejects(load(edgeae.folder(`${GOLDEN}/none`)), bundleError);
  const changed = async (file: string) => {
    const data = await folder(file);
    if (file === "tables.bin") data[5]! ^= 1;
    return data;
  };
  await assert.rejects(load(changed), bundleError);
  await assert.rejects(load(() => Promise.resolve(new TextEncoder().encode("[]"))), bundleError);
  await assert.rejects(load(folder, { precision: "fp64" }), bundleError);
  await assert.rejects(loadDenoiser(`${GOLDEN}/tiny-codec`), bundleError);
  await assert.rejects(loadCodec(`${GOLDEN}/tiny-denoiser`), bundleError);
});
