/**
 * When a stream can run each hop of its model, and what that completes, in whole samples from the
 * start of the signal.
 */

import { gcd, rateRatio, Resampler } from "./resample.js";

/**
 * Hop number h (from 0) takes the window that ends at (h + 1) hopSamples - shift, at the model's
 * rate, and completes the first half of the window that lies `lookaheadHops` back.
 */
export class HopSchedule {
  /** Both undefined where the input has the model's rate, or nearly. */
  readonly toModel: Resampler | undefined;
  readonly toInput: Resampler | undefined;
  readonly shift: number = 0;
  /** After so many hops, which are so many input samples, the pattern of counts repeats. */
  private readonly periodHops: number = 1;
  private readonly periodSamples: number;

  constructor(
    rateHz: number,
    modelRateHz: number,
    readonly hopSamples: number,
    readonly lookaheadHops: number,
  ) {
    this.periodSamples = hopSamples;
    const [up, down] = rateRatio(rateHz, modelRateHz, hopSamples);
    if (up === down) return;
    this.toModel = new Resampler(rateHz, modelRateHz, up, down);
    this.toInput = new Resampler(modelRateHz, rateHz, down, up);
    // The filter looks ahead: frames that end so much earlier are complete with whole hops of input.
    const hopInputs = Math.floor((hopSamples * down) / up);
    while (this.toModel.inputsFor(hopSamples - this.shift) > hopInputs) this.shift++;
    this.periodHops = up / gcd(up, hopSamples);
    this.periodSamples = (this.periodHops * hopSamples * down) / up;
  }

  /** How many samples at the model's rate a hop needs. */
  modelSamplesNeeded(hop: number): number {
    return (hop + 1) * this.hopSamples - this.shift;
  }

  /** How many samples at the model's rate are final after a hop; negative before the first. */
  modelSamplesFinal(hop: number): number {
    return (hop - this.lookaheadHops) * this.hopSamples - this.shift;
  }

  /** How many input samples a hop needs. */
  inputsNeeded(hop: number): number {
    const modelSamples = this.modelSamplesNeeded(hop);
    return this.toModel ? this.toModel.inputsFor(modelSamples) : modelSamples;
  }

  /** How many output samples are final after a hop; negative before the first. */
  outputsFinal(hop: number): number {
    const modelSamples = this.modelSamplesFinal(hop);
    return this.toInput ? this.toInput.outputsFrom(modelSamples) : modelSamples;
  }

  /** How many output samples are final once so many inputs have come in, likewise. */
  outputsAfter(inputs: number): number {
    const modelSamples = this.toModel ? this.toModel.outputsFrom(inputs) : inputs;
    return this.outputsFinal(Math.max(-1, Math.floor((modelSamples + this.shift) / this.hopSamples) - 1));
  }

  /** The smallest lag that blocks of that size can keep; without one, that whole hops can. */
  delay(blockSamples?: number): number {
    if (blockSamples === undefined) {
      return this.most((hop) => {
        const samples = ((hop + 1) * this.periodSamples) / this.periodHops;
        return Math.ceil(samples) - this.outputsFinal(hop);
      });
    }
    // The lag is largest at the last block that does not complete a hop. From period to period the
    // hops move against the blocks in steps of the common divisor, through every such step.
    const step = gcd(blockSamples, this.periodSamples);
    return this.most(
      (hop) => Math.floor((this.inputsNeeded(hop) - 1) / step) * step - this.outputsFinal(hop - 1),
    );
  }

  /** How many input samples a hop reaches back, its own included. */
  inputHistory(): number {
    return this.most((hop) => {
      const dry = this.outputsFinal(hop - 1);
      const { toModel } = this;
      const wet = toModel ? toModel.position(this.modelSamplesNeeded(hop - 1)) - toModel.left : dry;
      return this.inputsNeeded(hop) - Math.min(dry, wet);
    });
  }

  /** How many final samples at the model's rate a hop reaches back for its output. */
  changeHistory(): number {
    const { toInput } = this;
    if (!toInput) return 0;
    return this.most(
      (hop) => this.modelSamplesFinal(hop) - toInput.position(this.outputsFinal(hop - 1)) + toInput.left,
    );
  }

  /** The most output samples that one hop completes. */
  longestOutput(): number {
    return this.most((hop) => this.outputsFinal(hop) - this.outputsFinal(hop - 1));
  }

  private most(count: (hop: number) => number): number {
    let most = -Infinity;
    for (let hop = 0; hop < this.periodHops; hop++) most = Math.max(most, count(hop));
    return most;
  }
}
