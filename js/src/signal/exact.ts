/** Whole numbers of a sensor, kept exactly: section 13 of docs/FORMAT.md. */

import type { FineTables } from "../coding/range.js";
import { RangeDecoder } from "../coding/range.js";
import { FRACTIONS } from "../coding/tables.js";
import { damaged } from "../errors.js";
import { offsetOf } from "./contexts.js";

// Samples of this channel, and of the channel before it from the present one on, that a prediction
// is made of.
const OWN = 20;
const OTHER = 6;
const COEFFICIENT_BITS = 16;
/** The last errors that the look-up sees the sum of. */
const LONG = 24;
/** Sides of the look-up. */
export const BINS = 40;
/** Bin edges: some three to a doubling of the error in eighths. */
const EDGES = [
  ...new Set(Array.from({ length: BINS - 1 }, (_, i) => Math.round(3 * 2 ** (i / 2.2)))),
];
// Samples that fit, with their predictions, far within 64 bits.
const LIMIT = 2 ** 36;
// Samples up to here make sums that doubles hold exactly; of others the halves are summed up.
const SMALL = 2 ** 32;
const HALF = 2 ** 20;
// Far beyond all edges.
const MOST_ERROR = 2 ** 30;

export interface ExactTables {
  readonly fine: FineTables;
  /** The scale for each pair of bins, flat: row * 40 + column. */
  readonly scales: Uint8Array;
}

/** Reads the blocks of one signal, in their order. */
export class ExactReader {
  /** The last samples of each channel. */
  private before: Float64Array[] = [];
  private kept: Int32Array[] | undefined;

  constructor(
    private readonly tables: ExactTables,
    private readonly channels: number,
  ) {
    this.reset();
  }

  /** What follows stands alone. */
  reset(): void {
    this.before = Array.from({ length: this.channels }, () => new Float64Array(0));
    this.kept = undefined;
  }

  /** So many samples of each channel, of a block. */
  read(samples: number, block: Uint8Array): Float64Array[] {
    const decoder = new RangeDecoder(this.tables.fine, block);
    const kept: Int32Array[] = [];
    const columns: Float64Array[] = [];
    const found = this.before.map((before, channel) => {
      const coefficients =
        this.kept && !decoder.bits(1) ? this.kept[channel]! : coefficientsOf(decoder);
      kept.push(coefficients);
      const base = before[before.length - 1] ?? 0;
      // Behind as many of the samples before as a prediction sees, less the last of them.
      const column = new Float64Array(OWN + samples);
      column.set(
        before.map((value) => value - base),
        OWN - before.length,
      );
      this.readChannel(decoder, column, columns[channel - 1], coefficients);
      columns.push(column);
      return column.subarray(OWN).map((value) => value + base);
    });
    decoder.finish();
    this.kept = kept;
    this.before = this.before.map((before, channel) =>
      Float64Array.of(...before, ...found[channel]!.subarray(-OWN)).slice(-OWN),
    );
    return found;
  }

  /** Fills a column from its first sample on; `other` is whole already. */
  private readChannel(
    decoder: RangeDecoder,
    own: Float64Array,
    other: Float64Array | undefined,
    coefficients: Int32Array,
  ): void {
    const errors = new Float64Array(LONG + own.length);
    let recent = 0;
    let peak = 0;
    for (const value of own) peak = Math.max(peak, Math.abs(value));
    for (const value of other ?? []) peak = Math.max(peak, Math.abs(value));
    for (let at = OWN; at < own.length; at++) {
      const middle = prediction(coefficients, own, other, at, peak < SMALL);
      const short = 2 * errors[at + LONG - 1]! + errors[at + LONG - 2]! + errors[at + LONG - 3]!;
      const scale = this.tables.scales[BINS * binOf(short) + binOf(Math.floor(recent / 4))]!;
      const center = Math.floor((middle + 4) / 8);
      const fraction = middle - 8 * center;
      const value = decoder.take(scale * FRACTIONS + Math.abs(fraction));
      const sample = center + offsetOf(value, fraction < 0);
      if (!(Math.abs(sample) < LIMIT)) {
        throw damaged("a coded block has a sample that no writer makes");
      }
      own[at] = sample;
      peak = Math.max(peak, Math.abs(sample));
      const error = Math.min(MOST_ERROR, Math.abs(8 * sample - middle));
      recent += error - errors[at]!;
      errors[at + LONG] = error;
    }
  }
}

function coefficientsOf(decoder: RangeDecoder): Int32Array {
  const half = 2 ** (COEFFICIENT_BITS - 1);
  return Int32Array.from({ length: OWN + OTHER }, () => decoder.bits(COEFFICIENT_BITS) - half);
}

/** The middle of the sample at a place, in eighths. */
function prediction(
  coefficients: Int32Array,
  own: Float64Array,
  other: Float64Array | undefined,
  at: number,
  small: boolean,
): number {
  let high = 0;
  let low = 0;
  for (let k = 0; k < OWN + OTHER; k++) {
    const value = k < OWN ? own[at - 1 - k]! : other ? other[at - k + OWN]! : 0;
    const top = small ? 0 : Math.floor(value / HALF);
    high += coefficients[k]! * top;
    low += coefficients[k]! * (value - top * HALF);
  }
  return high * (HALF / 256) + Math.floor(low / 256);
}

/** How many edges are at or below a value. */
function binOf(value: number): number {
  let low = 0;
  let high = EDGES.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (EDGES[middle]! <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}
