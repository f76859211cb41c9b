/** One door to every model: the manifest's task says which class runs it. */

import type { BundleOptions, Source } from "./bundle.js";
import { Bundle } from "./bundle.js";
import { EdgeaeError } from "./errors.js";
import { ImageCodec } from "./image/codec.js";
import { defaultRuntime } from "#runtime";
import type { Runtime } from "./session.js";

export interface LoadOptions extends BundleOptions {
  /** The imported onnxruntime-web or onnxruntime-node; by default that of the platform. */
  readonly runtime?: Runtime | undefined;
  /** "fp32" or "int8" of encoder and decoder; int8 where there is one by default. */
  readonly precision?: string | undefined;
}

/** The model in a bundle's folder. */
export async function load(source: Source, options: LoadOptions = {}): Promise<ImageCodec> {
  const bundle = await Bundle.open(source, options);
  const { precision } = options;
  if (precision !== undefined && !bundle.precisions.includes(precision)) {
    const there = bundle.precisions.join(", ");
    throw new EdgeaeError("bundle", `there is no precision ${precision}, there are ${there}`);
  }
  const runtime = options.runtime ?? (await defaultRuntime());
  return await ImageCodec.open(bundle, runtime, precision);
}
