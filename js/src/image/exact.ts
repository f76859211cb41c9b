/** The exact form of an image file, which takes no codec: section 12 of docs/FORMAT.md. */

import { asBytes, concat, crc32, readUint32, readVarint, startsWith, uint32, varint } from "../bytes.js";
import { damaged } from "../errors.js";
import type { Metadata } from "./container.js";
import type { Header, Limits } from "./header.js";
import { checkBytes, checked, FILE_LIMITS } from "./header.js";
import { deflate, inflate } from "./inflate.js";
import type { Picture } from "./picture.js";
import { checkedPicture, newPicture, transparency } from "./picture.js";
import { CHOICES, filtered, unfilter } from "./rows.js";
import type { DecompressOptions } from "./window.js";
import { checkProportion, roomFor, windowOf } from "./window.js";

const MAGIC = Uint8Array.of(0x89, 0x78);
const CRC_BYTES = 4;
/** In the order of their codes. */
const CHANNELS = [0, 1, 3, 4];
const [PALETTE, EXIF, XMP] = [4, 8, 16];
const ALL_FLAGS = 2 * XMP - 1;
const MOST_COLORS = 256;
// A way to filter is chosen on so many bytes of a large image, in bands of so many.
const TRIAL_BYTES = 2 ** 19;
const BAND_BYTES = 2 ** 16;

export interface ExactOptions extends Metadata {
  /** Write a gray picture: it says so when it is read. RangeError if some pixel is not gray. */
  readonly gray?: boolean | undefined;
}

/** Whether a file begins as those do that keep their picture exactly. */
export function isExact(data: Uint8Array): boolean {
  return startsWith(data, MAGIC);
}

/** The header of a file, of which only the beginning need be there; it names no codec. */
export function exactHeader(data: Uint8Array, limits: Limits): Header {
  return headerOf(data, limits)[0];
}

/** The metadata of a whole file, of which no row is unpacked. */
export function exactMetadata(data: Uint8Array, limits: Limits): Metadata {
  return described(data, limits).metadata;
}

/** The picture of a file that keeps it exactly; no codec is needed. */
export function decompressExact(
  bytes: Uint8Array | ArrayBuffer,
  options: DecompressOptions = {},
): Picture {
  const data = asBytes(bytes);
  const limits = { ...FILE_LIMITS, ...options.limits };
  const { header, flags, rest } = described(data, limits);
  const window = windowOf(options.region, header);
  checkProportion(window, data.length, limits);
  const channels = Math.max(1, header.channels);
  let packed = rest;
  let palette: Uint8Array | undefined;
  if (flags & PALETTE) {
    const end = 1 + ((rest[0] ?? 0) + 1) * channels;
    palette = rest.subarray(1, end);
    if (rest.length < end) throw damaged("the file is cut off, or a number in it makes no sense");
    packed = rest.subarray(end);
  }
  const bits = palette ? indexBits(palette.length / channels) : 8 * channels;
  const rowBytes = Math.ceil((header.width * bits) / 8);
  const rows = inflate(packed, header.height * (1 + rowBytes));
  unfilter(rows, rowBytes, Math.max(1, bits >> 3));
  if (palette) checkIndexes(rows, header, rowBytes, bits, palette.length / channels);

  const out = roomFor(window);
  const colors = palette ?? rows;
  // Gray stands for all three.
  const green = channels < 3 ? 0 : 1;
  for (let row = 0, to = 0; row < window.height; row++) {
    const begin = (window.top + row) * (1 + rowBytes) + 1;
    for (let column = window.left; column < window.left + window.width; column++, to += 4) {
      const from = palette
        ? indexAt(rows, begin, column, bits) * channels
        : begin + column * channels;
      out[to] = colors[from]!;
      out[to + 1] = colors[from + green]!;
      out[to + 2] = colors[from + 2 * green]!;
      out[to + 3] = channels === 4 ? colors[from + 3]! : 255;
    }
  }
  return newPicture(out, window.width, window.height);
}

/** The bytes of a picture that is kept exactly, its transparency too. */
export async function compressExact(
  image: Picture,
  options: ExactOptions = {},
): Promise<Uint8Array> {
  const { gray = false, exif, xmp } = options;
  const { width, height } = checkedPicture(image);
  const channels = gray ? 0 : transparency(image) ? 4 : 3;
  const values = valuesOf(image, channels);
  const each = Math.max(1, channels);
  const palette = paletteOf(values, each);
  const candidates = [packedRows(values, width * each, each)];
  if (palette) {
    const count = palette.colors.length / each;
    const bits = indexBits(count);
    const rows = packedIndexes(palette.indexes, width, height, bits);
    const prefix = concat([Uint8Array.of(count - 1), palette.colors]);
    const begun = packedRows(rows, Math.ceil((width * bits) / 8), 1);
    candidates.push(begun.then((packed) => concat([prefix, packed])));
  }
  const [plain, indexed] = await Promise.all(candidates);
  const isIndexed = indexed !== undefined && indexed.length < plain!.length;
  const flags =
    CHANNELS.indexOf(channels) + (isIndexed ? PALETTE : 0) + (exif ? EXIF : 0) + (xmp ? XMP : 0);
  const parts = [MAGIC, Uint8Array.of(flags), varint(height), varint(width)];
  for (const part of [exif, xmp]) if (part) parts.push(varint(part.length), part);
  const body = concat([...parts, isIndexed ? indexed : plain!]);
  return concat([body, uint32(crc32(body))]);
}

// --- the parts of a file ------------------------------------------------------------------------

interface Described {
  readonly header: Header;
  readonly flags: number;
  readonly metadata: Metadata;
  /** Palette, if any, and rows. */
  readonly rest: Uint8Array;
}

