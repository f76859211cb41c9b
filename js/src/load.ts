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

/** A bundle, and what opens the model in it. */
export interface OpenBundle {
  readonly bundle: Bundle;
  readonly runtime: Runtime;
  readonly precision: string | undefined;
}

/** @internal The bundle in a folder, if it has the precision that was asked for. */
export async function openBundle(source: Source, options: LoadOptions): Promise<OpenBundle> {
  const bundle = await Bundle.open(source, options);
  const { precision } = options;
  if (precision !== undefined && !bundle.precisions.includes(precision)) {
    const there = bundle.precisions.join(", ");
    const { name } = bundle.manifest;
    throw new EdgeaeError("bundle", `${name} has no precision ${precision}, it has ${there}`);
  }
  return { bundle, runtime: options.runtime ?? (await defaultRuntime()), precision };
}

/** The model in a bundle's folder: an ImageCodec or a SignalDenoiser, as its task says. */
export async function load(
  source: Source,
  options: LoadOptions = {},
): Promise<ImageCodec | SignalDenoiser> {
  return await modelOf(await openBundle(source, options));
}

/** @internal */
export async function modelOf(opened: OpenBundle): Promise<ImageCodec | SignalDenoiser> {
  const { bundle, runtime, precision } = opened;
  const { name, task, layout } = bundle.manifest;
  if (isSignalCodec(bundle)) {
    throw new EdgeaeError("bundle", `${name} is a codec of signals: load it by edgeae/signals`);
  }
  if (task === "codec") return await ImageCodec.open(bundle, runtime, precision);
  if (task === "denoiser" && layout["kind"] !== "image") {
    return await SignalDenoiser.open(bundle, runtime, precision);
  }
  throw new EdgeaeError("bundle", `${name} is a ${task}, which this version cannot run`);
}

/** @internal */
export function isSignalCodec({ manifest: { task, layout } }: Bundle): boolean {
  return task === "codec" && layout["kind"] === "signal";
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
