/** Models in a Web Worker, so that a page goes on moving while they work. */

import type { DenoiseOptions } from "./audio/denoiser.js";
import type { Progress } from "./bundle.js";
import { asBytes } from "./bytes.js";
import { EdgeaeError } from "./errors.js";
import type { CompressOptions, Concealed, PacketOptions } from "./image/codec.js";
import type { Picture } from "./image/picture.js";
import { checkedPicture } from "./image/picture.js";
import type { DecompressOptions } from "./image/window.js";
import type { Call, LiveReport, Reply, Request } from "./messages.js";
import { received } from "./messages.js";

export interface RemoteOptions {
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  readonly precision?: string | undefined;
  /** Keep the model's files in the browser's Cache; true by default. */
  readonly cache?: boolean | undefined;
  /** Where worker.js is, if not beside this module. */
  readonly worker?: string | URL | undefined;
  /** Where ort-wasm-simd-threaded.wasm is, if not beside worker.js. */
  readonly wasm?: string | URL | undefined;
}

interface Waiting {
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
  readonly onPart?: ((part: number) => void) | undefined;
}

/** @internal A worker with one model in it, and the calls that wait for its answers. */
export class RemoteModel {
  name = "";
  id = "";
  onLive: ((report: LiveReport) => void) | undefined;
  onFailed: ((error: Error) => void) | undefined;
  private readonly waiting = new Map<number, Waiting>();
  private next = 0;
  private ended: Error | undefined;

  private constructor(
    private readonly worker: Worker,
    private readonly onProgress: ((progress: Progress) => void) | undefined,
  ) {
    worker.onmessage = ({ data }: MessageEvent<Reply>) => this.hear(data);
    worker.onerror = ({ message }) => {
      this.end(new EdgeaeError("runtime", `the worker failed: ${message || "cannot load it"}`));
    };
  }

  static async open(source: string | URL, options: RemoteOptions): Promise<RemoteModel> {
    const { precision, cache } = options;
    const model = new RemoteModel(newWorker(options.worker), options.onProgress);
    try {
      const opened = await model.call<{ name: string; id: string }>({
        verb: "open",
        source: new URL(source, document.baseURI).href,
        precision,
        cache,
        wasm: options.wasm && new URL(options.wasm, document.baseURI).href,
      });
      Object.assign(model, opened);
      return model;
    } catch (error) {
      model.close();
      throw error;
    }
  }

  call<T>(call: Call, transfer: Transferable[] = [], onPart?: (part: number) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.ended) {
        reject(this.ended);
        return;
      }
      const id = this.next++;
      this.worker.postMessage({ id, call } satisfies Request, transfer);
      this.waiting.set(id, { resolve, reject, onPart });
    });
  }

  close(): void {
    this.end(new EdgeaeError("runtime", "the model was closed"));
  }

  private end(error: Error): void {
    this.ended ??= error;
    this.worker.terminate();
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
    this.onFailed?.(error);
  }

  private hear(reply: Reply): void {
    if ("progress" in reply) this.onProgress?.(reply.progress);
    else if ("live" in reply) this.onLive?.(reply.live);
    else if ("failed" in reply) this.onFailed?.(received(reply.failed));
    else if ("part" in reply) this.waiting.get(reply.id)?.onPart?.(reply.part);
    else {
      const waiting = this.waiting.get(reply.id);
      this.waiting.delete(reply.id);
      if ("error" in reply) waiting?.reject(received(reply.error));
      else waiting?.resolve(reply.result as never);
    }
  }
}

function newWorker(url: string | URL | undefined): Worker {
  // Bundlers know this form and no other: with a URL in a variable they would not find the file.
  return url === undefined
    ? new Worker(new URL("./worker.js", import.meta.url), { type: "module" })
    : new Worker(url, { type: "module" });
}

/** A codec of pictures in a worker: the methods of an ImageCodec. */
export class RemoteCodec {
  private constructor(private readonly model: RemoteModel) {}

  static async open(source: string | URL, options: RemoteOptions = {}): Promise<RemoteCodec> {
    return new RemoteCodec(await RemoteModel.open(source, options));
  }

  get name(): string {
    return this.model.name;
  }

  /** The sha256 of the bundle's manifest. */
  get bundleId(): string {
    return this.model.id;
  }

  async decompress(
    bytes: Uint8Array | ArrayBuffer,
    options: DecompressOptions = {},
  ): Promise<Picture> {
    return await this.model.call({ verb: "decompress", bytes: asBytes(bytes), options });
  }

  async conceal(
    bytes: Uint8Array | ArrayBuffer,
    options: DecompressOptions = {},
  ): Promise<Concealed> {
    return await this.model.call({ verb: "conceal", bytes: asBytes(bytes), options });
  }

  async compress(image: Picture, options: CompressOptions = {}): Promise<Uint8Array> {
    return await this.model.call({ verb: "compress", image: checkedPicture(image), options });
  }

  async packets(image: Picture, options: PacketOptions): Promise<Uint8Array[]> {
    return await this.model.call({ verb: "packets", image: checkedPicture(image), options });
  }

  async receive(packets: Iterable<Uint8Array | ArrayBuffer>): Promise<Concealed> {
    const held = Array.from(packets, (packet) => asBytes(packet, "a packet"));
    return await this.model.call({ verb: "receive", packets: held });
  }

  /** Ends the worker. Calls that still wait are rejected. */
  close(): void {
    this.model.close();
  }
}

/** A denoiser in a worker, for whole recordings; SpeechDenoiserNode is for live sound. */
export class RemoteDenoiser {
  private constructor(private readonly model: RemoteModel) {}

  static async open(source: string | URL, options: RemoteOptions = {}): Promise<RemoteDenoiser> {
    return new RemoteDenoiser(await RemoteModel.open(source, options));
  }

  /** The clean audio of a recording, a Float32Array in [-1, 1] for each channel, aligned with it. */
  async denoise(
    noisy: readonly Float32Array[],
    options: DenoiseOptions & { readonly onProgress?: ((part: number) => void) | undefined },
  ): Promise<Float32Array[]> {
    const { onProgress, ...rest } = options;
    return await this.model.call({ verb: "denoise", noisy, options: rest }, [], onProgress);
  }

  /** Ends the worker. Calls that still wait are rejected. */
  close(): void {
    this.model.close();
  }
}
