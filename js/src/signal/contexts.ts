/** Which table codes which symbol of a signal, by those before it: section 13 of docs/FORMAT.md. */

import { SYMBOL_LIMIT } from "../coding/context.js";
import type { RangeDecoder } from "../coding/range.js";
import { FRACTIONS, SCALES } from "../coding/tables.js";
import { damaged, EdgeaeError } from "../errors.js";
import type { Graph, Input } from "../session.js";
import type { LatentSpec } from "./latent.js";
import type { Match } from "./matches.js";
import { bestMatches, MATCHES, NO_MATCH, Past } from "./matches.js";

const SIGNED_LIMIT = 1023;

export class SignalContexts {
  constructor(
    private readonly spec: LatentSpec,
    /** That of the past, then one of each slice. */
    private readonly graphs: readonly Graph[],
  ) {}

  /** Nothing known yet. */
  past(): Past {
    return new Past(this.spec.channels, this.spec.rule, this.spec.reach);
  }

  /** The symbols (channels,) of the step that follows the past, which are added to it. */
  async step(past: Past, level: number, decoder: RangeDecoder): Promise<Int32Array> {
    const { channels, slices, rule } = this.spec;
    const symbols = new Int32Array(channels);
    const changes = new Int32Array(channels);
    const setting = plane(Float32Array.of(level));
    const summary = plane(await this.summary(past, setting));
    const distances = past.distances();
    const byPast = bestMatches(distances);
    let second: Match[] | undefined;
    let begin = 0;
    for (const [i, own] of slices.entries()) {
      if (begin >= rule.refineChannels) {
        second ??= bestMatches(past.refined(distances, changes));
      }
      const inputs = [setting, summary, ...inputsOf(past, channels, byPast, second ?? byPast)];
      if (begin) inputs.push(plane(Float32Array.from(symbols.subarray(0, begin))));
      const [indices, middles] = await this.graphs[i + 1]!.run(inputs);
      if (!isWhole(indices, own) || !isWhole(middles, own)) {
        throw new EdgeaeError("bundle", `the graph context${i + 1} does not give what it should`);
      }
      for (let c = 0; c < own; c++) symbols[begin + c] = symbolOf(decoder, indices[c]!, middles[c]!);
      changes.set(symbols.subarray(begin, begin + own), begin);
      // The first channel follows the baseline: what counts is how it moves.
      if (!begin) changes[0]! -= past.before(1, 0);
      begin += own;
    }
    past.add(symbols, changes);
    return symbols;
  }

  /** What the first graph says of the step that comes. */
  private async summary(past: Past, setting: Input): Promise<Float32Array> {
    const { channels, reach } = this.spec;
    const steps = past.symbols.length;
    const count = Math.min(reach, steps + 1);
    const known = new Float32Array(channels * count);
    for (let j = 0; j < count; j++) {
      // Of the step before each; before the first there are zeros.
      const there = past.symbols[steps - count + j];
      for (let c = 0; there && c < channels; c++) known[c * count + j] = there[c]!;
    }
    const [found] = await this.graphs[0]!.run([setting, { data: known, dims: [1, channels, 1, count] }]);
    if (!(found instanceof Float32Array) || !found.length || found.length % count) {
      throw new EdgeaeError("bundle", "the graph context0 does not give what it should");
    }
    return Float32Array.from({ length: found.length / count }, (_, i) => found[(i + 1) * count - 1]!);
  }
}

function plane(data: Float32Array): Input {
  return { data, dims: [1, data.length, 1, 1] };
}

function isWhole(data: unknown, length: number): data is Int32Array {
  return data instanceof Int32Array && data.length === length;
}

/** What a head sees of matches, and the numbers for its last layer. */
function inputsOf(past: Past, channels: number, byPast: Match[], second: Match[]): Input[] {
  const seen: number[] = [];
  const numbers: number[] = [];
  for (const lag of [1, 2]) {
    for (let c = 0; c < channels; c++) numbers.push(limited(past.before(lag, c)));
  }
  for (const matches of [byPast, second]) {
    const steps = past.changes.length;
    const planes = Array.from({ length: MATCHES }, (_, i) => {
      const match = matches[i];
      const there = match && past.changes[steps - match.lag];
      return Array.from({ length: channels }, (_, c) =>
        limited((there ? there[c]! : 0) + (c ? 0 : past.before(1, 0))),
      );
    });
    numbers.push(...planes[0]!);
    for (const one of planes) seen.push(...one);
    for (let i = 0; i < MATCHES; i++) {
      const match = matches[i];
      seen.push(match ? 31 - Math.clz32(1 + match.distance) : NO_MATCH);
    }
  }
  return [plane(Float32Array.from(seen)), plane(Float32Array.from(numbers))];
}

function limited(value: number): number {
  return Math.min(SIGNED_LIMIT, Math.max(-SIGNED_LIMIT, value));
}

function symbolOf(decoder: RangeDecoder, index: number, middle: number): number {
  if (index < 0 || index >= SCALES) {
    throw new EdgeaeError("bundle", `a context graph gives index ${index}, expected 0 to ${SCALES - 1}`);
  }
  const center = Math.floor((middle + 4) / 8);
  const fraction = middle - 8 * center;
  const value = decoder.take(index * FRACTIONS + Math.abs(fraction));
  const symbol = center + offsetOf(value, fraction < 0);
  if (Math.abs(symbol) > SYMBOL_LIMIT) {
    throw damaged(`a coded block has a symbol beyond ${SYMBOL_LIMIT}`);
  }
  return symbol;
}

/** How far from its center what a value stands for lies, on the side of the middle first. */
export function offsetOf(value: number, flipped: boolean): number {
  const offset = value % 2 ? (value + 1) / 2 : -(value / 2);
  return flipped ? -offset : offset;
}
