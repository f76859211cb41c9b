/** The integer tables of a bundle's tables.bin, section 7 of docs/FORMAT.md. */

import { EdgeaeError } from "../errors.js";

/** Quantization levels of a bundle, 0 the coarsest. */
export const LEVELS = 65;
/** Indices of a distribution's scale. */
export const SCALES = 64;
/** Tables of each index in a centered slice: a middle lies 0 to 4 eighths off an integer. */
export const FRACTIONS = 5;
const TABLES = SCALES + SCALES * FRACTIONS;

export const ALPHABET = 64;
export const ESCAPE = ALPHABET - 1;
export const ESCAPE_BITS = 16;
export const PRECISION_BITS = 12;
const TOTAL = 1 << PRECISION_BITS;
const MAX_SHIFT = 12;

export interface Tables {
  /** Frequencies and their running sums, flat: table * 64 + symbol. */
  readonly frequencies: Uint16Array;
  readonly starts: Uint16Array;
  /** The symbol of each slot, flat: table * 4096 + slot. */
  readonly symbols: Uint8Array;
  /** How many open bits each value of a table has. */
  readonly shifts: Uint8Array;
  /** Quantization steps, flat: level * channels + channel. */
  readonly steps: Float32Array;
}

/** The tables of a latent with so many channels. Throws an EdgeaeError if they make no sense. */
export function readTables(data: Uint8Array, channels: number): Tables {
  const shiftsAt = 2 * TABLES * ALPHABET;
  const stepsAt = shiftsAt + TABLES;
  const end = stepsAt + 4 * LEVELS * channels;
  if (data.length !== end) refuse(`has ${data.length} bytes, expected ${end}`);

  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const frequencies = Uint16Array.from({ length: TABLES * ALPHABET }, (_, i) =>
    view.getUint16(2 * i, true),
  );
  const steps = Float32Array.from({ length: LEVELS * channels }, (_, i) =>
    view.getFloat32(stepsAt + 4 * i, true),
  );
  const shifts = data.slice(shiftsAt, stepsAt);
  if (!steps.every((step) => step > 0 && step < Infinity)) {
    refuse("has a quantization step that is not a positive number");
  }
  if (shifts.some((shift) => shift > MAX_SHIFT)) refuse(`has a shift beyond ${MAX_SHIFT}`);

  const starts = new Uint16Array(TABLES * ALPHABET);
  const symbols = new Uint8Array(TABLES * TOTAL);
  for (let table = 0; table < TABLES; table++) {
    let sum = 0;
    for (let symbol = 0; symbol < ALPHABET; symbol++) {
      const place = table * ALPHABET + symbol;
      const frequency = frequencies[place] as number;
      starts[place] = sum;
      symbols.fill(symbol, table * TOTAL + sum, table * TOTAL + Math.min(TOTAL, sum + frequency));
      sum += frequency;
      if (frequency === 0) sum = Infinity;
    }
    if (sum !== TOTAL) refuse(`has a table that is not positive or does not sum to ${TOTAL}`);
  }
  return { frequencies, starts, symbols, shifts, steps };
}

function refuse(what: string): never {
  throw new EdgeaeError("bundle", `tables.bin ${what}`);
}
