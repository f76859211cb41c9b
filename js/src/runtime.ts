import type { Runtime } from "./session.js";

/** The runtime where none is passed: WebAssembly. */
export async function defaultRuntime(): Promise<Runtime> {
  const web = await import("onnxruntime-web/wasm");
  // More threads gain little on graphs this small, and need a page that is isolated.
  web.env.wasm.numThreads ||= 1;
  return web;
}
