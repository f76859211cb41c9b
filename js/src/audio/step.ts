/** The step graph of a denoiser on the spectra of one stream, with the states of its channels. */

import { EdgeaeError } from "../errors.js";
import type { Graph } from "../session.js";

// A window with samples beyond this is overload, not sound: states that have heard it would leave
// speech of usual level for silence, so after it they are what they were before; unless it lasts,
// and is the level of this input.
const OVERLOAD_PEAK = 2;
const LONGEST_OVERLOAD_S = 5;
// How fast what is known of a scene fades in digital silence: a muted microphone may be in the same
// room afterwards, or in another.
const HALF_LIFE_S = 1;
// Below the least power of a bin that float32 can hold: what is divided by it is 0.
const LEAST_POWER = 1e-30;

/** What the manifest says about the step graph. */
export interface StreamSpec {
  readonly rateHz: number;
  readonly windowSamples: number;
  readonly hopSamples: number;
  readonly lookaheadHops: number;
  readonly stateShapes: readonly (readonly number[])[];
}

interface Channel {
  states: Float32Array[];
  beforeOverload: Float32Array[];
  overloadHops: number;
  silentFrames: number;
}

/**
 * One graph, run channel by channel; each channel has its own states.
 *
 * While a channel is digital silence nothing is learned from it, and its states fade towards those
 * of a new stream, by half in each second. After an overload, states are what they were before it;
 * this is left undone for a model with lookahead, whose states also hold the frames that it has not
 * finished.
 *
 * With linked channels, what the model does to them is made one complex gain for each bin, the same
 * for all, so that a voice stays where it is between them: g = sum conj(x) y / sum |x|^2, where x is
 * a channel's noisy and y its clean spectrum.
 */
export class ModelStep {
  private readonly channels: Channel[];
  /** The noisy spectra of the last frames, the one that the model finishes first. */
  private readonly noisy: Float32Array[][] = [];
  private readonly linked: boolean;
  private readonly longestOverloadHops: number;
  private readonly halfLifeHops: number;

  constructor(
    private readonly graph: Graph,
    private readonly spec: StreamSpec,
    channels: number,
    linkChannels: boolean,
  ) {
    this.linked = linkChannels && channels > 1;
    this.longestOverloadHops = Math.round((LONGEST_OVERLOAD_S * spec.rateHz) / spec.hopSamples);
    this.halfLifeHops = (HALF_LIFE_S * spec.rateHz) / spec.hopSamples;
    const none = { states: [], beforeOverload: [], overloadHops: 0, silentFrames: 0 };
    this.channels = Array.from({ length: channels }, () => ({ ...none }));
    this.reset();
  }

  /** Sets every state to zero, as before a signal, where all is silence. */
  reset(): void {
    const { stateShapes, lookaheadHops, windowSamples } = this.spec;
    for (const channel of this.channels) {
      channel.states = stateShapes.map(
        (shape) => new Float32Array(shape.reduce((product, axis) => product * axis, 1)),
      );
      channel.overloadHops = 0;
      channel.silentFrames = lookaheadHops + 1;
    }
    this.noisy.length = 0;
    for (let i = 0; i < lookaheadHops; i++) {
      this.noisy.push(this.channels.map(() => new Float32Array(windowSamples + 2)));
    }
  }

  /** For each channel, whether the last run left it out as silence. */
  get silent(): boolean[] {
    return this.channels.map(({ silentFrames }) => silentFrames > this.spec.lookaheadHops);
  }

  /**
   * Writes the clean spectra of one hop, those of the frame `lookaheadHops` before. Spectra are
   * (2, bins), flat; peaks are the largest magnitudes of the samples behind each of the noisy ones.
   */
  async run(
    noisy: readonly Float32Array[],
    peaks: readonly number[],
    clean: readonly Float32Array[],
  ): Promise<void> {
    const { lookaheadHops, windowSamples, stateShapes } = this.spec;
    for (const [c, channel] of this.channels.entries()) {
      // Frames within the lookahead are not finished yet: they still need their steps.
      const leftOut = Math.max(0, channel.silentFrames - lookaheadHops);
      channel.silentFrames = peaks[c] === 0 ? channel.silentFrames + 1 : 0;
      if (channel.silentFrames > lookaheadHops) {
        clean[c]!.fill(0);
        continue;
      }
      if (leftOut) this.fade(channel, leftOut);
      if (lookaheadHops === 0) this.guard(channel, peaks[c]!);
      const [answer, ...states] = (await this.graph.run([
        { data: noisy[c]!, dims: [1, 2, windowSamples / 2 + 1] },
        ...channel.states.map((data, i) => ({ data, dims: stateShapes[i]! })),
      ])) as Float32Array[];
      channel.states = states;
      // A sum is finite only if every value is.
      if (!Number.isFinite(answer!.reduce((sum, value) => sum + value * value, 0))) {
        throw new EdgeaeError("runtime", `${this.graph.name} gave NaN or infinity`);
      }
      clean[c]!.set(answer!);
    }
    if (!this.linked) return;
    this.noisy.push(noisy.map((spectrum) => spectrum.slice()));
    this.link(this.noisy.shift()!, clean);
  }

  /** Makes the states of a channel those after so many hops of silence. */
  private fade(channel: Channel, hops: number): void {
    const factor = Math.fround(0.5 ** (hops / this.halfLifeHops));
    const faded = (states: Float32Array[]) => states.map((x) => x.map((value) => value * factor));
    channel.states = faded(channel.states);
    channel.beforeOverload = faded(channel.beforeOverload);
  }

  /** Keeps the states of a channel from before an overload, and puts them back after it. */
  private guard(channel: Channel, peak: number): void {
    if (peak > OVERLOAD_PEAK) {
      if (channel.overloadHops === 0) channel.beforeOverload = channel.states;
      channel.overloadHops++;
    } else if (channel.overloadHops) {
      if (channel.overloadHops <= this.longestOverloadHops) channel.states = channel.beforeOverload;
      channel.overloadHops = 0;
    }
  }

  /** Replaces the clean spectra by the noisy ones times their common gain. */
  private link(noisy: readonly Float32Array[], clean: readonly Float32Array[]): void {
    const bins = this.spec.windowSamples / 2 + 1;
    for (let i = 0; i < bins; i++) {
      let [power, real, imaginary] = [0, 0, 0];
      for (const [c, x] of noisy.entries()) {
        const y = clean[c]!;
        power += x[i]! ** 2 + x[bins + i]! ** 2;
        real += x[i]! * y[i]! + x[bins + i]! * y[bins + i]!;
        imaginary += x[i]! * y[bins + i]! - x[bins + i]! * y[i]!;
      }
      power = Math.max(power, LEAST_POWER);
      real /= power;
      imaginary /= power;
      for (const [c, x] of noisy.entries()) {
        clean[c]![i] = x[i]! * real - x[bins + i]! * imaginary;
        clean[c]![bins + i] = x[i]! * imaginary + x[bins + i]! * real;
      }
    }
  }
}
