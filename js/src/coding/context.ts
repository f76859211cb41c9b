/**
 * Which table codes which symbol: the order of coding, and the graphs that choose, in exact
 * integers; section 5 of docs/FORMAT.md.
 */

import { damaged, EdgeaeError } from "../errors.js";
import type { Graph } from "../session.js";
import type { BlockDecoder, BlockEncoder } from "./block.js";
import { FRACTIONS, SCALES } from "./tables.js";

/** Symbols beyond this make a file invalid; a writer clips them. */
export const SYMBOL_LIMIT = 30_000;

export interface SliceSpec {
  readonly channels: number;
  readonly centered: boolean;
  readonly phases: number;
}

/** One run of symbols that are coded together. */
export interface Stage {
  /** Flat positions of its symbols in (channels of all slices, h, w). */
  readonly places: Int32Array;
  readonly tables: Uint16Array;
  /** Of a centered slice: the integer around which each symbol lies, and where signs are swapped. */
  readonly centers?: Int32Array;
  readonly flipped?: Uint8Array;
}

/** Puts the symbols of a stage at its places in `known`. */
type Decide = (stage: Stage, known: Float32Array) => void;

export class ContextModel {
  readonly channels: number;

  constructor(
    readonly slices: readonly SliceSpec[],
    private readonly graphs: readonly Graph[],
  ) {
    this.channels = slices.reduce((sum, part) => sum + part.channels, 0);
  }

  /** Goes through all stages in coding order; the symbols (channels, height, width). */
  async walk(height: number, width: number, level: number, decide: Decide): Promise<Float32Array> {
    const area = height * width;
    const known = new Float32Array(this.channels * area);
    let start = 0;
    for (const [i, part] of this.slices.entries()) {
      const first = start * area;
      const own = known.subarray(first, first + part.channels * area);
      for (let phase = 0; phase < part.phases; phase++) {
        const inputs = [{ data: Float32Array.of(level, phase), dims: [1, 2, 1, 1] }];
        if (start) inputs.push({ data: known.subarray(0, first), dims: [1, start, height, width] });
        if (part.phases === 2) inputs.push({ data: own, dims: [1, part.channels, height, width] });
        const [indices, middles] = await (this.graphs[i] as Graph).run(inputs);
        if (!isWhole(indices, own.length) || (part.centered && !isWhole(middles, own.length))) {
          throw new EdgeaeError("bundle", `the graph context${i} does not give what it should`);
        }
        const half = part.phases === 2 ? phase : undefined;
        const stage = part.centered
          ? centeredStage(indices, middles as Int32Array, first, width, area, half, own)
          : symmetricStage(indices, first, width, area, half);
        decide(stage, known);
      }
      start += part.channels;
    }
    return known;
  }
}

function isWhole(data: unknown, length: number): data is Int32Array {
  return data instanceof Int32Array && data.length === length;
}

/** Calls `visit` with every flat place of a slice, or of one half of its checkerboard. */
function eachPlace(
  length: number,
  width: number,
  area: number,
  half: number | undefined,
  visit: (place: number) => void,
): void {
  if (half === undefined) {
    for (let place = 0; place < length; place++) visit(place);
    return;
  }
  for (let channel = 0; channel < length; channel += area) {
    for (let row = 0, begin = 0; begin < area; row++, begin += width) {
      for (let column = (row + half) & 1; column < width; column += 2) {
        visit(channel + begin + column);
      }
    }
  }
}

function scaleAt(indices: Int32Array, place: number): number {
  const scale = indices[place] as number;
  if (scale >= SCALES) {
    throw new EdgeaeError("bundle", `a context graph gives index ${scale}, allowed is ${SCALES - 1}`);
  }
  return scale;
}

function symmetricStage(
  indices: Int32Array,
  first: number,
  width: number,
  area: number,
  half: number | undefined,
): Stage {
  const places = new Int32Array(indices.length);
  const tables = new Uint16Array(indices.length);
  let count = 0;
  eachPlace(indices.length, width, area, half, (place) => {
    const scale = scaleAt(indices, place);
    if (scale <= 0) return;
    places[count] = first + place;
    tables[count++] = scale;
  });
  return { places: places.subarray(0, count), tables: tables.subarray(0, count) };
}

