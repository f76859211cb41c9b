/** The streaming denoiser: noisy audio in, clean audio out, at any rate, in blocks of any length. */

import type { Bundle } from "../bundle.js";
import { section, whole } from "../bundle.js";
import { EdgeaeError } from "../errors.js";
import type { Runtime } from "../session.js";
import { Graph } from "../session.js";
import { HopSchedule } from "./hop_schedule.js";
import type { StreamSpec } from "./step.js";
import { checkedBlock, Stream } from "./stream.js";

const MIN_RATE_HZ = 8_000;
const MAX_RATE_HZ = 96_000;
const MAX_CHANNELS = 64;
/** `denoise` works through a long recording in pieces. */
const PIECE_SAMPLES = 1 << 16;

export interface DenoiseOptions {
  /** 8,000 to 96,000 Hz. */
  readonly sampleRate: number;
  /** Keeps some of the noise: clean + 10 ** (-limit / 20) * (noisy - clean). */
  readonly attenuationLimitDb?: number | undefined;
  /**
   * Takes the same away from all channels, so that every sound stays where it is between them; false
   * cleans each by itself.
   */
  readonly linkChannels?: boolean | undefined;
}

export interface StreamOptions extends DenoiseOptions {
  readonly channels?: number | undefined;
  /**
   * A live callback that must return as many samples as it gets says how many: every `process` of
   * such a block then returns a block, at the smallest delay that allows it.
   */
  readonly blockSamples?: number | undefined;
}

/** A speech denoiser: one model that any number of streams may share. */
export class SignalDenoiser {
  private constructor(
    readonly bundle: Bundle,
    private readonly step: Graph,
    private readonly spec: StreamSpec,
  ) {}

  static async open(bundle: Bundle, runtime: Runtime, precision?: string): Promise<SignalDenoiser> {
    const spec = streamSpec(bundle);
    const entry = bundle.graphEntry("step", precision);
    const step = await Graph.open(runtime, await bundle.read(entry), entry.file);
    return new SignalDenoiser(bundle, step, spec);
  }

  /** A new stream with its own state. */
  stream(options: StreamOptions): Stream {
    const { sampleRate, channels = 1, attenuationLimitDb, blockSamples, linkChannels = true } = options;
    argument("sampleRate", sampleRate, MIN_RATE_HZ, MAX_RATE_HZ);
    argument("channels", channels, 1, MAX_CHANNELS);
    if (blockSamples !== undefined) argument("blockSamples", blockSamples, 1, MAX_RATE_HZ);
    const { rateHz, hopSamples, lookaheadHops } = this.spec;
    const schedule = new HopSchedule(sampleRate, rateHz, hopSamples, lookaheadHops);
    const keep = keptPart(attenuationLimitDb);
    return new Stream(
      this.step, this.spec, schedule, sampleRate, channels, linkChannels, keep, blockSamples,
    ); // prettier-ignore
  }

  /** The clean audio of a recording, a Float32Array in [-1, 1] for each channel, aligned with it. */
  async denoise(
    noisy: readonly Float32Array[],
    options: DenoiseOptions & { readonly onProgress?: ((part: number) => void) | undefined },
  ): Promise<Float32Array[]> {
    const frames = checkedBlock(noisy, noisy.length);
    const stream = this.stream({ ...options, channels: noisy.length });
    const clean = noisy.map(() => new Float32Array(frames));
    let end = -stream.delay;
    const put = (piece: readonly Float32Array[]): void => {
      for (const [c, samples] of piece.entries()) {
        clean[c]!.set(samples.subarray(Math.max(0, -end)), Math.max(0, end));
      }
      end += piece[0]!.length;
    };
    for (let start = 0; start < frames; start += PIECE_SAMPLES) {
      put(await stream.process(noisy.map((part) => part.subarray(start, start + PIECE_SAMPLES))));
      options.onProgress?.(Math.min(1, (start + PIECE_SAMPLES) / frames));
    }
    put(await stream.flush());
    return clean;
  }

  /** How many samples at such a rate one step of the model stands for; not always a whole number. */
  hopSamples(sampleRate: number): number {
    return (this.spec.hopSamples * sampleRate) / this.spec.rateHz;
  }

  /** Frees the runtime's memory. The denoiser and its streams cannot be used after that. */
  async close(): Promise<void> {
    await this.step.close();
  }
}

/** The part of the noise that stays in the output, 0 to 1. */
export function keptPart(attenuationLimitDb: number | undefined): number {
  if (attenuationLimitDb === undefined) return 0;
  if (!(attenuationLimitDb >= 0 && attenuationLimitDb < Infinity)) {
    throw new RangeError(`attenuationLimitDb is ${attenuationLimitDb}, expected 0 or more`);
  }
  return 10 ** (-attenuationLimitDb / 20);
}

function argument(name: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`${name} is ${value}, expected a whole number from ${least} to ${most}`);
  }
}

function streamSpec({ manifest: { task, name, layout, stream } }: Bundle): StreamSpec {
  if (task !== "denoiser" || layout["kind"] !== "audio" || layout["channels"] !== 1) {
    throw new EdgeaeError("bundle", `${name} is no denoiser of audio with one channel`);
  }
  const hopSamples = whole(stream["hop_samples"], "hop_samples", 2, 1 << 19);
  const windowSamples = whole(stream["window_samples"], "window_samples", 4, 1 << 20);
  if (stream["window"] !== "sqrt_hann" || windowSamples !== 2 * hopSamples) {
    throw new EdgeaeError("bundle", `${name} has windows that are not known here`);
  }
  const shapes = Object.entries(section(stream["state"] ?? {}, "state")).map(([key, shape]) => {
    if (!Array.isArray(shape)) throw new EdgeaeError("bundle", `${name} has no shape of ${key}`);
    return shape.map((axis) => whole(axis, `an axis of ${key}`, 1, 1 << 20));
  });
  return {
    rateHz: whole(layout["sample_rate_hz"], "sample_rate_hz", MIN_RATE_HZ, 1 << 20),
    windowSamples,
    hopSamples,
    lookaheadHops: whole(stream["lookahead_hops"] ?? 0, "lookahead_hops", 0, 1 << 20),
    stateShapes: shapes,
  };
}
