/** The .eae file in its two forms, sections 1 and 2 of docs/FORMAT.md. */

import { concat, crc32, readUint32, readVarint, startsWith, uint32, varint } from "../bytes.js";
import type { Chunk, Found } from "../coding/chunks.js";
import { asciiOf, firstChunk, isCritical, readChunks, writeChunks } from "../coding/chunks.js";
import { damaged } from "../errors.js";
import { BOUNDS, chunkTypes, SALVAGED } from "./chunk_types.js";
import type { Header, Limits } from "./header.js";
import { checkBytes, checked, fromPictureCode, hasSmallForm, pictureCode } from "./header.js";

const MAGIC = Uint8Array.of(0x89, 0x45, 0x41, 0x45, 0x0d, 0x0a, 0x1a, 0x0a);
const SMALL_MAGIC = Uint8Array.of(0x89, 0x65);
const SMALL_ID_BYTES = 4;
const HEAD_BYTES = 26;

/** What others say of a picture, byte for byte. */
export interface Metadata {
  /** A TIFF structure, as in a PNG's eXIf. */
  readonly exif?: Uint8Array | undefined;
  /** An XMP packet in UTF-8. */
  readonly xmp?: Uint8Array | undefined;
}

/** What a file holds: coded blocks by the number of their tile, and packed transparency. */
export interface Content extends Metadata {
  readonly header: Header;
  readonly blocks: ReadonlyMap<number, Uint8Array>;
  readonly alpha?: Uint8Array | undefined;
}

/** The bytes of a file, in the small form where that can hold it. */
export function writeFile(
  header: Header,
  blocks: readonly Uint8Array[],
  { alpha, exif, xmp }: { readonly alpha?: Uint8Array | undefined } & Metadata = {},
): Uint8Array {
  const [only] = blocks;
  if (only !== undefined && blocks.length === 1 && hasSmallForm(header) && !exif && !xmp) {
    const body = concat([
      SMALL_MAGIC,
      header.codecId.subarray(0, SMALL_ID_BYTES),
      Uint8Array.of(pictureCode(header)),
      varint(header.height),
      varint(header.width),
      only,
    ]);
    return concat([body, uint32(crc32(body))]);
  }
  const head = concat([
    header.codecId,
    Uint8Array.of(header.level, header.channels),
    uint32(header.height),
    uint32(header.width),
  ]);
  const chunks: Chunk[] = [{ type: "HEAD", body: head }];
  if (exif) chunks.push({ type: "exIF", body: exif });
  if (xmp) chunks.push({ type: "xmPP", body: xmp });
  if (alpha) chunks.push({ type: "ALPH", body: alpha });
  for (const [i, block] of blocks.entries()) {
    chunks.push({ type: "TILE", body: concat([varint(i), block]) });
  }
  if (blocks.length > 1) chunks.push({ type: "heAD", body: head });
  return writeChunks(MAGIC, chunks);
}

/** The header of a file, of which only the beginning need be there. */
export function readHeader(data: Uint8Array, limits: Limits): Header {
  if (startsWith(data, SMALL_MAGIC)) return smallHeader(data, limits)[0];
  return headOf(firstChunk(data, MAGIC), limits);
}

/** All of a whole file, every CRC checked before anything is given back. */
export function readFile(data: Uint8Array, limits: Limits): Content {
  checkBytes(data, limits);
  if (startsWith(data, SMALL_MAGIC)) return readSmall(data, limits);
  const [first, ...chunks] = readChunks(data, MAGIC, limits.chunks);
  const header = headOf(first, limits);
  const blocks = new Map<number, Uint8Array>();
  let alpha: Uint8Array | undefined;
  for (const chunk of chunks) {
    const { type, body } = chunk;
    if (type === "TILE") {
      const [index, begin] = readVarint(body, 0);
      if (index !== blocks.size) {
        throw damaged(`the file has tile ${index} where ${blocks.size} should be`);
      }
      blocks.set(index, body.subarray(begin));
    } else if (type === "ALPH" && alpha === undefined && blocks.size === 0) {
      alpha = body;
    } else if (isCritical(chunk)) {
      throw damaged(`the file has a chunk '${type}' that is out of place`);
    }
  }
  if ((alpha !== undefined) !== (header.channels === 4)) {
    throw damaged("the file's transparency does not fit its header");
  }
  return { header, blocks, alpha, ...metadataOf(chunks) };
}

