import { EdgeaeError } from "./errors.js";
import type { Runtime } from "./session.js";

/** The runtime of a page without a bundler: the `ort` that a script tag has made. */
export function defaultRuntime(): Promise<Runtime> {
  const { ort } = globalThis as { ort?: Runtime };
  if (ort) return Promise.resolve(ort);
  throw new EdgeaeError("runtime", "there is no `ort`: load onnxruntime-web first, or pass runtime");
}
