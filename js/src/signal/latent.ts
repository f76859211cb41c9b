/** What a signal codec's bundle says of its latent, and its tables. */

import type { Bundle } from "../bundle.js";
import { section, whole } from "../bundle.js";
import type { FineTables } from "../coding/range.js";
import { fineTables } from "../coding/range.js";
import { ALPHABET, FRACTIONS, LEVELS, SCALES } from "../coding/tables.js";
import { EdgeaeError } from "../errors.js";
import type { ExactTables } from "./exact.js";
import { BINS } from "./exact.js";
import { STRIDE } from "./header.js";
import type { MatchRule } from "./matches.js";

// A table for each scale and distance of the middle from the nearest whole number.
const TABLES = SCALES * FRACTIONS;
const TABLE_BYTES = TABLES * (2 * ALPHABET + 1);

/** The manifest's latent section. */
export interface LatentSpec {
  /** Samples that stand side by side in the graphs. */
  readonly phases: number;
  /** Channels of each slice, and of all. */
  readonly slices: readonly number[];
  readonly channels: number;
  /** Steps before a step that the first context graph looks at. */
  readonly reach: number;
  readonly decoderHalo: number;
  readonly rule: MatchRule;
}

export interface SignalTables {
  readonly symbols: FineTables;
  readonly exact: ExactTables;
  /** Quantization steps, flat: level * channels + channel. */
  readonly steps: Float32Array;
}

export function signalSpec({ manifest: { latent, name } }: Bundle): LatentSpec {
  const matches = section(latent["matches"], "latent.matches");
  const rule = {
    nearest: whole(matches["nearest"], "nearest", 1, 4095),
    furthest: whole(matches["furthest"], "furthest", 1, 4095),
    history: numbers(matches["history"], "history", 0, 16),
    refineChannels: whole(matches["refine_channels"], "refine_channels", 1, 64),
    refineWeight: whole(matches["refine_weight"], "refine_weight", 0, 16),
  };
  const slices = numbers(latent["slices"], "slices", 1, 64);
  const [channels, weights] = [slices, rule.history].map((of) => of.reduce((a, b) => a + b, 0));
  const phases = whole(latent["phases"], "phases", 1, 64);
  whole(latent["stride"], "stride", STRIDE, STRIDE);
  // Distances must stay below 2 ** 29: of clipped symbols they are at most 510 ** 2 a channel.
  const close = weights! <= 24 && rule.refineWeight * rule.refineChannels <= 128;
  if (channels! > 64 || phases & (phases - 1) || STRIDE % phases || !close) {
    throw new EdgeaeError("bundle", `the manifest of ${name} has a latent out of bounds`);
  }
  return {
    phases,
    slices,
    channels: channels!,
    reach: whole(latent["reach"], "reach", 1, 4096),
    decoderHalo: whole(latent["decoder_halo"], "decoder_halo", 0, 256),
    rule,
  };
}

/** What tables.bin holds. Throws an EdgeaeError if it makes no sense. */
export function signalTables(data: Uint8Array, channels: number): SignalTables {
  const stepsAt = 2 * TABLE_BYTES + BINS * BINS;
  const end = stepsAt + 4 * LEVELS * channels;
  if (data.length !== end) refuse(`has ${data.length} bytes, expected ${end}`);
  const [symbols, fine] = [0, TABLE_BYTES].map((at) => fineTables(data.subarray(at), TABLES));
  if (!symbols || !fine) refuse("has a table that is not positive or does not sum to 65536");
  const scales = data.slice(2 * TABLE_BYTES, stepsAt);
  if (scales.some((scale) => scale >= SCALES)) refuse(`has a scale beyond ${SCALES - 1}`);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const steps = Float32Array.from({ length: LEVELS * channels }, (_, i) =>
    view.getFloat32(stepsAt + 4 * i, true),
  );
  if (!steps.every((step) => step > 0 && step < Infinity)) {
    refuse("has a quantization step that is not a positive number");
  }
  return { symbols, exact: { fine, scales }, steps };
}

function numbers(value: unknown, where: string, least: number, most: number): number[] {
  if (!Array.isArray(value) || !value.length || value.length > 64) {
    throw new EdgeaeError("bundle", `the manifest has no list of 1 to 64 ${where}`);
  }
  return value.map((each) => whole(each, where, least, most));
}

function refuse(what: string): never {
  throw new EdgeaeError("bundle", `tables.bin ${what}`);
}