/** All that is sound in a file which may be damaged or cut off, section 10. */
export function salvage(data: Uint8Array, limits: Limits): Content {
  checkBytes(data, limits);
  if (startsWith(data, SMALL_MAGIC)) {
    try {
      return readSmall(data, limits);
    } catch (error) {
      // One flipped bit makes the whole form's magic begin like the small one's.
      if (chunkTypes(data, SALVAGED).next().done) throw error;
    }
  }
  const chunks = ofOneFile(soundChunks(data, limits));
  let header: Header | undefined;
  let alpha: Uint8Array | undefined;
  const blocks = new Map<number, Uint8Array>();
  for (const { type, body } of chunks) {
    if (type === "HEAD" || type === "heAD") {
      header ??= headOf({ type: "HEAD", body }, limits);
    } else if (type === "TILE") {
      const [index, begin] = readVarint(body, 0);
      if (!blocks.has(index)) blocks.set(index, body.subarray(begin));
    } else if (type === "ALPH") {
      alpha ??= body;
    }
  }
  if (header === undefined) {
    throw damaged("this is not an .eae file, or nothing is left of its header");
  }
  if (header.channels !== 4) alpha = undefined;
  return { header, blocks, alpha, ...metadataOf(chunks) };
}

/** The chunks of the first file with a header, without those that its check does not list. */
function ofOneFile(chunks: Iterable<Found>): Found[] {
  let found: Found[] = [];
  let listed: Uint8Array | undefined;
  let headed = false;
  for (const chunk of chunks) {
    const { type, body } = chunk;
    if (type === "HEAD" || type === "DONE") {
      if (headed) break;
      // What came before is of a file whose header is lost.
      found = [];
      listed = undefined;
    }
    if (type === "crCS") listed ??= body;
    else if (type !== "DONE") found.push(chunk);
    headed ||= type === "HEAD" || type === "heAD";
  }
  const list = listed;
  const head = found.find(({ type }) => type === "HEAD" || type === "heAD");
  if (!list || !head) return found;
  const crcs = new Set<number>();
  for (let i = 0; i + 4 <= list.length; i += 4) crcs.add(readUint32(list, i));
  if (!crcs.has(crc32(asciiOf("HEAD"), head.body))) return found;
  return found.filter((chunk) => !isCritical(chunk) || crcs.has(chunk.crc));
}

function metadataOf(chunks: readonly Chunk[]): Metadata {
  const first = (wanted: string) => chunks.find(({ type }) => type === wanted)?.body;
  return { exif: first("exIF"), xmp: first("xmPP") };
}

// How many times over the bytes of a file may go into checksums: chunks that only look like some
// could name the whole rest of the file each.
const SALVAGE_PASSES = 8;

function* soundChunks(data: Uint8Array, limits: Limits): Generator<Found> {
  let left = SALVAGE_PASSES * data.length;
  let count = 0;
  let position = 0;
  for (const place of chunkTypes(data, [...SALVAGED, ...BOUNDS])) {
    if (count === limits.chunks) return;
    if (place < Math.max(position, 4)) continue;
    const length = readUint32(data, place - 4);
    const end = place + 4 + length;
    if (end + 4 > data.length || length > left) continue;
    left -= length;
    const crc = readUint32(data, end);
    if (crc !== crc32(data.subarray(place, end))) continue;
    const type = String.fromCharCode(...data.subarray(place, place + 4));
    yield { type, crc, body: data.subarray(place + 4, end) };
    position = end + 4;
    count++;
  }
}

function readSmall(data: Uint8Array, limits: Limits): Content {
  const end = data.length - 4;
  if (end < SMALL_MAGIC.length) throw damaged(`the file is cut off after ${data.length} bytes`);
  if (readUint32(data, end) !== crc32(data.subarray(0, end))) {
    throw damaged("the file is cut off or damaged: its checksum does not match");
  }
  const [header, begin] = smallHeader(data.subarray(0, end), limits);
  return { header, blocks: new Map([[0, data.subarray(begin, end)]]) };
}

/** The header of the small form, and where its block begins. */
function smallHeader(data: Uint8Array, limits: Limits): [Header, number] {
  const place = SMALL_MAGIC.length + SMALL_ID_BYTES;
  const code = data[place];
  if (code === undefined) throw damaged(`the file is cut off after ${data.length} bytes`);
  const [height, afterHeight] = readVarint(data, place + 1);
  const [width, begin] = readVarint(data, afterHeight);
  const codecId = data.slice(SMALL_MAGIC.length, place);
  return [checked({ codecId, height, width, ...fromPictureCode(code) }, limits), begin];
}

function headOf(found: Chunk | undefined, limits: Limits): Header {
  if (found?.type !== "HEAD" || found.body.length !== HEAD_BYTES) {
    throw damaged("the file does not begin with a header that can be read here");
  }
  const { body } = found;
  const header = {
    codecId: body.slice(0, 16),
    level: body[16] as number,
    channels: body[17] as number,
    height: readUint32(body, 18),
    width: readUint32(body, 22),
  };
  return checked(header, limits);
}
