/** The .eae file of a signal in its two forms: section 13 of docs/FORMAT.md. */

import { crc32, readUint32, readVarint, startsWith } from "../bytes.js";
import type { Chunk } from "../coding/chunks.js";
import { firstChunk, isCritical, readChunks } from "../coding/chunks.js";
import { damaged } from "../errors.js";
import type { SignalHeader, SignalLimits } from "./header.js";
import { readBody, STRIDE } from "./header.js";

const MAGIC = Uint8Array.of(0x89, 0x45, 0x41, 0x53, 0x0d, 0x0a, 0x1a, 0x0a);
const SMALL_MAGIC = Uint8Array.of(0x89, 0x73);
const ID_BYTES = 16;
const SMALL_ID_BYTES = 4;
const CRC_BYTES = 4;
// What a few bytes may claim whatever their number: see SignalLimits.
const USUAL_SAMPLES = 2 ** 20;

/** What a file holds. */
export interface SignalContent {
  readonly header: SignalHeader;
  /** In their order. */
  readonly blocks: readonly Uint8Array[];
  /** Of each lead, empty if the file has none. */
  readonly names: readonly string[];
  readonly units: readonly string[];
}

/** The header of a file, of which only the beginning need be there. */
export function readSignalHeader(data: Uint8Array, limits: SignalLimits): SignalHeader {
  if (startsWith(data, SMALL_MAGIC)) return smallHeader(data, limits)[0];
  return headOf(firstChunk(data, MAGIC), limits);
}

/** All of a whole file, every CRC checked before anything is given back. */
export function readSignalFile(data: Uint8Array, limits: SignalLimits): SignalContent {
  if (data.length > limits.fileBytes) {
    throw damaged(`there are ${data.length} bytes, expected at most ${limits.fileBytes}`);
  }
  const content = startsWith(data, SMALL_MAGIC) ? readSmall(data, limits) : readWhole(data, limits);
  const { header, blocks } = content;
  const count = Math.ceil(header.samples / (header.blockSteps * STRIDE));
  if (!header.samples || blocks.length !== count) {
    throw damaged(`the file has ${blocks.length} blocks, expected ${count}`);
  }
  const samples = header.samples * header.channels;
  if (samples > Math.max(USUAL_SAMPLES, limits.samplesPerByte * data.length)) {
    throw damaged(`the file claims ${samples} samples in ${data.length} bytes`);
  }
  return content;
}

/** The coded blocks of all channels in a block. */
export function splitBlock(block: Uint8Array, channels: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let at = 0;
  for (let i = 1; i < channels; i++) {
    const [length, begin] = readVarint(block, at);
    if (length > block.length - begin) throw damaged("a block holds less than it says");
    at = begin + length;
    parts.push(block.subarray(begin, at));
  }
  return [...parts, block.subarray(at)];
}

function readSmall(data: Uint8Array, limits: SignalLimits): SignalContent {
  const body = data.subarray(0, Math.max(0, data.length - CRC_BYTES));
  const [header, begin] = smallHeader(body, limits);
  if (readUint32(data, body.length) !== crc32(body)) {
    throw damaged("the file is cut off or damaged: its checksum does not match");
  }
  return { header, blocks: [body.subarray(begin)], names: [], units: [] };
}

function readWhole(data: Uint8Array, limits: SignalLimits): SignalContent {
  const [first, ...chunks] = readChunks(data, MAGIC, limits.chunks);
  const header = headOf(first, limits);
  const blocks: Uint8Array[] = [];
  let pairs: string[][] = [];
  for (const chunk of chunks) {
    const { type, body } = chunk;
    if (type === "BLOK") {
      const [number, begin] = readVarint(body, 0);
      if (number !== blocks.length) {
        throw damaged(`the file has block ${number} where ${blocks.length} should be`);
      }
      blocks.push(body.subarray(begin));
    } else if (type === "naMe" && !pairs.length) {
      pairs = namesOf(body, header.channels);
    } else if (isCritical(chunk)) {
      throw damaged(`the file has a chunk ${type}, which this version cannot read`);
    }
  }
  return { header, blocks, names: pairs.map(([name]) => name!), units: pairs.map(([, unit]) => unit!) };
}

/** Name and unit of each channel, as far as there is text for all of them. */
function namesOf(body: Uint8Array, channels: number): string[][] {
  const lines = new TextDecoder("utf-8", { ignoreBOM: true }).decode(body).split("\n");
  if (lines.length !== channels) return [];
  return lines.map((line) => {
    const at = line.indexOf("\t");
    return at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 1)];
  });
}

function smallHeader(data: Uint8Array, limits: SignalLimits): [SignalHeader, number] {
  const begin = SMALL_MAGIC.length + SMALL_ID_BYTES;
  return readBody(data, begin, data.slice(SMALL_MAGIC.length, begin), limits);
}

function headOf(chunk: Chunk | undefined, limits: SignalLimits): SignalHeader {
  if (chunk?.type !== "HEAD" || chunk.body.length < ID_BYTES) {
    throw damaged("the file does not begin with a header that can be read here");
  }
  const { body } = chunk;
  const [header, end] = readBody(body, ID_BYTES, body.slice(0, ID_BYTES), limits);
  if (end !== body.length) throw damaged("the file's header is longer than what it holds");
  return header;
}