function described(data: Uint8Array, limits: Limits): Described {
  checkBytes(data, limits);
  const body = data.subarray(0, Math.max(0, data.length - CRC_BYTES));
  const [header, afterHeader] = headerOf(body, limits);
  if (readUint32(data, body.length) !== crc32(body)) {
    throw damaged("the file is cut off or damaged: its checksum does not match");
  }
  const flags = body[MAGIC.length] as number;
  let position = afterHeader;
  const [exif, xmp] = [EXIF, XMP].map((flag) => {
    if (!(flags & flag)) return undefined;
    const [length, begin] = readVarint(body, position);
    if (length > body.length - begin) {
      throw damaged("the file is cut off, or a number in it makes no sense");
    }
    position = begin + length;
    return body.subarray(begin, position);
  });
  return { header, flags, metadata: { exif, xmp }, rest: body.subarray(position) };
}

/** The header, and where it ends. */
function headerOf(data: Uint8Array, limits: Limits): [Header, number] {
  if (!isExact(data)) throw damaged("this is not an exact .eae file");
  const flags = data[MAGIC.length];
  if (flags === undefined) throw damaged(`the file is cut off after ${data.length} bytes`);
  if (flags > ALL_FLAGS) throw damaged("the file's header makes no sense");
  const [height, afterHeight] = readVarint(data, MAGIC.length + 1);
  const [width, end] = readVarint(data, afterHeight);
  const channels = CHANNELS[flags & 3] as number;
  return [checked({ codecId: new Uint8Array(0), level: 0, height, width, channels }, limits), end];
}

/** The fewest bits that tell so many colors apart. */
function indexBits(colors: number): number {
  return [1, 2, 4].find((bits) => colors <= 1 << bits) ?? 8;
}

/** The index of a column in the row whose first byte is at `begin`. */
function indexAt(rows: Uint8Array, begin: number, column: number, bits: number): number {
  const bit = column * bits;
  return (rows[begin + (bit >> 3)]! >> (8 - bits - (bit & 7))) & ((1 << bits) - 1);
}

function checkIndexes(
  rows: Uint8Array,
  { height, width }: Header,
  rowBytes: number,
  bits: number,
  colors: number,
): void {
  if (colors === 1 << bits) return;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (indexAt(rows, row * (1 + rowBytes) + 1, column, bits) >= colors) {
        throw damaged("the file names a color that its palette does not hold");
      }
    }
  }
}

// --- writing ------------------------------------------------------------------------------------

/** Bytes (height, width, channels) of a picture. */
function valuesOf({ data }: Picture, channels: number): Uint8Array {
  const each = Math.max(1, channels);
  const values = new Uint8Array((data.length / 4) * each);
  for (let from = 0, to = 0; from < data.length; from += 4, to += each) {
    for (let c = 0; c < each; c++) values[to + c] = data[from + c]!;
    if (!channels && (data[from + 1] !== data[from] || data[from + 2] !== data[from])) {
      throw new RangeError("image is not gray, expected equal red, green and blue");
    }
  }
  return values;
}

/** The colors, ascending, and the index of each pixel, if there are at most 256 of them. */
function paletteOf(
  values: Uint8Array,
  channels: number,
): { colors: Uint8Array; indexes: Uint8Array } | undefined {
  const keys = new Uint32Array(values.length / channels);
  const seen = new Set<number>();
  for (let i = 0, at = 0; i < keys.length; i++) {
    for (let c = 0; c < channels; c++) keys[i] = (keys[i]! << 8) | values[at++]!;
    seen.add(keys[i]!);
    if (seen.size > MOST_COLORS) return undefined;
  }
  const found = Uint32Array.from(seen).sort();
  const indexOf = new Map(Array.from(found, (key, i) => [key, i]));
  const colors = new Uint8Array(found.length * channels);
  for (let i = 0; i < colors.length; i++) {
    colors[i] = found[Math.floor(i / channels)]! >>> (8 * (channels - 1 - (i % channels)));
  }
  return { colors, indexes: Uint8Array.from(keys, (key) => indexOf.get(key)!) };
}

/** Rows of indexes with several in a byte, the first in its highest bits. */
function packedIndexes(
  indexes: Uint8Array,
  width: number,
  height: number,
  bits: number,
): Uint8Array {
  const rowBytes = Math.ceil((width * bits) / 8);
  const out = new Uint8Array(height * rowBytes);
  for (let i = 0; i < indexes.length; i++) {
    const bit = (i % width) * bits;
    out[Math.floor(i / width) * rowBytes + (bit >> 3)]! |= indexes[i]! << (8 - bits - (bit & 7));
  }
  return out;
}

/** Rows filtered in the way that is smallest, and deflated. */
async function packedRows(
  rows: Uint8Array,
  rowBytes: number,
  pixelBytes: number,
): Promise<Uint8Array> {
  const all = Array.from({ length: rows.length / rowBytes }, (_, row) => row);
  const band = Math.max(1, Math.floor(BAND_BYTES / rowBytes));
  const step = Math.ceil(rows.length / TRIAL_BYTES);
  const some = all.filter((row) => Math.floor(row / band) % step === 0);
  const pack = (numbers: readonly number[], choice: number) =>
    deflate(filtered(rows, rowBytes, pixelBytes, numbers, choice));
  let best: Uint8Array | undefined;
  let chosen = 0;
  for (let choice = 0; choice < CHOICES; choice++) {
    const packed = await pack(some, choice);
    if (best && packed.length >= best.length) continue;
    best = packed;
    chosen = choice;
  }
  return some.length === all.length ? best! : await pack(all, chosen);
}
