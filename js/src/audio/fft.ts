/** The discrete Fourier transform of any length, by its prime factors. */

export class Fft {
  private readonly cos: Float64Array;
  private readonly sin: Float64Array;
  private readonly factors: number[] = [];
  private readonly real: Float64Array;
  private readonly imaginary: Float64Array;

  constructor(readonly length: number) {
    const angle = (i: number) => (-2 * Math.PI * i) / length;
    this.cos = Float64Array.from({ length }, (_, i) => Math.cos(angle(i)));
    this.sin = Float64Array.from({ length }, (_, i) => Math.sin(angle(i)));
    for (let rest = length, factor = 2; rest > 1; ) {
      if (rest % factor) factor++;
      else {
        this.factors.push(factor);
        rest /= factor;
      }
    }
    this.real = new Float64Array(length);
    this.imaginary = new Float64Array(length);
  }

  /** The first half and one of the spectrum of a real signal, as (2, length / 2 + 1), unscaled. */
  forward(signal: Float32Array, spectrum: Float32Array): void {
    const bins = this.length / 2 + 1;
    this.transform(signal, undefined);
    for (let i = 0; i < bins; i++) {
      spectrum[i] = this.real[i]!;
      spectrum[bins + i] = this.imaginary[i]!;
    }
  }

  /** The real signal of such a spectrum. */
  inverse(spectrum: Float32Array, signal: Float32Array): void {
    const { length } = this;
    const bins = length / 2 + 1;
    const real = new Float32Array(length);
    const imaginary = new Float32Array(length);
    for (let i = 0; i < length; i++) {
      // Conjugated, so that a transform forward goes backward. Real signals have no imaginary part
      // at the two ends.
      const mirrored = i < bins ? i : length - i;
      real[i] = spectrum[mirrored]!;
      const part = spectrum[bins + mirrored]!;
      imaginary[i] = mirrored === 0 || mirrored === bins - 1 ? 0 : i < bins ? -part : part;
    }
    this.transform(real, imaginary);
    for (let i = 0; i < length; i++) signal[i] = this.real[i]! / length;
  }

  private transform(real: Float32Array, imaginary: Float32Array | undefined): void {
    this.step(real, imaginary, 0, 1, 0, this.length, 0);
  }

  private step(
    real: Float32Array,
    imaginary: Float32Array | undefined,
    from: number,
    stride: number,
    to: number,
    length: number,
    depth: number,
  ): void {
    const { real: re, imaginary: im, cos, sin } = this;
    const factor = this.factors[depth];
    if (factor === undefined) {
      re[to] = real[from]!;
      im[to] = imaginary ? imaginary[from]! : 0;
      return;
    }
    const part = length / factor;
    for (let q = 0; q < factor; q++) {
      this.step(real, imaginary, from + q * stride, stride * factor, to + q * part, part, depth + 1);
    }
    const unit = this.length / length;
    if (factor === 2) {
      for (let k = 0; k < part; k++) {
        const [a, b] = [to + k, to + k + part];
        const [c, s] = [cos[k * unit]!, sin[k * unit]!];
        const oddRe = re[b]! * c - im[b]! * s;
        const oddIm = re[b]! * s + im[b]! * c;
        re[b] = re[a]! - oddRe;
        im[b] = im[a]! - oddIm;
        re[a]! += oddRe;
        im[a]! += oddIm;
      }
      return;
    }
    const sums = new Float64Array(2 * factor);
    for (let k = 0; k < part; k++) {
      for (let r = 0; r < factor; r++) {
        let [sumRe, sumIm] = [0, 0];
        for (let q = 0; q < factor; q++) {
          const turn = (q * (k + r * part) * unit) % this.length;
          const at = to + q * part + k;
          sumRe += re[at]! * cos[turn]! - im[at]! * sin[turn]!;
          sumIm += re[at]! * sin[turn]! + im[at]! * cos[turn]!;
        }
        sums[2 * r] = sumRe;
        sums[2 * r + 1] = sumIm;
      }
      for (let r = 0; r < factor; r++) {
        re[to + r * part + k] = sums[2 * r]!;
        im[to + r * part + k] = sums[2 * r + 1]!;
      }
    }
  }
}

/** The periodic square root of a Hann window: with half overlap its squares add up to one. */
export function sqrtHann(length: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => Math.sin((Math.PI * i) / length));
}
