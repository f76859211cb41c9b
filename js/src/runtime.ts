import type { Runtime } from "./session.js";

/** The runtime where none is passed: WebAssembly. */
export async function defaultRuntime(): Promise<Runtime> {
  return await import("onnxruntime-web/wasm");
}
