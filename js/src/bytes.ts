import { damaged, EdgeaeError } from "./errors.js";

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

/** The CRC-32 of zlib and PNG, of several pieces as if they were one. */
export function crc32(...pieces: readonly Uint8Array[]): number {
  let crc = 0xffffffff;
  for (const piece of pieces) {
    for (const byte of piece) crc = (CRC_TABLE[(crc ^ byte) & 0xff] as number) ^ (crc >>> 8);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/** The little-endian uint32 that begins at `at`, which must be inside. */
export function readUint32(data: Uint8Array, at: number): number {
  return new DataView(data.buffer, data.byteOffset, data.byteLength).getUint32(at, true);
}

/** The four bytes of a number, little-endian. */
export function uint32(value: number): Uint8Array {
  return Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24);
}

/** The bytes of a number from 0: 7 bits each, low ones first, the top bit on all but the last. */
export function varint(value: number): Uint8Array {
  const out: number[] = [];
  while (value > 0x7f) {
    out.push((value % 128) | 0x80);
    value = Math.floor(value / 128);
  }
  out.push(value);
  return Uint8Array.from(out);
}

/** The varint that begins at `at`, and where it ends. */
export function readVarint(data: Uint8Array, at: number): [value: number, end: number] {
  let value = 0;
  // Five bytes hold 35 bits: more than 32-bit shifts, less than what a double holds exactly.
  for (let i = 0, unit = 1; i < 5 && at + i < data.length; i++, unit *= 128) {
    const byte = data[at + i] as number;
    value += (byte & 0x7f) * unit;
    if (byte < 0x80) return [value, at + i + 1];
  }
  throw damaged("the file is cut off, or a number in it makes no sense");
}

/** The pieces, one after the other. */
export function concat(pieces: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    out.set(piece, at);
    at += piece.length;
  }
  return out;
}

export function startsWith(data: Uint8Array, start: Uint8Array): boolean {
  return data.length >= start.length && start.every((byte, i) => data[i] === byte);
}

export function hex(data: Uint8Array): string {
  return Array.from(data, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function fromHex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/** A view of the caller's bytes. Throws TypeError if they are none. */
export function asBytes(data: unknown, name = "bytes"): Uint8Array {
  if (data instanceof Uint8Array) return data;
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw new TypeError(`${name} is ${typeof data}, expected a Uint8Array or an ArrayBuffer`);
}

/** So many bytes, zeros. */
export function newBytes(length: number): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(length);
  } catch {
    throw new EdgeaeError("runtime", `there is no memory for ${length} bytes`);
  }
}
