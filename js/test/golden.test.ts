/** Every file of the format's first version decodes to the symbols that tests/golden says. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import type { ImageCodec } from "edgeae/node";

import { GOLDEN, goldenFiles, loadCodec, ROOT, RUNTIMES } from "./support.js";

interface Expected {
  readonly shape: number[];
  readonly level: number;
  readonly symbols_sha256: string;
  readonly alpha_sha256?: string;
}

const FILES = JSON.parse(readFileSync(`${GOLDEN}/symbols.json`, "utf8")) as Record<string, Expected>;
/** As the Python package restores them: golden_pixels.py. */
const PIXELS = JSON.parse(readFileSync(`${ROOT}js/test/golden-pixels.json`, "utf8")) as Record<
  string,
  string
>;

function sha256(data: ArrayBufferView): string {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return createHash("sha256").update(bytes).digest("hex");
}

for (const name of RUNTIMES) {
  const codec: Promise<ImageCodec> = loadCodec(`${GOLDEN}/tiny-codec`, { runtime: name });

  for (const [file, { shape, symbols_sha256, alpha_sha256 }] of Object.entries(FILES)) {
    test(`${file} has its symbols, ${name}`, async () => {
      const symbols = await (await codec).symbols(goldenFiles(file));
      assert.equal(sha256(symbols), symbols_sha256);
    });

    test(`${file} gives Python's picture within one gray level, ${name}`, async () => {
      const files = goldenFiles(file);
      const model = await codec;
      const image = file.endsWith(".hex")
        ? (await model.receive(files)).image
        : await model.decompress(files[0]!);
      assert.deepEqual([image.height, image.width], shape.slice(0, 2));
      const alpha = image.data.filter((_, i) => i % 4 === 3);
      if (alpha_sha256) assert.equal(sha256(alpha), alpha_sha256);
      else assert.ok(alpha.every((value) => value === 255));
      const expected = Buffer.from(PIXELS[file]!, "hex");
      const channels = expected.length / (image.width * image.height);
      for (let i = 0; i < image.width * image.height; i++) {
        for (let c = 0; c < 3; c++) {
          const theirs = expected[i * channels + (channels > 1 ? c : 0)]!;
          assert.ok(Math.abs(image.data[4 * i + c]! - theirs) <= 1, `pixel ${i}`);
        }
      }
    });
  }
}
