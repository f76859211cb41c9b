/**
 * Where a signal has looked like now before, and what followed there: found among symbols that a
 * reader has already. All in whole numbers.
 */

export const MATCHES = 3;
/** floor(log2(1 + distance)) where there is no match. */
export const NO_MATCH = 31;
const LIMIT = 255;

/** Which earlier steps count as like this one: the manifest's `latent.matches`. */
export interface MatchRule {
  readonly nearest: number;
  readonly furthest: number;
  /** Weights of the steps before, the latest first. */
  readonly history: readonly number[];
  readonly refineChannels: number;
  readonly refineWeight: number;
}

/** Steps before this one, the nearest of all distances first. */
export interface Match {
  readonly lag: number;
  readonly distance: number;
}

/** The symbols of one lead since the last key, as many as may bear on the next step. */
export class Past {
  /** Of each step: its symbols, its changes, and the changes as they are compared. */
  readonly symbols: Int32Array[] = [];
  readonly changes: Int32Array[] = [];
  private readonly clipped: Int32Array[] = [];
  /** Squared differences of the latest steps from those before them, by lag, the latest first. */
  private readonly errors: Int32Array[] = [];
  private readonly keep: number;

  constructor(
    private readonly channels: number,
    private readonly rule: MatchRule,
    reach: number,
  ) {
    this.keep = Math.max(reach, rule.furthest + rule.history.length) + 8;
  }

  /** The symbol of a channel in the latest step but `lag - 1`, 0 before the key. */
  before(lag: number, channel: number): number {
    return this.symbols[this.symbols.length - lag]?.[channel] ?? 0;
  }

  /** The distance of the step that comes from each before it, by lag: -1 where none counts. */
  distances(): Int32Array {
    const { nearest, furthest, history } = this.rule;
    const found = new Int32Array(furthest + 1).fill(-1);
    for (let lag = nearest; lag <= Math.min(furthest, this.symbols.length); lag++) {
      let sum = 0;
      for (let k = 0; k < this.errors.length; k++) sum += history[k]! * this.errors[k]![lag]!;
      found[lag] = sum;
    }
    return found;
  }

  /** Those distances with that of the first channels of the step that comes. */
  refined(distances: Int32Array, changes: Int32Array): Int32Array {
    const { refineChannels, refineWeight } = this.rule;
    const own = changes.subarray(0, refineChannels).map(clip);
    return distances.map((distance, lag) =>
      distance < 0
        ? distance
        : distance + refineWeight * this.squares(own, this.clipped.length - lag, refineChannels),
    );
  }

  /** Takes in the step that came. */
  add(symbols: Int32Array, changes: Int32Array): void {
    const { furthest, history } = this.rule;
    const own = changes.map(clip);
    const last = this.clipped.length;
    const errors = Int32Array.from({ length: furthest + 1 }, (_, lag) =>
      lag ? this.squares(own, last - lag, this.channels) : 0,
    );
    this.errors.unshift(errors);
    if (this.errors.length > history.length) this.errors.pop();
    this.symbols.push(symbols);
    this.changes.push(changes);
    this.clipped.push(own);
    if (this.symbols.length < 2 * this.keep) return;
    for (const steps of [this.symbols, this.changes, this.clipped]) steps.splice(0, this.keep);
  }

  private squares(own: Int32Array, step: number, channels: number): number {
    const there = this.clipped[step];
    let sum = 0;
    for (let i = 0; i < channels; i++) sum += (own[i]! - (there ? there[i]! : 0)) ** 2;
    return sum;
  }
}

/** The best by their distance, the latest of equal ones first. */
export function bestMatches(distances: Int32Array): Match[] {
  const best: Match[] = [];
  for (let lag = 0; lag < distances.length; lag++) {
    const distance = distances[lag]!;
    if (distance < 0 || (best.length === MATCHES && distance >= best[MATCHES - 1]!.distance)) continue;
    let at = best.length;
    while (at && best[at - 1]!.distance > distance) at--;
    best.splice(at, 0, { lag, distance });
    if (best.length > MATCHES) best.pop();
  }
  return best;
}

function clip(value: number): number {
  return Math.min(LIMIT, Math.max(-LIMIT, value));
}
