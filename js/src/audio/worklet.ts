/**
 * The audio thread's side of a SpeechDenoiserNode: hands sound to a worker and plays what comes
 * back, always the same number of samples later.
 */

import { Ring } from "./ring.js";

/** What the node tells its processor. */
export interface WorkletOptions {
  readonly channels: number;
  /** Of the whole way, in samples. */
  readonly latency: number;
  /** How much of it is left to the worker to answer in time. */
  readonly slack: number;
  readonly hopSamples: number;
  readonly keep: number;
  readonly capacity: number;
  readonly shared?: { readonly input: SharedArrayBuffer; readonly output: SharedArrayBuffer };
}

export type WorkletMessage =
  | { readonly port: MessagePort }
  | { readonly keep: number }
  | { readonly close: true };

/** How the audio thread does. */
export interface WorkletReport {
  readonly quanta: number;
  /** Render quanta that had nothing to play in time, and the hops that they belong to. */
  readonly missed: number;
  readonly dropped: number;
}

declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, processor: unknown): void;
declare const sampleRate: number;

const REPORT_S = 0.25;
// Between clean and dry, so that a switch does not click.
const RAMP_S = 0.02;

class SpeechDenoiserProcessor extends AudioWorkletProcessor {
  private readonly options: WorkletOptions;
  private readonly input: Ring;
  private readonly output: Ring;
  private toWorker: MessagePort | undefined;
  /** Where this quantum begins, in samples since the start. */
  private position = 0;
  private wet: Float32Array[] = [];
  private dry: Float32Array[] = [];
  private keep: number;
  private wantedKeep: number;
  private readonly step = 1 / (RAMP_S * sampleRate);
  private quanta = 0;
  private missed = 0;
  private dropped = 0;
  private lastDroppedHop = -1;
  private missing = true;
  private lastReport = 0;
  private closed = false;

  constructor({ processorOptions }: { processorOptions: WorkletOptions }) {
    super();
    const { channels, capacity, shared, keep } = processorOptions;
    const bytes = Ring.bytes(channels, capacity);
    this.options = processorOptions;
    this.input = new Ring(shared?.input ?? new ArrayBuffer(bytes), channels);
    this.output = new Ring(shared?.output ?? new ArrayBuffer(bytes), channels);
    this.keep = this.wantedKeep = keep;
    this.port.onmessage = ({ data }: MessageEvent<WorkletMessage>) => this.hear(data);
  }

  process([input]: Float32Array[][], [output]: Float32Array[][]): boolean {
    if (this.closed || !output?.[0]) return !this.closed;
    const count = output[0].length;
    this.send(input ?? [], count);
    const there = this.receive(count);
    for (const [c, out] of output.entries()) this.mix(out, this.wet[c]!, this.dry[c]!, there);
    const left = this.wantedKeep - this.keep;
    this.keep += Math.sign(left) * Math.min(Math.abs(left), this.step * count);
    this.position += count;
    this.quanta++;
    this.report(there, count);
    return true;
  }

  private hear(message: WorkletMessage): void {
    if ("close" in message) this.closed = true;
    else if ("keep" in message) this.wantedKeep = message.keep;
    else {
      this.toWorker = message.port;
      this.toWorker.onmessage = ({ data }: MessageEvent<Float32Array[]>) => {
        this.output.write(data, data[0]!.length);
      };
    }
  }

  private send(input: readonly Float32Array[], count: number): void {
    // A mono source in a stereo node is heard on both sides.
    const { channels } = this.options;
    const block = Array.from({ length: channels }, (_, c) => input[c] ?? input[0] ?? NOTHING);
    this.input.write(block, count);
    if (!this.toWorker) return;
    const copies = block.map((samples) => {
      const copy = new Float32Array(count);
      copy.set(samples);
      return copy;
    });
    this.toWorker.postMessage(
      copies,
      copies.map(({ buffer }) => buffer),
    );
  }

  /** Fills `wet` and `dry`; whether the worker has answered in time. */
  private receive(count: number): boolean {
    const { channels, slack, latency } = this.options;
    if (this.wet[0]?.length !== count) {
      this.wet = Array.from({ length: channels }, () => new Float32Array(count));
      this.dry = Array.from({ length: channels }, () => new Float32Array(count));
    }
    // Before the start there is silence: rings begin with zeros.
    this.input.read((this.position - latency) | 0, this.dry, count);
    const from = this.position - slack;
    // Nor is there anything to wait for before the model's own delay: an audio device that starts
    // asks for many quanta at once.
    if (from + count <= latency - slack) {
      for (const samples of this.wet) samples.fill(0);
      return true;
    }
    const there = this.output.since(from | 0) >= count;
    if (there) this.output.read(from | 0, this.wet, count);
    return there;
  }

  private mix(out: Float32Array, wet: Float32Array, dry: Float32Array, there: boolean): void {
    const up = Math.sign(this.wantedKeep - this.keep) * this.step;
    let keep = this.keep;
    // What does not come in time fades out from the last sample, and fades in when it is back.
    const last = there ? 0 : wet[wet.length - 1]!;
    for (let i = 0; i < out.length; i++) {
      const part = i / out.length;
      let clean = wet[i]!;
      if (!there) wet[i] = clean = this.missing ? 0 : last * (1 - part);
      else if (this.missing) clean *= part;
      out[i] = clean + keep * (dry[i]! - clean);
      if (Math.abs(this.wantedKeep - keep) > this.step) keep += up;
    }
    if (!there) wet[wet.length - 1] = 0;
  }

  private report(there: boolean, count: number): void {
    this.missing = !there;
    if (!there) {
      this.missed++;
      const hop = Math.floor((this.position - this.options.latency) / this.options.hopSamples);
      if (hop !== this.lastDroppedHop) this.dropped++;
      this.lastDroppedHop = hop;
    }
    this.lastReport += count;
    if (this.lastReport < REPORT_S * sampleRate) return;
    this.lastReport = 0;
    const { quanta, missed, dropped } = this;
    this.port.postMessage({ quanta, missed, dropped } satisfies WorkletReport);
  }
}

const NOTHING = new Float32Array(0);

registerProcessor("edgeae-speech-denoiser", SpeechDenoiserProcessor);
