/** One door to every model: the manifest's task says which class runs it. */

import { defaultRuntime } from "#runtime";

import { SignalDenoiser } from "./audio/denoiser.js";
import type { BundleOptions, Source } from "./bundle.js";
import { Bundle } from "./bundle.js";
import { EdgeaeError } from "./errors.js";
import { ImageCodec } from "./image/codec.js";
import type { Runtime } from "./session.js";

export interface LoadOptions extends BundleOptions {
  /** The imported onnxruntime-web or onnxruntime-node; by default that of the platform. */
  readonly runtime?: Runtime | undefined;
  /** "fp32" or "int8" of encoder and decoder; int8 where there is one by default. */
  readonly precision?: string | undefined;
}

/** The model in a bundle's folder: an ImageCodec or a SignalDenoiser, as its task says. */
export async function load(
  source: Source,
  options: LoadOptions = {},
): Promise<ImageCodec | SignalDenoiser> {
  const bundle = await Bundle.open(source, options);
  const { precision } = options;
  const { name, task } = bundle.manifest;
  if (precision !== undefined && !bundle.precisions.includes(precision)) {
    const there = bundle.precisions.join(", ");
    throw new EdgeaeError("bundle", `${name} has no precision ${precision}, it has ${there}`);
  }
  const runtime = options.runtime ?? (await defaultRuntime());
  if (task === "codec") return await ImageCodec.open(bundle, runtime, precision);
  if (task === "denoiser") return await SignalDenoiser.open(bundle, runtime, precision);
  throw new EdgeaeError("bundle", `${name} is a ${task}, which this version cannot run`);
}

/** The codec of pictures in a bundle's folder. */
export async function loadCodec(source: Source, options: LoadOptions = {}): Promise<ImageCodec> {
  const model = await load(source, options);
  if (model instanceof ImageCodec) return model;
  throw new EdgeaeError("bundle", `${model.bundle.manifest.name} is no codec of pictures`);
}

/** The denoiser in a bundle's folder. */
export async function loadDenoiser(
  source: Source,
  options: LoadOptions = {},
): Promise<SignalDenoiser> {
  const model = await load(source, options);
  if (model instanceof SignalDenoiser) return model;
  throw new EdgeaeError("bundle", `${model.bundle.manifest.name} is no denoiser`);
}
