/**
 * One channel at another rate than the model's: there and back, and the band that this cannot
 * carry.
 *
 * With x the input, h the input at the model's rate, c the model's output and g the gain of what
 * lies outside the model's band, the output is g (x - back(h)) + back(c) = g x + back(c - g h). The gain is
 * the square root of output over input energy in the upper half of the model's band,
 * averaged over 25 ms, never above 1.
 */

import { sqrtHann } from "./fft.js";
import type { Resampler } from "./resample.js";
import { PASS_EDGE } from "./resample.js";
import type { HopSchedule } from "./hop_schedule.js";

// About the onset of a consonant.
const GAIN_TIME_S = 0.025;
// White noise of this level in the model's band, 7 dB above 16-bit rounding noise, is as good as
// silence: below it the gain goes to 1.
const GAIN_FLOOR_DB = -94;

export class FullBand {
  /** The input at the model's rate, from the oldest sample of the hop that a frame completes. */
  readonly modelInput: Float32Array;
  private readonly change: Float32Array;
  private readonly gains: Float32Array;
  private readonly fadeIn: Float32Array;
  private readonly energies: number[] = [];
  private readonly inputHistory: number;
  private readonly bandStart: number;
  private readonly bandStop: number;
  private readonly floor: number;
  private readonly weight: number;
  private energyIn = 0;
  private energyOut = 0;

  /** `noisy` is the stream's input buffer, which ends with the newest sample of a hop. */
  constructor(
    private readonly schedule: HopSchedule,
    private readonly toModel: Resampler,
    private readonly toInput: Resampler,
    private readonly noisy: Float32Array,
  ) {
    const hop = schedule.hopSamples;
    this.inputHistory = noisy.length;
    this.modelInput = new Float32Array((2 + schedule.lookaheadHops) * hop);
    this.change = new Float32Array(schedule.changeHistory());
    this.fadeIn = sqrtHann(2 * hop).subarray(0, hop).map((value) => value * value);
    this.gains = new Float32Array(2 + Math.ceil((toInput.right + 1) / hop));
    const lowerHz = Math.min(toModel.rateInHz, toModel.rateOutHz);
    const binHz = toModel.rateOutHz / (2 * hop);
    this.bandStart = Math.ceil(lowerHz / 4 / binHz);
    this.bandStop = Math.ceil((PASS_EDGE * lowerHz) / 2 / binHz);
    // A squared spectrum of white noise has the noise's power times the window's sum of squares.
    this.floor = 10 ** (GAIN_FLOOR_DB / 10) * hop * (this.bandStop - this.bandStart);
    this.weight = 1 - Math.exp(-hop / toModel.rateOutHz / GAIN_TIME_S);
    this.reset();
  }

  reset(): void {
    this.modelInput.fill(0);
    this.change.fill(0);
    this.gains.fill(1);
    this.energyIn = this.energyOut = 0;
    this.energies.length = 0;
    for (let i = 0; i < this.schedule.lookaheadHops; i++) this.energies.push(0);
  }

  /** Resamples the part of the input that a hop adds to `modelInput`. */
  resampleInput(hop: number): void {
    const { schedule, modelInput } = this;
    const samples = schedule.hopSamples;
    modelInput.copyWithin(0, samples);
    const start = schedule.inputsNeeded(hop) - this.inputHistory;
    const out = modelInput.subarray(modelInput.length - samples);
    this.toModel.run(this.noisy, start, schedule.modelSamplesNeeded(hop - 1), out);
  }

  /**
   * Takes the energies of the newest noisy frame, and of the frame that the model cleaned, into the
   * gain; it stays where the model left the channel out as silence.
   */
  updateGain(noisy: number, clean: number, silent: boolean): void {
    this.energies.push(noisy);
    const entering = this.energies.shift()!;
    const weight = silent ? 0 : this.weight;
    this.energyIn += weight * (entering - this.energyIn);
    this.energyOut += weight * (clean - this.energyOut);
    const ratio = (this.energyOut + this.floor) / (this.energyIn + this.floor);
    this.gains.copyWithin(0, 1);
    this.gains[this.gains.length - 1] = Math.sqrt(Math.min(ratio, 1));
  }

  /** Writes the output samples of a hop, of which `clean` is what the hop finished. */
  combine(hop: number, clean: Float32Array, out: Float32Array): void {
    const { schedule, change, gains, modelInput, noisy, toInput } = this;
    const samples = schedule.hopSamples;
    change.copyWithin(0, samples);
    const last = gains[gains.length - 2]!;
    const gain = gains[gains.length - 1]!;
    for (let i = 0, to = change.length - samples; i < samples; i++, to++) {
      const faded = last + this.fadeIn[i]! * (gain - last);
      change[to] = clean[i]! - faded * modelInput[i]!;
    }
    const first = schedule.outputsFinal(hop - 1);
    const final = schedule.modelSamplesFinal(hop);
    toInput.run(change, final - change.length, first, out);
    const dry = first - (schedule.inputsNeeded(hop) - this.inputHistory);
    for (let k = 0; k < out.length; k++) {
      // In hops from the end of what is final: the newest frame runs from -1 to 1.
      const ticks = (first + k) * toInput.down - final * toInput.up;
      out[k]! += this.gainAt(ticks / (toInput.up * samples)) * noisy[dry + k]!;
    }
  }

  /** The gains of the last frames, each under its squared window. */
  private gainAt(time: number): number {
    const { gains } = this;
    let sum = 0;
    for (let i = 0; i < gains.length; i++) {
      const phase = (time - (i - gains.length)) / 2;
      if (phase > 0 && phase < 1) sum += gains[i]! * Math.sin(Math.PI * phase) ** 2;
    }
    return sum;
  }

  /** The energy of a spectrum (2, bins) in the upper half of the band of the model. */
  energy(spectrum: Float32Array): number {
    const bins = spectrum.length / 2;
    let sum = 0;
    for (let i = this.bandStart; i < this.bandStop; i++) {
      sum += spectrum[i]! ** 2 + spectrum[bins + i]! ** 2;
    }
    return sum;
  }
}
