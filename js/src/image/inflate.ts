/**
 * zlib streams (RFC 1950 and 1951) of a known length. A browser's DecompressionStream would do, but
 * engines differ in what they say of bytes after the end, and a kilobyte may unpack to a megabyte
 * before anyone can stop it.
 */

import { newBytes } from "../bytes.js";
import { damaged } from "../errors.js";

// Two bits for 258 bytes: no deflated byte stands for more.
const MOST_PER_BYTE = 1032;

const LENGTH_BASE = [
  3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131,
  163, 195, 227, 258,
];
const LENGTH_BITS = [
  0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
];
const DISTANCE_BASE = [
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049,
  3073, 4097, 6145, 8193, 12289, 16385, 24577,
];
const DISTANCE_BITS = [
  0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13,
];
const CODE_LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/** A canonical Huffman code: how many codes of each length, and the symbols in their order. */
interface Code {
  readonly counts: Uint16Array;
  readonly symbols: Uint16Array;
}

class Bits {
  private at = 0;
  private buffer = 0;
  private held = 0;

  constructor(private readonly data: Uint8Array) {}

  take(count: number): number {
    while (this.held < count) {
      const byte = this.data[this.at++];
      if (byte === undefined) refuse();
      this.buffer |= byte << this.held;
      this.held += 8;
    }
    const value = this.buffer & ((1 << count) - 1);
    this.buffer >>>= count;
    this.held -= count;
    return value;
  }

  symbol({ counts, symbols }: Code): number {
    let code = 0;
    let first = 0;
    let index = 0;
    for (let length = 1; length < counts.length; length++) {
      code |= this.take(1);
      const count = counts[length] as number;
      if (code - first < count) return symbols[index + code - first] as number;
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    return refuse();
  }

  /** Whole bytes, after the rest of the current one. */
  bytes(count: number): Uint8Array {
    this.at -= this.held >> 3;
    this.buffer = this.held = 0;
    const found = this.data.subarray(this.at, this.at + count);
    if (found.length < count) refuse();
    this.at += count;
    return found;
  }

  get ended(): boolean {
    return this.at === this.data.length && this.held === 0;
  }
}

/** Exactly `size` bytes from a zlib stream that ends with the data. */
export function inflate(data: Uint8Array, size: number): Uint8Array {
  // Before there is room for it: a few bytes may claim a gigabyte.
  if (size > MOST_PER_BYTE * data.length) refuse();
  const [method, flags] = data;
  const header = ((method ?? 0) << 8) | (flags ?? 0);
  if (data.length < 6 || ((method as number) & 15) !== 8 || (method as number) >> 4 > 7) refuse();
  if (header % 31 || header & 0x20) refuse();
  const bits = new Bits(data.subarray(2));
  const out = newBytes(size);
  let at = 0;
  for (let last = 0; !last; ) {
    last = bits.take(1);
    const kind = bits.take(2);
    if (kind === 0) {
      const lengths = bits.bytes(4);
      const length = (lengths[0] as number) | ((lengths[1] as number) << 8);
      const inverse = (lengths[2] as number) | ((lengths[3] as number) << 8);
      if (length !== (~inverse & 0xffff) || length > size - at) refuse();
      out.set(bits.bytes(length), at);
      at += length;
    } else {
      const [literals, distances] =
        kind === 1 ? fixedCodes() : kind === 2 ? dynamicCodes(bits) : refuse();
      at = inflateBlock(bits, literals, distances, out, at);
    }
  }
  const sum = bits.bytes(4);
  const expected = sum.reduce((value, byte) => value * 256 + byte, 0);
  if (at !== size || !bits.ended || expected !== adler32(out)) refuse();
  return out;
}

/** A zlib stream of these bytes. */
export async function deflate(data: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([data as BlobPart]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function inflateBlock(
  bits: Bits,
  literals: Code,
  distances: Code,
  out: Uint8Array,
  at: number,
): number {
  for (;;) {
    const symbol = bits.symbol(literals);
    if (symbol === 256) return at;
    if (symbol < 256) {
      if (at === out.length) refuse();
      out[at++] = symbol;
      continue;
    }
    const length = (LENGTH_BASE[symbol - 257] ?? refuse()) + bits.take(LENGTH_BITS[symbol - 257]!);
    const code = bits.symbol(distances);
    const distance = (DISTANCE_BASE[code] ?? refuse()) + bits.take(DISTANCE_BITS[code]!);
    if (distance > at || length > out.length - at) refuse();
    for (const end = at + length; at < end; at++) out[at] = out[at - distance] as number;
  }
}

/** Only a code of a single symbol may leave some bits without a meaning, and no `whole` one. */
function codeOf(lengths: ArrayLike<number>, whole = false): Code {
  const counts = new Uint16Array(16);
  const offsets = new Uint16Array(17);
  for (let i = 0; i < lengths.length; i++) counts[lengths[i] as number]!++;
  counts[0] = 0;
  let left = 1;
  let longest = 0;
  for (let length = 1; length < 16; length++) {
    left = 2 * left - (counts[length] as number);
    if (left < 0) refuse();
    if (counts[length]) longest = length;
    offsets[length + 1] = (offsets[length] as number) + (counts[length] as number);
  }
  if (left && (whole || longest > 1)) refuse();
  const symbols = new Uint16Array(lengths.length);
  for (let i = 0; i < lengths.length; i++) {
    const length = lengths[i] as number;
    if (length) symbols[offsets[length]!++] = i;
  }
  return { counts, symbols };
}

function fixedCodes(): [Code, Code] {
  const lengths = new Uint8Array(288).fill(8).fill(9, 144, 256).fill(7, 256, 280);
  return [codeOf(lengths), codeOf(new Uint8Array(32).fill(5))];
}

function dynamicCodes(bits: Bits): [Code, Code] {
  const literalCount = bits.take(5) + 257;
  const distanceCount = bits.take(5) + 1;
  const lengthCount = bits.take(4) + 4;
  if (literalCount > 286 || distanceCount > 30) refuse();
  const codeLengths = new Uint8Array(19);
  for (const place of CODE_LENGTH_ORDER.slice(0, lengthCount)) codeLengths[place] = bits.take(3);
  const code = codeOf(codeLengths, true);
  const lengths = new Uint8Array(literalCount + distanceCount);
  for (let i = 0; i < lengths.length; ) {
    const symbol = bits.symbol(code);
    if (symbol < 16) {
      lengths[i++] = symbol;
      continue;
    }
    if (symbol === 16 && i === 0) refuse();
    const value = symbol === 16 ? (lengths[i - 1] as number) : 0;
    const count =
      symbol === 16 ? 3 + bits.take(2) : symbol === 17 ? 3 + bits.take(3) : 11 + bits.take(7);
    if (count > lengths.length - i) refuse();
    lengths.fill(value, i, i + count);
    i += count;
  }
  if (!lengths[256]) refuse();
  return [codeOf(lengths.subarray(0, literalCount)), codeOf(lengths.subarray(literalCount))];
}

function adler32(data: Uint8Array): number {
  let a = 1;
  let b = 0;
  for (let begin = 0; begin < data.length; begin += 4096) {
    for (const byte of data.subarray(begin, begin + 4096)) b += a += byte;
    a %= 65521;
    b %= 65521;
  }
  return b * 65536 + a;
}

function refuse(): never {
  throw damaged("transparency or rows are damaged, or have another size than their image");
}
