/** Signals in packets that may be lost or doubled: section 13 of docs/FORMAT.md. */

import { asBytes, crc32, readUint32 } from "../bytes.js";
import { damaged, EdgeaeError } from "../errors.js";
import type { SignalHeader, SignalLimits } from "./header.js";
import { readBody, STRIDE } from "./header.js";

const OPENING = 0x80;
// Numbers of blocks go round after so many.
const ROUND = 128;
const [CRC_BYTES, SHORT_CRC_BYTES] = [4, 2];
// What a few bytes may claim whatever their number, and what each may leave to concealment.
const USUAL_SAMPLES = 2 ** 20;
const CONCEALED_PER_BYTE = 2 ** 12;

/** What came of one signal. */
export interface ReceivedSignal {
  readonly header: SignalHeader;
  /** By their numbers. */
  readonly blocks: ReadonlyMap<number, Uint8Array>;
  /** Of the blocks up to the last that is known of. */
  readonly count: number;
}

/**
 * The blocks of the first signal that a packet opens; of a block that came twice the first. Packets
 * that are damaged, of another codec or of another signal are passed over.
 */
export function gatherSignal(
  packets: Iterable<Uint8Array | ArrayBuffer>,
  codecId: Uint8Array,
  limits: SignalLimits,
): ReceivedSignal {
  const came: Uint8Array[] = [];
  let opening: { header: SignalHeader; check: number } | undefined;
  for (const packet of packets) {
    if (came.length >= limits.chunks) throw damaged(`more than ${limits.chunks} packets came`);
    const data = asBytes(packet, "a packet");
    came.push(data);
    opening ??= openingOf(data, codecId, limits);
  }
  if (!opening) throw damaged(`of ${came.length} packets none opens a signal of this codec`);
  const { header, check } = opening;
  const length = header.blockSteps * STRIDE;
  const known = header.samples ? Math.ceil(header.samples / length) : Infinity;
  const blocks = new Map<number, Uint8Array>();
  let expected = 0;
  let bytes = 0;
  let last = -1;
  for (const data of came) {
    const block = blockOf(data, check);
    if (!block) continue;
    // The number next to the one expected that has these low bits.
    const ahead = (data[0]! - expected + ROUND / 2) & (ROUND - 1);
    const number = expected + ahead - ROUND / 2;
    if (number < 0 || number >= known) continue;
    if (!blocks.has(number)) {
      blocks.set(number, block);
      bytes += block.length;
      last = Math.max(last, number);
    }
    expected = number + 1;
  }
  const count = header.samples ? known : last + 1;
  for (const [claimed, perByte] of [
    [blocks.size * length, limits.samplesPerByte],
    [count * length, CONCEALED_PER_BYTE],
  ] as const) {
    if (claimed * header.channels > Math.max(USUAL_SAMPLES, perByte * bytes)) {
      throw damaged(`packets of ${bytes} bytes claim ${claimed} samples`);
    }
  }
  if (!count) throw damaged("no block of the signal came");
  return { header, blocks, count };
}

function openingOf(
  data: Uint8Array,
  codecId: Uint8Array,
  limits: SignalLimits,
): { header: SignalHeader; check: number } | undefined {
  if (data.length < 1 + CRC_BYTES || data[0]! < OPENING) return undefined;
  const body = data.subarray(0, -CRC_BYTES);
  const crc = readUint32(data, body.length);
  if (crc !== crc32(codecId, body)) return undefined;
  try {
    const [header, end] = readBody(body, 1, codecId, limits);
    return end === body.length ? { header, check: crc & 0xffff } : undefined;
  } catch (error) {
    if (error instanceof EdgeaeError) return undefined;
    throw error;
  }
}

/** The block of a packet, which may have no bytes. */
function blockOf(data: Uint8Array, check: number): Uint8Array | undefined {
  if (data.length < 1 + SHORT_CRC_BYTES || data[0]! >= OPENING) return undefined;
  const body = data.subarray(0, -SHORT_CRC_BYTES);
  const [low, high] = data.subarray(body.length);
  return crc16(body, check) === (low! | (high! << 8)) ? body.subarray(1) : undefined;
}

/** CRC-16 of polynomial 1021, not reflected, begun with a number. */
function crc16(data: Uint8Array, begin: number): number {
  let crc = begin;
  for (const byte of data) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
    crc &= 0xffff;
  }
  return crc;
}
