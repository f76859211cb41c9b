/** The header of a compressed signal, and what a reader lets it ask for. */

import { readVarint } from "../bytes.js";
import { LEVELS } from "../coding/tables.js";
import { damaged } from "../errors.js";

/** Types of samples, in the order of their codes. */
export const DTYPES = ["int16", "int32", "float32", "float64", "uint8", "int8", "uint16"] as const;
export type Dtype = (typeof DTYPES)[number];

/** Samples of each lead for a step of the latent. */
export const STRIDE = 16;
const [FLAT, EXACT] = [16, 32];
const MOST_CHANNELS = 4096;
const MOST_BLOCK_STEPS = 8192;

/** What a file, or the packets of a signal, may ask for before they are refused. */
export interface SignalLimits {
  /** Bytes of the file, or of one packet. */
  readonly fileBytes: number;
  /** Of all leads together. */
  readonly samples: number;
  /** Chunks of a file, or packets of a signal. */
  readonly chunks: number;
  /** How many samples each byte may stand for, beyond 2 ** 20. */
  readonly samplesPerByte: number;
}

export const SIGNAL_LIMITS: SignalLimits = {
  fileBytes: 2 ** 30,
  samples: 2 ** 28,
  chunks: 2 ** 17,
  samplesPerByte: 2 ** 9,
};

/** What a reader must know before the first block. */
export interface SignalHeader {
  /** 16 bytes, or the first 4 of them in the small form. */
  readonly codecId: Uint8Array;
  readonly level: number;
  readonly dtype: Dtype;
  readonly channels: number;
  /** The signal is (samples,), without an axis of leads. */
  readonly flat: boolean;
  /** Of each lead; 0 in packets of a signal whose end is not known. */
  readonly samples: number;
  /** In Hz. */
  readonly sampleRate: number;
  /** Steps of the latent in a block. */
  readonly blockSteps: number;
  /** Every so many blocks one stands alone, 0 if only the first does. */
  readonly keyBlocks: number;
  readonly offsets: readonly number[];
  readonly scales: readonly number[];
  /** Samples are coded as whole numbers, not by the latent. */
  readonly exact: boolean;
}

/** The header that stands behind a codec's id, and where it ends. */
export function readBody(
  data: Uint8Array,
  begin: number,
  codecId: Uint8Array,
  limits: SignalLimits,
): [header: SignalHeader, end: number] {
  const [kind, level] = data.subarray(begin);
  if (kind === undefined || level === undefined) {
    throw damaged(`the file is cut off after ${data.length} bytes`);
  }
  let at = begin + 2;
  const numbers = Array.from({ length: 4 }, () => {
    const [value, end] = readVarint(data, at);
    at = end;
    return value;
  });
  const [channels, samples, blockSteps, keyBlocks] = numbers as [number, number, number, number];
  const dtype = DTYPES[kind & 15];
  const exact = (kind & EXACT) > 0;
  const each = exact ? 8 : 4;
  const end = at + 8 + 2 * each * channels;
  if (!dtype || kind >= 2 * EXACT || channels < 1 || channels > MOST_CHANNELS || end > data.length) {
    throw damaged("the file's header makes no sense, or is cut off");
  }
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const pairs = Array.from({ length: 2 * channels }, (_, i) =>
    exact ? view.getFloat64(at + 8 + 8 * i, true) : view.getFloat32(at + 8 + 4 * i, true),
  );
  const header = {
    codecId,
    level,
    dtype,
    channels,
    flat: (kind & FLAT) > 0,
    samples,
    sampleRate: view.getFloat64(at, true),
    blockSteps,
    keyBlocks,
    offsets: pairs.filter((_, i) => i % 2 === 0),
    scales: pairs.filter((_, i) => i % 2 === 1),
    exact,
  };
  return [checked(header, limits), end];
}

function checked(header: SignalHeader, limits: SignalLimits): SignalHeader {
  const { level, channels, flat, samples, sampleRate, blockSteps, offsets, scales } = header;
  const sound =
    [sampleRate, ...scales].every((value) => value > 0 && value < Infinity) &&
    offsets.every(Number.isFinite) &&
    blockSteps >= 1 &&
    blockSteps <= MOST_BLOCK_STEPS &&
    level < LEVELS &&
    (!flat || channels === 1);
  if (!sound) throw damaged("the file's header makes no sense");
  if (samples * channels > limits.samples) {
    throw damaged(
      `the file holds ${samples} samples of ${channels} channels, expected at most ` +
        `${limits.samples} in all`,
    );
  }
  return header;
}
