/** Files of chunks, whatever they hold: section 1 of docs/FORMAT.md. */

import { concat, crc32, readUint32, startsWith, uint32 } from "../bytes.js";
import { damaged } from "../errors.js";

const FRAME_BYTES = 12;

export interface Chunk {
  readonly type: string;
  readonly body: Uint8Array;
}

/** A chunk of a file. */
export interface Found extends Chunk {
  /** Of type and body, as it stands in the file. */
  readonly crc: number;
}

export function asciiOf(text: string): Uint8Array {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

/** Whether a reader that does not know the type must refuse the file. */
export function isCritical({ type }: Chunk): boolean {
  return type.charCodeAt(0) < 0x61;
}

/** The bytes of a file of these chunks; the check of the whole and the end are added. */
export function writeChunks(magic: Uint8Array, chunks: readonly Chunk[]): Uint8Array {
  const crcs = chunks.filter(isCritical).map(({ type, body }) => crc32(asciiOf(type), body));
  const check = { type: "crCS", body: concat(crcs.map(uint32)) };
  const end = { type: "DONE", body: new Uint8Array(0) };
  return concat([magic, ...[...chunks, check, end].map(framed)]);
}

/** The first chunk of a file, of which only the beginning need be there. */
export function firstChunk(data: Uint8Array, magic: Uint8Array): Found {
  checkMagic(data, magic);
  return chunkAt(data, magic.length);
}

/** Every chunk of a whole file, in order and without its end, every CRC checked. */
export function readChunks(data: Uint8Array, magic: Uint8Array, maxChunks: number): Found[] {
  checkMagic(data, magic);
  const chunks: Found[] = [];
  const critical: number[] = [];
  let tied = false;
  let position = magic.length;
  while (chunks.length < maxChunks) {
    const found = chunkAt(data, position);
    position += FRAME_BYTES + found.body.length;
    if (found.type === "DONE") {
      const { length } = found.body;
      if (length) throw damaged(`the file's end holds ${length} bytes, expected none`);
      if (position === data.length) return chunks;
      throw damaged(`the file has ${data.length - position} bytes after its end`);
    }
    chunks.push(found);
    if (found.type === "crCS") {
      tied = true;
      checkList(found.body, critical);
    } else if (isCritical(found)) {
      if (tied) throw damaged("the file has a chunk after the check of all its chunks");
      critical.push(found.crc);
    }
  }
  throw damaged(`the file has more than ${maxChunks} chunks`);
}

function framed({ type, body }: Chunk): Uint8Array {
  const name = asciiOf(type);
  return concat([uint32(body.length), name, body, uint32(crc32(name, body))]);
}

function checkMagic(data: Uint8Array, magic: Uint8Array): void {
  if (startsWith(data, magic)) return;
  throw damaged(startsWith(magic, data) ? "the file is cut off" : "this is not an .eae file");
}

function chunkAt(data: Uint8Array, begin: number): Found {
  const there = data.length - begin - FRAME_BYTES;
  const length = there < 0 ? 0 : readUint32(data, begin);
  if (length > there) throw damaged(`the file is cut off after ${data.length} bytes`);
  const end = begin + 8 + length;
  const type = String.fromCharCode(...data.subarray(begin + 4, begin + 8));
  if (!/^[A-Za-z]{4}$/.test(type)) throw damaged(`the file is damaged near byte ${begin}`);
  const crc = readUint32(data, end);
  if (crc !== crc32(data.subarray(begin + 4, end))) {
    throw damaged(`the file is damaged near byte ${begin}: a checksum does not match`);
  }
  return { type, crc, body: data.subarray(begin + 8, end) };
}

function checkList(list: Uint8Array, crcs: readonly number[]): void {
  if (list.length !== 4 * crcs.length || crcs.some((crc, i) => readUint32(list, 4 * i) !== crc)) {
    throw damaged("the file is put together of chunks of several files");
  }
}
