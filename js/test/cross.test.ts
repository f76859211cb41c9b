/** What one package writes the other reads: files, regions, damage and packets, both ways. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import type { Picture } from "edgeae/node";

import { GOLDEN, loadCodec, python, ROOT } from "./support.js";

interface Case {
  readonly name: string;
  readonly codec: "tiny" | "photo";
  readonly kind: "file" | "exact" | "conceal" | "region" | "packets";
  readonly blobs: number;
  readonly height: number;
  readonly width: number;
  readonly region?: [number, number, number, number];
}

interface Original {
  readonly name: string;
  readonly codec: "tiny" | "photo";
  readonly height: number;
  readonly width: number;
  readonly gray: boolean;
  /** Whether JavaScript writes it with the same number of channels. */
  readonly same: boolean;
  /** Python's file in hexadecimal, by quality. */
  readonly written: Record<string, string>;
}

const SKIP = python ? false : "no Python with edgeae here: set PYTHON to one";
const folder = mkdtempSync(join(tmpdir(), "edgeae-"));
after(() => rmSync(folder, { recursive: true }));

const codecs = {
  tiny: loadCodec(`${GOLDEN}/tiny-codec`),
  // The kernels of int8 graphs round otherwise on other machines, by more than one gray level.
  photo: loadCodec(`${ROOT}edgeae/models/photo-codec`, { precision: "fp32" }),
};

function run(verb: string): string {
  return execFileSync(python!, [`${ROOT}js/test/cross.py`, verb, folder], { encoding: "utf8" });
}

function bytes(name: string): Uint8Array {
  return new Uint8Array(readFileSync(join(folder, name)));
}

function largest(one: ArrayLike<number>, other: ArrayLike<number>): number {
  assert.equal(one.length, other.length);
  let most = 0;
  for (let i = 0; i < one.length; i++) most = Math.max(most, Math.abs(one[i]! - other[i]!));
  return most;
}

// eslint-disable-next-line max-lines-per-function -- Long: steps that follow each other.
test("JavaScript reads what Python writes, and writes what Python reads", { skip: SKIP }, async (t) => {
  run("make");
  const { cases, originals } = JSON.parse(readFileSync(join(folder, "cases.json"), "utf8")) as {
    cases: Case[];
    originals: Original[];
  };
  for (const kind of ["file", "exact", "conceal", "region", "packets"]) {
    assert.ok(cases.some((found) => found.kind === kind), `there is a case of ${kind}`);
  }

  for (const { name, codec, kind, blobs, height, width, region } of cases) {
    await t.test(`${name}: ${kind}, ${codec}, ${width} x ${height}`, async () => {
      const model = await codecs[codec];
      const files = Array.from({ length: blobs }, (_, i) => bytes(`${name}.${i}`));
      let image: Picture;
      let mask: Uint8Array | undefined;
      if (kind === "packets") ({ image, mask } = await model.receive(files));
      else if (kind === "conceal") ({ image, mask } = await model.conceal(files[0]!));
      else if (kind === "file" || kind === "exact") image = await model.decompress(files[0]!);
      else {
        const [top, left, rows, columns] = region!;
        const area = { top, left, height: rows, width: columns };
        image = await model.decompress(files[0]!, { region: area });
      }
      assert.deepEqual([image.height, image.width], [height, width]);
      if (mask) assert.deepEqual(Buffer.from(mask), Buffer.from(bytes(`${name}.mask`)));
      // What lost packets leave is each reader's to fill: Python looks at the neighbours.
      const exact = (pixels: ArrayLike<number>): number[] =>
        kind === "packets"
          ? Array.from(pixels, (value, i) => (mask![i >> 2] ? 0 : value))
          : Array.from(pixels);
      const expected = exact(bytes(`${name}.rgba`));
      const most = kind === "exact" ? 0 : 1;
      assert.ok(largest(exact(image.data), expected) <= most, `within ${most} gray levels`);
    });
  }

  const written: { name: string; kind: string }[] = [];
  let equal = 0;
  let compared = 0;
  for (const { name, codec, height, width, gray, same, written: theirs } of originals) {
    const model = await codecs[codec];
    const data = new Uint8ClampedArray(bytes(`${name}.rgba`));
    const keep = async (kind: string, files: Uint8Array[]): Promise<void> => {
      const title = `js-${written.length}`;
      files.forEach((file, i) => writeFileSync(join(folder, `${title}.${i}`), file));
      const { image } =
        kind === "packets"
          ? await model.receive(files)
          : { image: await model.decompress(files[0]!) };
      writeFileSync(join(folder, `${title}.rgba`), image.data);
      written.push({ name: title, kind, ...{ codec, blobs: files.length } });
    };
    for (const [quality, blob] of Object.entries(theirs)) {
      const file = await model.compress({ data, width, height }, { quality: Number(quality), gray });
      await keep("file", [file]);
      if (!same) continue;
      compared++;
      if (Buffer.from(file).toString("hex") === blob) equal++;
      const bigger = Math.abs(file.length / (blob.length / 2) - 1);
      // Transparency is deflated by another library.
      assert.ok(bigger < 0.02 || data.some((value, i) => i % 4 === 3 && value < 255), name);
    }
    await keep("exact", [await model.compress({ data, width, height }, { lossless: true, gray })]);
    if (data.every((value, i) => i % 4 < 3 || value === 255)) {
      const maxPacketBytes = codec === "tiny" ? 90 : 900;
      await keep("packets", await model.packets({ data, width, height }, { maxPacketBytes }));
    }
  }
  await t.test("Python reads all of it", () => {
    writeFileSync(join(folder, "written.json"), JSON.stringify(written));
    const differences = JSON.parse(run("read")) as Record<string, number>;
    assert.equal(Object.keys(differences).length, written.length);
    for (const { name, kind } of written) {
      const difference = differences[name]!;
      assert.ok(difference <= (kind === "exact" ? 0 : 1), `${name} differs by ${difference}`);
    }
  });
  await t.test("most files are the same, byte by byte", () => {
    // Two builds of the network may round a latent another way.
    assert.ok(equal >= compared / 2, `${equal} of ${compared}`);
    t.diagnostic(`${equal} of ${compared} files are those that Python writes`);
  });
});
