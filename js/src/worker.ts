/** A Web Worker that holds one model; `remote.ts` is the page's side. */

import { defaultRuntime } from "#runtime";

import { SignalDenoiser } from "./audio/denoiser.js";
import { runLive } from "./audio/live.js";
import { EdgeaeError } from "./errors.js";
import { ImageCodec } from "./image/codec.js";
import { isSignalCodec, modelOf, openBundle } from "./load.js";
import type { Call, Reply, Request } from "./messages.js";
import { sent } from "./messages.js";
import { SignalCodec } from "./signal/codec.js";

/** The part of a worker's scope that is used; the DOM's types are those of a window. */
const scope = globalThis as unknown as {
  onmessage: ((event: MessageEvent<Request>) => void) | null;
  postMessage(message: Reply, transfer?: Transferable[]): void;
};

let model: ImageCodec | SignalCodec | SignalDenoiser | undefined;

scope.onmessage = ({ data: { id, call } }) => {
  perform(call, id).then(
    (result) => scope.postMessage({ id, result }, buffersOf(result)),
    (error: unknown) => scope.postMessage({ id, error: sent(error) }),
  );
};

async function perform(call: Call, id: number): Promise<unknown> {
  switch (call.verb) {
    case "open":
      return await open(call);
    case "decompress":
      return await codec().decompress(call.bytes, call.options);
    case "conceal":
      return await codec().conceal(call.bytes, call.options);
    case "compress":
      return await codec().compress(call.image, call.options);
    case "packets":
      return await codec().packets(call.image, call.options);
    case "receive":
      return await codec().receive(call.packets);
    case "decompressSignal":
      return await signals().decompress(call.bytes, call.options);
    case "receiveSignal":
      return await signals().receive(call.packets, call.options);
    case "denoise": {
      const onProgress = (part: number) => scope.postMessage({ id, part });
      return await denoiser().denoise(call.noisy, { ...call.options, onProgress });
    }
    case "live":
      return await runLive(denoiser(), call.options, {
        report: (live) => scope.postMessage({ live }),
        fail: (error) => scope.postMessage({ failed: sent(error) }),
      });
  }
}

async function open(call: Extract<Call, { verb: "open" }>): Promise<{ name: string; id: string }> {
  const { source, precision, cache, wasm } = call;
  const runtime = await defaultRuntime();
  if (wasm !== undefined) {
    const { env } = runtime as unknown as { env: { wasm: { wasmPaths: { wasm: string } } } };
    env.wasm.wasmPaths = { wasm };
  }
  const opened = await openBundle(source, {
    runtime,
    precision,
    cache,
    onProgress: (progress) => scope.postMessage({ progress }),
  });
  model = isSignalCodec(opened.bundle)
    ? await SignalCodec.open(opened.bundle, runtime, precision)
    : await modelOf(opened);
  return { name: model.bundle.manifest.name, id: model.bundle.id };
}

function codec(): ImageCodec {
  if (model instanceof ImageCodec) return model;
  throw new EdgeaeError("bundle", "the model is no codec of pictures");
}

function signals(): SignalCodec {
  if (model instanceof SignalCodec) return model;
  throw new EdgeaeError("bundle", "the model is no codec of signals");
}

function denoiser(): SignalDenoiser {
  if (model instanceof SignalDenoiser) return model;
  throw new EdgeaeError("bundle", "the model is no denoiser");
}

/** The memory of a result, which moves to the page instead of being copied. */
function buffersOf(result: unknown): Transferable[] {
  if (ArrayBuffer.isView(result)) return [result.buffer as ArrayBuffer];
  if (Array.isArray(result)) return result.flatMap(buffersOf);
  if (result && typeof result === "object") {
    const { image, mask, signal, leads } = result as Record<string, unknown>;
    return [image, mask, signal, leads].flatMap(buffersOf);
  }
  // An ImageData is copied with its pixels.
  return [];
}