/** Also puts its center at every place of the phase, which is the symbol of those not coded. */
function centeredStage(
  indices: Int32Array,
  middles: Int32Array,
  first: number,
  width: number,
  area: number,
  half: number | undefined,
  own: Float32Array,
): Stage {
  const places = new Int32Array(indices.length);
  const tables = new Uint16Array(indices.length);
  const centers = new Int32Array(indices.length);
  const flipped = new Uint8Array(indices.length);
  let count = 0;
  eachPlace(indices.length, width, area, half, (place) => {
    const middle = middles[place] as number;
    const center = (middle + 4) >> 3;
    own[place] = center;
    const scale = scaleAt(indices, place);
    if (scale <= 0) return;
    const fraction = middle - 8 * center;
    places[count] = first + place;
    tables[count] = SCALES + scale * FRACTIONS + Math.abs(fraction);
    centers[count] = center;
    flipped[count++] = fraction < 0 ? 1 : 0;
  });
  return {
    places: places.subarray(0, count),
    tables: tables.subarray(0, count),
    centers: centers.subarray(0, count),
    flipped: flipped.subarray(0, count),
  };
}

/** The symbols (channels, height, width) of a coded block. */
export async function decodeBlock(
  model: ContextModel,
  height: number,
  width: number,
  level: number,
  decoder: BlockDecoder,
): Promise<Float32Array> {
  const unsigned: Int32Array[] = [];
  const symbols = await model.walk(height, width, level, (stage, known) => {
    const { places, centers, flipped } = stage;
    const values = decoder.take(stage.tables);
    if (centers && flipped) {
      for (let j = 0; j < values.length; j++) {
        const v = values[j] as number;
        const offset = v & 1 ? (v + 1) / 2 : -(v / 2);
        values[j] = (centers[j] as number) + (flipped[j] ? -offset : offset);
      }
    } else {
      unsigned.push(places.filter((_, j) => values[j] !== 0));
    }
    for (let j = 0; j < values.length; j++) {
      const value = values[j] as number;
      if (Math.abs(value) > SYMBOL_LIMIT) {
        throw damaged(`a coded block has a symbol beyond ${SYMBOL_LIMIT}`);
      }
      known[places[j] as number] = value;
    }
  });
  const negative = decoder.takeSigns(unsigned.reduce((sum, places) => sum + places.length, 0));
  let i = 0;
  for (const places of unsigned) {
    for (const place of places) {
      if (negative[i++]) symbols[place] = -(symbols[place] as number);
    }
  }
  return symbols;
}

/** Puts the symbols that `choose` gives into the encoder. */
export async function encodeBlock(
  model: ContextModel,
  height: number,
  width: number,
  level: number,
  encoder: BlockEncoder,
  choose: (stage: Stage) => Int32Array,
): Promise<void> {
  const signed: Int32Array[] = [];
  await model.walk(height, width, level, (stage, known) => {
    const { places, centers, flipped } = stage;
    const symbols = choose(stage);
    const values = new Int32Array(symbols.length);
    for (let j = 0; j < symbols.length; j++) {
      const symbol = symbols[j] as number;
      // A decoder has no signs of symmetric slices before the end, so the graphs see none here.
      known[places[j] as number] = centers ? symbol : Math.abs(symbol);
      if (centers && flipped) {
        const distance = symbol - (centers[j] as number);
        const offset = flipped[j] ? -distance : distance;
        values[j] = offset > 0 ? 2 * offset - 1 : -2 * offset;
      } else {
        values[j] = Math.abs(symbol);
      }
    }
    encoder.put(values, stage.tables);
    if (!centers) signed.push(symbols);
  });
  for (const symbols of signed) {
    for (const symbol of symbols) if (symbol) encoder.putSign(symbol < 0);
  }
}
