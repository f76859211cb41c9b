/** Signals of sensors: reads the files and packets of a SignalCodec. */

import type { Bundle, Source } from "./bundle.js";
import { asBytes } from "./bytes.js";
import { EdgeaeError } from "./errors.js";
import type { LoadOptions } from "./load.js";
import { openBundle } from "./load.js";
import type { RemoteOptions } from "./remote.js";
import { RemoteModel } from "./remote.js";
import type { ReceivedLeads, Signal, SignalOptions } from "./signal/codec.js";
import { SignalCodec } from "./signal/codec.js";

export { EdgeaeError };
export type { ErrorKind } from "./errors.js";
export type { Bundle, LoadOptions, RemoteOptions, Source };
export { SignalCodec, signalInfo } from "./signal/codec.js";
export type { ReceivedLeads, Signal, SignalInfo, SignalOptions } from "./signal/codec.js";
export type { Dtype, SignalLimits } from "./signal/header.js";
export type { Samples } from "./signal/samples.js";

/** The codec of signals in a bundle's folder. */
export async function loadSignalCodec(
  source: Source,
  options: LoadOptions = {},
): Promise<SignalCodec> {
  const { bundle, runtime, precision } = await openBundle(source, options);
  return await SignalCodec.open(bundle, runtime, precision);
}

/** A codec of signals in a worker: the methods of a SignalCodec. */
export class RemoteSignalCodec {
  private constructor(private readonly model: RemoteModel) {}

  static async open(source: string | URL, options: RemoteOptions = {}): Promise<RemoteSignalCodec> {
    return new RemoteSignalCodec(await RemoteModel.open(source, options));
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
    options: SignalOptions = {},
  ): Promise<Signal> {
    return await this.model.call({ verb: "decompressSignal", bytes: asBytes(bytes), options });
  }

  async receive(
    packets: Iterable<Uint8Array | ArrayBuffer>,
    options: SignalOptions = {},
  ): Promise<ReceivedLeads> {
    const held = Array.from(packets, (packet) => asBytes(packet, "a packet"));
    return await this.model.call({ verb: "receiveSignal", packets: held, options });
  }

  /** Ends the worker. Calls that still wait are rejected. */
  close(): void {
    this.model.close();
  }
}
