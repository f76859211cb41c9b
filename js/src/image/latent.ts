/** What a codec's bundle says of its latent. */

import type { Bundle } from "../bundle.js";
import { section, whole } from "../bundle.js";
import type { SliceSpec } from "../coding/context.js";
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
