/** What a codec's bundle says of its latent, and how latents become symbols. */

import type { Bundle } from "../bundle.js";
import { section, whole } from "../bundle.js";
import type { SliceSpec, Stage } from "../coding/context.js";
import { SYMBOL_LIMIT } from "../coding/context.js";
import type { Tables } from "../coding/tables.js";
import { ALPHABET, PRECISION_BITS, SCALES } from "../coding/tables.js";
import { EdgeaeError } from "../errors.js";

/** The manifest's latent section. */
export interface LatentSpec {
  readonly stride: number;
  readonly slices: readonly SliceSpec[];
  readonly channels: number;
  readonly encoderHalo: number;
  readonly decoderHalo: number;
  /** The side of a tile, in latents. */
  readonly tile: number;
}

export function latentSpec({ manifest: { latent, name } }: Bundle): LatentSpec {
  const parts = latent["slices"];
  if (!Array.isArray(parts) || !parts.length) throw unsound(name, "no slices");
  const slices = parts.map((part) => {
    const { channels, centered, phases } = section(part, "in slices");
    if (typeof centered !== "boolean") throw unsound(name, "a slice that is not said to be centered");
    return {
      channels: whole(channels, "channels", 1, 4096),
      centered,
      phases: whole(phases, "phases", 1, 2),
    };
  });
  const channels = slices.reduce((sum, part) => sum + part.channels, 0);
  const tile = whole(latent["tile"], "tile", 1, 1024);
  if (channels > 4096 || slices[0]?.phases !== 2) throw unsound(name, "slices out of bounds");
  return {
    stride: whole(latent["stride"], "stride", 1, 64),
    slices,
    channels,
    encoderHalo: whole(latent["encoder_halo"], "encoder_halo", 0, tile),
    decoderHalo: whole(latent["decoder_halo"], "decoder_halo", 0, tile),
    tile,
  };
}

function unsound(name: string, what: string): EdgeaeError {
  return new EdgeaeError("bundle", `the manifest of ${name} has ${what}`);
}

// At a high rate the distortion of a uniform quantizer is step ** 2 / 12 and falls by 2 ln 2 of
// itself a bit. The factors 1 and 0.5 are those of the Python writer, found on held-out pictures.
const ERROR_PER_BIT = (2 * Math.LN2) / 12;
const FIRST_STEP = 1;
const LATER_STEPS = 0.5;

/** How much further than halfway a magnitude must lie to be rounded up, by index of its scale. */
export interface DeadZones {
  /** From 0 to 1. */
  readonly first: Float32Array;
  /** From 1 on. */
  readonly later: Float32Array;
}

export function deadZones({ frequencies, shifts }: Tables): DeadZones {
  const zone = (scale: number, symbol: number, weight: number, sign: number): number => {
    // Where a symbol stands for a bucket of values there is nothing to weigh.
    if (shifts[scale]) return 0;
    const bits = (of: number) => PRECISION_BITS - Math.log2(frequencies[scale * ALPHABET + of]!);
    const extra = bits(symbol + 1) + sign - bits(symbol);
    return Math.max(0, weight * extra * (ERROR_PER_BIT / 2));
  };
  const scales = Array.from({ length: SCALES }, (_, scale) => scale);
  return {
    first: Float32Array.from(scales, (scale) => zone(scale, 0, FIRST_STEP, 1)),
    later: Float32Array.from(scales, (scale) => zone(scale, 1, LATER_STEPS, 0)),
  };
}

/** Latents (channels, area) in steps of a level, clipped to what a file can hold. */
export function quantized(latents: Float32Array, steps: Float32Array, area: number): Float32Array {
  return latents.map((value, i) => {
    const steps_ = Math.fround(value / (steps[Math.floor(i / area)] as number));
    return Math.min(SYMBOL_LIMIT, Math.max(-SYMBOL_LIMIT, steps_));
  });
}

/** Whole symbols for a stage: the nearest, unless a smaller one saves more bits than it costs. */
export function rounded(values: Float32Array, zones: DeadZones, stage: Stage): Int32Array {
  const { places, tables, centers } = stage;
  const symbols = new Int32Array(places.length);
  for (let j = 0; j < places.length; j++) {
    const value = values[places[j] as number] as number;
    if (centers) {
      symbols[j] = roundHalfEven(value);
      continue;
    }
    const table = tables[j] as number;
    const magnitude = Math.abs(value);
    const up = Math.fround(Math.fround(magnitude + 0.5) - (zones.later[table] as number));
    const zero = magnitude < Math.fround(0.5 + (zones.first[table] as number));
    const whole = zero ? 0 : Math.floor(Math.fround(up));
    symbols[j] = value < 0 ? -whole : whole;
  }
  return symbols;
}

function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest === 0.5) return below % 2 ? below + 1 : below;
  return rest < 0.5 ? below : below + 1;
}
