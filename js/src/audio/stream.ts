/** One signal on its way through a denoiser. */

import type { Graph } from "../session.js";
import { FullBand } from "./full_band.js";
import { Fft, sqrtHann } from "./fft.js";
import type { HopSchedule } from "./hop_schedule.js";
import type { StreamSpec } from "./step.js";
import { ModelStep } from "./step.js";

// A lost block: how long what was heard goes on, mirrored and fading, and how long the sound takes
// to come back.
const FADE_S = 0.0025;
const MAX_GAP_S = 10;
// 60 dB above full scale is a scaling mistake, such as 16-bit values in a float array.
const MAX_MAGNITUDE = 1000;

interface Channel {
  /** Ends at the newest sample of the next hop. */
  readonly input: Float32Array;
  readonly fullBand: FullBand | undefined;
  readonly overlap: Float32Array;
  /** Of the newest frame, and of the one that the model has cleaned: (2, bins). */
  readonly noisy: Float32Array;
  readonly clean: Float32Array;
}

/**
 * Everything that `process` and `flush` return, joined, holds the cleaned input sample n at
 * n + delay. Nothing depends on how the input was cut into blocks. Calls wait for each other.
 */
export class Stream {
  /** In samples at the input's rate. */
  readonly delay: number;
  private readonly channels: readonly Channel[];
  private readonly waiting: readonly Float32Array[];
  private readonly fft: Fft;
  private readonly window: Float32Array;
  private readonly frame: Float32Array;
  private readonly ramp: Float32Array;
  private readonly clean: Float32Array;
  private readonly model: ModelStep;
  private waits = 0;
  private fadedIn = 0;
  private received = 0;
  private emitted = 0;
  private hop = 0;
  private needed = 0;
  private last: Promise<unknown> = Promise.resolve();

  /** @internal Made by `SignalDenoiser.stream`, which checks the arguments. */
  constructor(
    step: Graph,
    private readonly spec: StreamSpec,
    private readonly schedule: HopSchedule,
    private readonly rateHz: number,
    channels: number,
    private readonly linkChannels: boolean,
    private readonly keep: number,
    blockSamples: number | undefined,
  ) {
    const { windowSamples, hopSamples } = spec;
    this.delay = schedule.delay(blockSamples);
    this.fft = new Fft(windowSamples);
    this.window = sqrtHann(windowSamples);
    this.frame = new Float32Array(windowSamples);
    this.model = new ModelStep(step, spec, channels, linkChannels);
    this.clean = new Float32Array(hopSamples);
    const steps = Math.round(FADE_S * rateHz);
    this.ramp = Float32Array.from(
      { length: steps },
      (_, i) => Math.sin(((Math.PI / 2) * (i + 0.5)) / steps) ** 2,
    );
    const history = schedule.inputHistory();
    const { toModel, toInput } = schedule;
    this.channels = Array.from({ length: channels }, () => {
      const input = new Float32Array(toModel ? history : Math.max(history, windowSamples));
      const fullBand = toModel && toInput ? new FullBand(schedule, toModel, toInput, input) : undefined;
      const overlap = new Float32Array(hopSamples);
      const [noisy, clean] = [new Float32Array(windowSamples + 2), new Float32Array(windowSamples + 2)];
      return { input, fullBand, overlap, noisy, clean };
    });
    const room = this.delay + schedule.longestOutput();
    this.waiting = this.channels.map(() => new Float32Array(room));
    this.restart();
  }

  /** How many steps of the model have run. */
  get hops(): number {
    return this.hop;
  }

  /** What the stream can give after this block: for each channel as many samples as are ready. */
  process(block: readonly Float32Array[]): Promise<Float32Array[]> {
    const frames = checkedBlock(block, this.channels.length);
    return this.next(() => this.take(block, frames));
  }

