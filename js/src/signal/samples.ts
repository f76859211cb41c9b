/** Samples in the type that a file names. */

import { roundHalfEven } from "../coding/rounding.js";
import type { Dtype } from "./header.js";

const ARRAYS = {
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  float32: Float32Array,
  float64: Float64Array,
} as const satisfies Record<Dtype, unknown>;

/** Samples of one lead. */
export type Samples = InstanceType<(typeof ARRAYS)[Dtype]>;

const FLOAT32_MAX = (2 - 2 ** -23) * 2 ** 127;

/** The nearest samples of a type. */
export function samplesOf(values: Float32Array | Float64Array, dtype: Dtype): Samples {
  const found = new ARRAYS[dtype](values.length);
  const [least, most] = rangeOf(dtype);
  const round = dtype.startsWith("float") ? (value: number) => value : roundHalfEven;
  for (let i = 0; i < values.length; i++) {
    found[i] = round(Math.min(most, Math.max(least, values[i]!)));
  }
  return found;
}

function rangeOf(dtype: Dtype): [least: number, most: number] {
  if (dtype === "float32") return [-FLOAT32_MAX, FLOAT32_MAX];
  if (dtype === "float64") return [-Number.MAX_VALUE, Number.MAX_VALUE];
  const bits = Number(/\d+/.exec(dtype));
  return dtype.startsWith("u") ? [0, 2 ** bits - 1] : [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1];
}
