/** Short files that claim much are refused at once, cut files too, and no flipped bit goes unnoticed. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateSync } from "node:zlib";

import { EdgeaeError, info } from "edgeae/node";

import { crc, GOLDEN, goldenFiles, loadCodec } from "./support.js";

const model = loadCodec(`${GOLDEN}/tiny-codec`);
const ID = model.then(({ bundle }) => Buffer.from(bundle.manifest.codecId, "hex"));
const HUGE = 2 ** 32 - 1;

function chunk(type: string, body: Uint8Array): Buffer {
  const frame = Buffer.alloc(12 + body.length);
  frame.writeUInt32LE(body.length, 0);
  frame.write(type, 4, "latin1");
  frame.set(body, 8);
  frame.writeUInt32LE(crc(frame.subarray(4, 8 + body.length)), 8 + body.length);
  return frame;
}

function file(...chunks: [string, Uint8Array][]): Uint8Array {
  const magic = Buffer.from("894541450D0A1A0A", "hex");
  return new Uint8Array(Buffer.concat([magic, ...chunks.map(([type, body]) => chunk(type, body))]));
}

async function head(height: number, width: number, level = 0, channels = 3): Promise<Buffer> {
  const body = Buffer.alloc(26);
  body.set(await ID);
  body.set([level, channels], 16);
  body.writeUInt32LE(height, 18);
  body.writeUInt32LE(width, 22);
  return body;
}

const NOTHING = new Uint8Array(0);
const TILE = new Uint8Array(10);

async function refused(data: Uint8Array, message?: RegExp): Promise<void> {
  const codec = await model;
  for (const call of [() => codec.decompress(data), () => codec.conceal(data)]) {
    const start = performance.now();
    await assert.rejects(call, (error) => {
      assert.ok(error instanceof EdgeaeError && error.kind === "bitstream", String(error));
      if (message) assert.match(error.message, message);
      return true;
    });
    assert.ok(performance.now() - start < 2000, "at once");
  }
}

for (const [height, width] of [
  [0, 1], [1, 0], [1, 65_537], [65_537, 1], [16_384, 16_385], [HUGE, HUGE], [1, HUGE],
  [16_384, 16_384],
] as const) {
  test(`a file that claims ${width} x ${height} pixels is refused`, async () => {
    const header = await head(height, width);
    await refused(file(["HEAD", header], ["DONE", NOTHING]));
    await refused(file(["HEAD", header], ["TILE", TILE], ["DONE", NOTHING]));
  });
}

test("a header that makes no sense is refused", async () => {
  for (const [level, channels] of [[65, 3], [255, 3], [0, 2], [0, 5], [0, 255]] as const) {
    const header = await head(9, 9, level, channels);
    await refused(file(["HEAD", header], ["TILE", TILE], ["DONE", NOTHING]), /makes no sense/);
  }
  await refused(file(["HEAD", new Uint8Array(25)], ["DONE", NOTHING]));
});

test("transparency that unpacks to more than the picture is refused", async () => {
  const [golden] = goldenFiles("whole-transparent.eae");
  const codec = await model;
  const { height, width } = info(golden!);
  for (const bomb of [deflateSync(Buffer.alloc(1 << 24)), deflateSync(Buffer.alloc(height * width - 1))]) {
    const [header, , ...tiles] = chunksOf(golden!);
    const alpha: [string, Uint8Array] = ["ALPH", Buffer.concat([Buffer.of(0), bomb])];
    await assert.rejects(codec.decompress(file(header!, alpha, ...tiles)), /transparency/);
  }
});

function chunksOf(data: Uint8Array): [string, Uint8Array][] {
  const chunks: [string, Uint8Array][] = [];
  for (let at = 8; at < data.length; ) {
    const length = Buffer.from(data).readUInt32LE(at);
    const type = Buffer.from(data.subarray(at + 4, at + 8)).toString("latin1");
    chunks.push([type, data.subarray(at + 8, at + 8 + length)]);
    at += 12 + length;
  }
  return chunks;
}

test("an unknown critical chunk is refused, an ancillary one is skipped", async () => {
  const codec = await model;
  const chunks = chunksOf(goldenFiles("whole-color.eae")[0]!);
  const with_ = (type: string) => file(chunks[0]!, [type, Buffer.from("hello")], ...chunks.slice(1));
  await assert.rejects(codec.decompress(with_("NEXT")), /out of place/);
  const plain = await codec.decompress(goldenFiles("whole-color.eae")[0]!);
  assert.deepEqual((await codec.decompress(with_("next"))).data, plain.data);
});

for (const name of ["small-color.eae", "whole-gray.eae"]) {
  const [golden] = goldenFiles(name);

  test(`every cut of ${name} is refused`, async () => {
    const codec = await model;
    for (let length = 0; length < golden!.length; length++) {
      await assert.rejects(codec.decompress(golden!.slice(0, length)), EdgeaeError);
    }
    await assert.rejects(codec.decompress(Buffer.concat([golden!, Buffer.of(0)])), EdgeaeError);
  });

  test(`every flipped bit of ${name} is refused`, async () => {
    const codec = await model;
    for (let bit = 0; bit < 8 * golden!.length; bit++) {
      const data = golden!.slice();
      data[bit >> 3]! ^= 1 << (bit & 7);
      await assert.rejects(codec.decompress(data), EdgeaeError);
    }
  });
}

test("a file of another codec is refused by name", async () => {
  const other = await head(4, 4);
  other[0]! ^= 1;
  const data = file(["HEAD", other], ["TILE", TILE], ["DONE", NOTHING]);
  await assert.rejects((await model).decompress(data), (error) => {
    assert.ok(error instanceof EdgeaeError && error.kind === "unknown-codec");
    assert.equal(error.codecId, other.subarray(0, 16).toString("hex"));
    return true;
  });
});

test("a picture of which a few bytes are left is not concealed", async () => {
  const data = file(["HEAD", await head(4096, 4096)]);
  await assert.rejects((await model).conceal(data), /too few to conceal/);
});

test("misuse is a TypeError or a RangeError", async () => {
  const codec = await model;
  const [golden] = goldenFiles("whole-color.eae");
  const image = { data: new Uint8ClampedArray(16), width: 2, height: 2 };
  await assert.rejects(codec.decompress("bytes" as unknown as Uint8Array), TypeError);
  const beyond = { top: 0, left: 0, height: 18, width: 35 };
  await assert.rejects(codec.decompress(golden!, { region: beyond }), RangeError);
  await assert.rejects(codec.compress(image, { quality: 0 }), RangeError);
  await assert.rejects(codec.compress(image, { quality: 5, maxBytes: 5 }), TypeError);
  await assert.rejects(codec.compress(image, { maxBytes: 3 }), RangeError);
  await assert.rejects(codec.compress({ ...image, width: 3 }), RangeError);
  await assert.rejects(codec.packets(image, { maxPacketBytes: 100 }), /transparency/);
  const opaque = { ...image, data: image.data.map(() => 255) };
  await assert.rejects(codec.packets(opaque, { maxPacketBytes: 5 }), RangeError);
  await assert.rejects(codec.packets(opaque, { maxPacketBytes: 99, number: 256 }), RangeError);
});