  /**
   * What the stream can give after so many frames that were lost on the way. Time goes on as if
   * they had come: in their place it hears the last 2.5 ms mirrored and fading out, then silence.
   */
  skip(frames: number): Promise<Float32Array[]> {
    if (!Number.isInteger(frames) || frames < 0 || frames > MAX_GAP_S * this.rateHz) {
      throw new RangeError(`frames is ${frames}, expected 0 to ${MAX_GAP_S * this.rateHz}`);
    }
    return this.next(async () => {
      const { ramp } = this;
      const lost = this.channels.map(({ input }) => {
        const end = input.length - (this.needed - this.received);
        const gone = new Float32Array(frames);
        const count = Math.min(frames, end, ramp.length);
        for (let i = 0; i < count; i++) gone[i] = input[end - 1 - i]! * ramp[ramp.length - 1 - i]!;
        return gone;
      });
      this.fadedIn = ramp.length;
      const out = await this.take(lost, frames);
      if (frames) this.fadedIn = 0;
      return out;
    });
  }

  /** The rest of the signal, after its last block. Then the stream is as new. */
  flush(): Promise<Float32Array[]> {
    return this.next(async () => {
      const rest = this.received + this.delay - this.emitted;
      const out = this.channels.map(() => new Float32Array(rest));
      let written = this.drain(out, 0);
      while (written < rest) {
        for (const { input } of this.channels) {
          input.fill(0, input.length - (this.needed - this.received));
        }
        this.received = this.needed;
        await this.advance();
        written = this.drain(out, written);
      }
      this.restart();
      return out;
    });
  }

  /** Forgets the signal: the stream is as new. */
  reset(): Promise<void> {
    return this.next(() => Promise.resolve(this.restart()));
  }

  private next<T>(call: () => Promise<T>): Promise<T> {
    const result = this.last.then(call);
    this.last = result.catch(() => undefined);
    return result;
  }

  private restart(): void {
    for (const channel of this.channels) {
      channel.input.fill(0);
      channel.overlap.fill(0);
      channel.fullBand?.reset();
    }
    this.model.reset();
    for (const part of this.waiting) part.fill(0);
    // What hop 0 finds finished is the time before the signal: the delay begins with zeros.
    this.waits = this.delay + this.schedule.outputsFinal(-1);
    this.fadedIn = this.ramp.length;
    this.received = this.emitted = this.hop = 0;
    this.needed = this.schedule.inputsNeeded(0);
  }

  /** What is ready once these samples have come in. */
  private async take(samples: readonly Float32Array[], frames: number): Promise<Float32Array[]> {
    const received = this.received + frames;
    const due = Math.min(received, this.delay + this.schedule.outputsAfter(received));
    const out = this.channels.map(() => new Float32Array(due - this.emitted));
    let written = this.drain(out, 0);
    for (let taken = 0; taken < frames; ) {
      const count = Math.min(frames - taken, this.needed - this.received);
      this.fill(samples, taken, count);
      taken += count;
      if (this.received === this.needed) {
        await this.advance();
        written = this.drain(out, written);
      }
    }
    this.emitted = due;
    return out;
  }

  /** Puts samples at their place in the input buffers. */
  private fill(samples: readonly Float32Array[], begin: number, count: number): void {
    const { ramp, fadedIn } = this;
    for (const [c, { input }] of this.channels.entries()) {
      const start = input.length - (this.needed - this.received);
      input.set(samples[c]!.subarray(begin, begin + count), start);
      for (let i = 0; i < count && fadedIn + i < ramp.length; i++) {
        input[start + i]! *= ramp[fadedIn + i]!;
      }
    }
    this.fadedIn = Math.min(ramp.length, fadedIn + count);
    this.received += count;
  }

  /** Moves what waits to `out` from `written` on, as far as both reach. */
  private drain(out: readonly Float32Array[], written: number): number {
    const count = Math.min(this.waits, out[0]!.length - written);
    if (count <= 0) return written;
    for (const [c, part] of this.waiting.entries()) {
      out[c]!.set(part.subarray(0, count), written);
      part.copyWithin(0, count, this.waits);
    }
    this.waits -= count;
    return written + count;
  }

