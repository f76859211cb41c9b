/** What a page and its worker say to each other. */

import type { DenoiseOptions } from "./audio/denoiser.js";
import type { Progress } from "./bundle.js";
import type { ErrorKind } from "./errors.js";
import { EdgeaeError } from "./errors.js";
import type { CompressOptions, PacketOptions } from "./image/codec.js";
import type { Picture } from "./image/picture.js";
import type { DecompressOptions } from "./image/window.js";
import type { SignalOptions } from "./signal/codec.js";

/** How a live stream gets its sound, and gives it back. */
export interface LiveOptions {
  readonly sampleRate: number;
  readonly channels: number;
  readonly blockSamples: number;
  readonly capacity: number;
  /** Memory of the two rings, or a port to the worklet. */
  readonly shared?: { readonly input: SharedArrayBuffer; readonly output: SharedArrayBuffer };
  readonly port?: MessagePort;
}

export type Call =
  | {
      readonly verb: "open";
      readonly source: string;
      readonly precision: string | undefined;
      readonly cache: boolean | undefined;
      readonly wasm: string | undefined;
    }
  | { readonly verb: "decompress" | "conceal"; readonly bytes: Uint8Array; readonly options: DecompressOptions }
  | { readonly verb: "compress"; readonly image: Picture; readonly options: CompressOptions }
  | { readonly verb: "packets"; readonly image: Picture; readonly options: PacketOptions }
  | { readonly verb: "receive"; readonly packets: readonly Uint8Array[] }
  | { readonly verb: "decompressSignal"; readonly bytes: Uint8Array; readonly options: SignalOptions }
  | {
      readonly verb: "receiveSignal";
      readonly packets: readonly Uint8Array[];
      readonly options: SignalOptions;
    }
  | { readonly verb: "denoise"; readonly noisy: readonly Float32Array[]; readonly options: DenoiseOptions }
  | { readonly verb: "live"; readonly options: LiveOptions };

export interface Request {
  readonly id: number;
  readonly call: Call;
}

/** How a live stream does; times in milliseconds. */
export interface LiveReport {
  readonly hops: number;
  readonly busyMs: number;
  readonly worstMs: number;
}

export interface SentError {
  readonly name: string;
  readonly message: string;
  readonly kind?: ErrorKind;
  readonly codecId?: string;
}

export type Reply =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: SentError }
  | { readonly id: number; readonly part: number }
  | { readonly progress: Progress }
  | { readonly live: LiveReport }
  | { readonly failed: SentError };

/** An error as structured clone keeps it. */
export function sent(error: unknown): SentError {
  if (error instanceof EdgeaeError) {
    const { name, message, kind, codecId } = error;
    return { name, message, kind, codecId };
  }
  const { name, message } = error instanceof Error ? error : { name: "", message: String(error) };
  return { name, message };
}

/** The error that was sent. */
export function received({ name, message, kind, codecId }: SentError): Error {
  if (kind) return new EdgeaeError(kind, message, codecId);
  if (name === "RangeError") return new RangeError(message);
  return name === "TypeError" ? new TypeError(message) : new Error(message);
}
