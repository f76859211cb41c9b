/** A windowed sinc between two rates: filters of exact phase, no signal. */

// Edges of the filter as parts of the lower Nyquist frequency, and its attenuation.
export const PASS_EDGE = 0.875;
const STOP_EDGE = 1.025;
const ATTENUATION_DB = 70;

// The largest term of an exact ratio of rates: that of 11,025 to 16,000 Hz, which is 640 / 441.
const MAX_RATIO_TERM = 640;
// An inexact ratio maps whole hops to at least so many whole input samples, so it is off by at most
// 1 in 1024, 1.7 cents of pitch.
const MIN_PERIOD_SAMPLES = 512;

/**
 * The model's rate over the input's as two whole numbers, [up, down], in lowest terms.
 *
 * Exact for all usual rates. Where that needs terms above 640, the ratio is the nearest that makes a
 * few hops whole numbers of input samples. The way back has the inverse ratio, so the output keeps
 * the input's time exactly.
 */
export function rateRatio(rateHz: number, modelRateHz: number, hopSamples: number): [number, number] {
  const common = gcd(rateHz, modelRateHz);
  const [up, down] = [modelRateHz / common, rateHz / common];
  if (Math.max(up, down) <= MAX_RATIO_TERM) return [up, down];
  // A hop is hopSamples * down / up input samples.
  const hops = Math.ceil((MIN_PERIOD_SAMPLES * up) / (hopSamples * down));
  const inputs = nearestEven(hops * hopSamples * down, up);
  const near = gcd(hops * hopSamples, inputs);
  return [(hops * hopSamples) / near, inputs / near];
}

/** The whole number nearest to a fraction, of two the even one, as Python rounds. */
function nearestEven(numerator: number, denominator: number): number {
  const below = Math.floor(numerator / denominator);
  const rest = 2 * (numerator - below * denominator);
  return below + (rest > denominator || (rest === denominator && below % 2 === 1) ? 1 : 0);
}

export class Resampler {
  /** Taps before and after the input sample that an output sits on. */
  readonly left: number;
  readonly right: number;
  /** One filter for each output modulo `up`, flat. */
  private readonly bank: Float32Array;

  constructor(
    readonly rateInHz: number,
    readonly rateOutHz: number,
    /** up / down is the ratio of the rates, see `rateRatio`. */
    readonly up: number,
    readonly down: number,
  ) {
    const nyquistHz = Math.min(rateInHz, rateOutHz) / 2;
    const half = halfLength(nyquistHz) * rateInHz;
    this.left = Math.floor(half);
    this.right = Math.floor(half + (this.up - 1) / this.up);
    this.bank = new Float32Array(this.up * this.taps);
    for (let row = 0; row < this.up; row++) {
      const phase = (row * this.down) % this.up;
      const filter = Float64Array.from({ length: this.taps }, (_, tap) =>
        kernel((tap - this.left - phase / this.up) / rateInHz, nyquistHz),
      );
      const sum = filter.reduce((total, value) => total + value, 0);
      // Every phase passes a constant unchanged.
      this.bank.set(filter.map((value) => value / sum), row * this.taps);
    }
  }

  get taps(): number {
    return this.left + 1 + this.right;
  }

  /** The input sample at or just before the time of an output sample. */
  position(output: number): number {
    return Math.floor((output * this.down) / this.up);
  }

  /** How many input samples must be known for the first `outputs` output samples. */
  inputsFor(outputs: number): number {
    return this.position(outputs - 1) + this.right + 1;
  }

  /** How many output samples the first `inputs` input samples give; negative before them. */
  outputsFrom(inputs: number): number {
    return -Math.floor(((this.right - inputs) * this.up) / this.down);
  }

  /**
   * Writes output samples first, first + 1 and so on. The buffer begins with the input sample of
   * number `start`.
   */
  run(buffer: Float32Array, start: number, first: number, out: Float32Array): void {
    const { taps, bank, up } = this;
    for (let k = 0; k < out.length; k++) {
      const from = this.position(first + k) - this.left - start;
      const filter = modulo(first + k, up) * taps;
      let sum = 0;
      for (let tap = 0; tap < taps; tap++) sum += buffer[from + tap]! * bank[filter + tap]!;
      out[k] = sum;
    }
  }
}

export function gcd(one: number, other: number): number {
  return other ? gcd(other, one % other) : one;
}

export function modulo(value: number, by: number): number {
  return ((value % by) + by) % by;
}

/** Half the length in seconds of a Kaiser-windowed filter with these edges (Kaiser 1974, eq. 8). */
function halfLength(nyquistHz: number): number {
  const width = 2 * Math.PI * (STOP_EDGE - PASS_EDGE) * nyquistHz;
  return (ATTENUATION_DB - 7.95) / (2.285 * width) / 2;
}

/** A sinc whose cut-off lies midway between the edges, under a Kaiser window. */
function kernel(seconds: number, nyquistHz: number): number {
  const cutoffHz = ((PASS_EDGE + STOP_EDGE) / 2) * nyquistHz;
  const beta = 0.1102 * (ATTENUATION_DB - 8.7); // Kaiser 1974, eq. 7, above 50 dB
  const inside = 1 - (seconds / halfLength(nyquistHz)) ** 2;
  if (inside <= 0) return 0;
  const angle = Math.PI * 2 * cutoffHz * seconds;
  return (angle ? Math.sin(angle) / angle : 1) * besselI0(beta * Math.sqrt(inside));
}

/** The modified Bessel function of order 0, by its power series. */
function besselI0(x: number): number {
  let sum = 1;
  for (let k = 1, term = 1; term > sum * 1e-17; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}