  /** Runs one hop, the input buffers being full, and makes room in them for the next. */
  private async advance(): Promise<void> {
    const { hop, schedule, keep } = this;
    const count = schedule.outputsFinal(hop) - schedule.outputsFinal(hop - 1);
    const needed = schedule.inputsNeeded(hop + 1);
    const dryStart = schedule.outputsFinal(hop - 1) - schedule.inputsNeeded(hop);
    const peaks = this.channels.map((channel) => this.analyze(channel));
    const { channels, model } = this;
    await model.run(
      channels.map(({ noisy }) => noisy),
      peaks,
      channels.map(({ clean }) => clean),
    );
    this.updateGains();
    for (const [c, channel] of channels.entries()) {
      const { input, fullBand } = channel;
      const out = this.waiting[c]!.subarray(this.waits, this.waits + count);
      this.synthesize(channel);
      if (fullBand) fullBand.combine(hop, this.clean, out);
      else out.set(this.clean);
      if (keep) {
        const dry = input.length + dryStart;
        for (let i = 0; i < count; i++) out[i] = out[i]! * (1 - keep) + keep * input[dry + i]!;
      }
      input.copyWithin(0, needed - this.needed);
    }
    this.waits += count;
    this.hop++;
    this.needed = needed;
  }

  /** Makes the spectrum of a channel's newest frame; gives the frame's largest magnitude. */
  private analyze({ input, fullBand, noisy }: Channel): number {
    const { frame, window, spec } = this;
    fullBand?.resampleInput(this.hop);
    const modelInput = fullBand?.modelInput ?? input;
    const start = modelInput.length - spec.windowSamples;
    let peak = 0;
    for (let i = 0; i < frame.length; i++) {
      peak = Math.max(peak, Math.abs(modelInput[start + i]!));
      frame[i] = modelInput[start + i]! * window[i]!;
    }
    this.fft.forward(frame, noisy);
    return peak;
  }

  /** Takes a step into the gains of what the model cannot hear; linked channels have one. */
  private updateGains(): void {
    const { channels, linkChannels } = this;
    const energies = channels.map(({ fullBand, noisy, clean }) => [
      fullBand?.energy(noisy) ?? 0,
      fullBand?.energy(clean) ?? 0,
    ]);
    const silent = this.model.silent;
    if (linkChannels) {
      const sum = energies.reduce(([a, b], [x, y]) => [a! + x!, b! + y!], [0, 0]);
      energies.fill(sum);
      silent.fill(silent.every(Boolean));
    }
    for (const [c, { fullBand }] of channels.entries()) {
      fullBand?.updateGain(energies[c]![0]!, energies[c]![1]!, silent[c]!);
    }
  }

  /** Finishes a hop of a channel in `clean`. */
  private synthesize({ clean: spectrum, overlap }: Channel): void {
    const { spec, frame, window, clean } = this;
    const { hopSamples } = spec;
    this.fft.inverse(spectrum, frame);
    for (let i = 0; i < hopSamples; i++) {
      clean[i] = overlap[i]! + frame[i]! * window[i]!;
      overlap[i] = frame[hopSamples + i]! * window[hopSamples + i]!;
    }
  }
}

/** The frames of a block (channels, frames). */
export function checkedBlock(block: readonly Float32Array[], channels: number): number {
  const frames = block[0]?.length ?? 0;
  if (block.length !== channels) {
    throw new RangeError(`the block has ${block.length} channels, expected ${channels}`);
  }
  for (const samples of block) {
    if (!((samples as unknown) instanceof Float32Array)) {
      throw new TypeError("a block is expected to be a Float32Array for each channel");
    }
    if (samples.length !== frames) throw new RangeError("the block's channels differ in length");
    // No comparison with NaN holds.
    if (!samples.every((value) => Math.abs(value) <= MAX_MAGNITUDE)) {
      throw new RangeError("audio is expected to be finite and in [-1, 1]");
    }
  }
  return frames;
}
