/** Quality as callers say it, and the levels that files hold. */

import { roundHalfEven } from "./rounding.js";
import { LEVELS } from "./tables.js";

const LEVELS_PER_QUALITY = 8;

/** The quantization level of a quality. */
export function levelOf(quality: number): number {
  if (typeof quality !== "number" || !(quality >= 1 && quality <= 9)) {
    throw new RangeError(`quality is ${String(quality)}, expected 1 (smallest) to 9`);
  }
  return roundHalfEven((quality - 1) * LEVELS_PER_QUALITY);
}

export function qualityOf(level: number): number {
  return 1 + level / LEVELS_PER_QUALITY;
}

export async function finestThatFits(
  write: (level: number) => Promise<Uint8Array>,
  maxBytes: number,
): Promise<Uint8Array> {
  if (!(maxBytes >= 1)) throw new RangeError(`maxBytes is ${maxBytes}, expected at least 1`);
  let best = await write(0);
  if (best.length > maxBytes) {
    throw new RangeError(`the picture needs at least ${best.length} bytes, maxBytes is ${maxBytes}`);
  }
  for (let low = 0, high = LEVELS; high - low > 1; ) {
    const middle = (low + high) >> 1;
    const bytes = await write(middle);
    if (bytes.length <= maxBytes) [low, best] = [middle, bytes];
    else high = middle;
  }
  return best;
}
