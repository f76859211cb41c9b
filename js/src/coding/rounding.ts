/**
 * Latents to symbols: the nearest whole number, or a smaller one that saves more than it costs. A
 * writer's choice alone, section 11 of docs/FORMAT.md.
 */

import type { Stage } from "./context.js";
import { SYMBOL_LIMIT } from "./context.js";
import type { Tables } from "./tables.js";
import { ALPHABET, ESCAPE, FRACTIONS, PRECISION_BITS, SCALES } from "./tables.js";

// At a high rate the distortion of a uniform quantizer is step ** 2 / 12 and falls by 2 ln 2 of
// itself a bit. The factors are those of the Python writer, found on held-out pictures.
const ERROR_PER_BIT = (2 * Math.LN2) / 12;
const FIRST_STEP = 1;
const LATER_STEPS = 0.5;
const CENTERED_STEPS = 0.5;

const { fround } = Math;

/** What rounding towards zero, or towards a predicted middle, is worth. */
export interface Rounding {
  /** How much further than halfway a magnitude must lie to be rounded up from 0, by index. */
  readonly first: Float32Array;
  /** And from 1 on. */
  readonly later: Float32Array;
  /** What the next symbol nearer to the middle may cost in squared steps, by table and symbol. */
  readonly saved: Float32Array;
}

export function rounding({ frequencies, shifts }: Tables): Rounding {
  const bits = (table: number, symbol: number): number =>
    PRECISION_BITS - Math.log2(frequencies[table * ALPHABET + symbol]!);
  const zone = (scale: number, extra: number): number =>
    // Where a symbol stands for a bucket of values there is nothing to weigh.
    shifts[scale] ? 0 : Math.max(0, extra * (ERROR_PER_BIT / 2));
  const scales = Array.from({ length: SCALES }, (_, scale) => scale);
  const saved = new Float32Array(SCALES * FRACTIONS * ALPHABET);
  for (let table = 0; table < SCALES * FRACTIONS; table++) {
    if (shifts[SCALES + table]) continue;
    // Beside a middle between two whole numbers, 1 may lie as near as 0.
    const between = table % FRACTIONS === FRACTIONS - 1;
    // What lies beyond the escape costs the same everywhere.
    for (let symbol = between ? 2 : 1; symbol < ESCAPE; symbol++) {
      // Symbols 0, 1, 2, 3, 4 stand for 0, 1, -1, 2, -2: the next nearer one is two before.
      const nearer = Math.max(symbol - 2, 0);
      const less = bits(SCALES + table, symbol) - bits(SCALES + table, nearer);
      saved[table * ALPHABET + symbol] = Math.max(0, less * CENTERED_STEPS * ERROR_PER_BIT);
    }
  }
  return {
    // The first step away from zero also costs a sign.
    first: Float32Array.from(scales, (s) => zone(s, FIRST_STEP * (bits(s, 1) + 1 - bits(s, 0)))),
    later: Float32Array.from(scales, (s) => zone(s, LATER_STEPS * (bits(s, 2) - bits(s, 1)))),
    saved,
  };
}

/** Latents (channels, area) in steps of a level, clipped to what a file can hold. */
export function quantized(latents: Float32Array, steps: Float32Array, area: number): Float32Array {
  return latents.map((value, i) => {
    const inSteps = fround(value / steps[Math.floor(i / area)]!);
    return Math.min(SYMBOL_LIMIT, Math.max(-SYMBOL_LIMIT, inSteps));
  });
}

/** Whole symbols for a stage, of latents in steps (channels, area). */
export function rounded(values: Float32Array, worth: Rounding, stage: Stage): Int32Array {
  const { places, tables, centers, flipped } = stage;
  const symbols = new Int32Array(places.length);
  for (let j = 0; j < places.length; j++) {
    const value = values[places[j]!]!;
    symbols[j] =
      centers && flipped
        ? towardsCenter(value, centers[j]!, flipped[j] === 1, tables[j]!, worth)
        : towardsZero(value, tables[j]!, worth);
  }
  return symbols;
}

function towardsZero(value: number, table: number, { first, later }: Rounding): number {
  const magnitude = Math.abs(value);
  if (magnitude < fround(0.5 + first[table]!)) return 0;
  const whole = Math.floor(fround(fround(magnitude + 0.5) - later[table]!));
  return value < 0 ? -whole : whole;
}

function towardsCenter(
  value: number,
  center: number,
  flipped: boolean,
  table: number,
  { saved }: Rounding,
): number {
  const near = roundHalfEven(value);
  const offset = near - center;
  const inward = fround(offset > 0 ? near - value : value - near);
  if (offset === 0 || inward <= 0) return near;
  const turned = flipped ? -offset : offset;
  const symbol = Math.min(turned > 0 ? 2 * turned - 1 : -2 * turned, ESCAPE);
  // (1 - x) ** 2 - x ** 2 = 1 - 2 x for a value that lies x inwards.
  const pays = fround(1 - 2 * inward) < saved[(table - SCALES) * ALPHABET + symbol]!;
  return pays ? near - Math.sign(offset) : near;
}

/** The nearest whole number, halves to even. */
export function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest === 0.5) return below % 2 ? below + 1 : below;
  return rest < 0.5 ? below : below + 1;
}
