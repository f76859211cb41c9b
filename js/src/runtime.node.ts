import type { Runtime } from "./session.js";

/** The runtime where none is passed: native code. */
export async function defaultRuntime(): Promise<Runtime> {
  return await import("onnxruntime-node");
}
