/** A coded block's bytes, section 6 of docs/FORMAT.md: rANS in lanes, signs, open bits. */

import { concat } from "../bytes.js";
import { damaged } from "../errors.js";
import { BitReader, BitWriter } from "./bits.js";
import type { Tables } from "./tables.js";
import { ALPHABET, ESCAPE, ESCAPE_BITS, PRECISION_BITS } from "./tables.js";

const MAX_LANES_LOG2 = 9;
const SYMBOLS_PER_LANE_LOG2 = 9;
const SLOT = (1 << PRECISION_BITS) - 1;
const LOWEST = 2 ** 16;

/** How many lanes a block of so many symbols is worth, as a power of two. */
function lanesLog2(symbols: number): number {
  const log2 = symbols ? 31 - Math.clz32(symbols) : 0;
  return Math.max(0, Math.min(MAX_LANES_LOG2, log2 - SYMBOLS_PER_LANE_LOG2));
}

/** Takes the stages of one block in the order in which they were put. */
export class BlockDecoder {
  private readonly states: Uint32Array;
  private readonly open: BitReader;
  private readonly body: Uint8Array;
  private readonly log2: number;
  private at = 0;
  private count = 0;

  constructor(
    private readonly tables: Tables,
    block: Uint8Array,
  ) {
    const log2 = block[0];
    if (log2 === undefined || log2 > MAX_LANES_LOG2) {
      throw damaged("a coded block is empty or asks for too many lanes");
    }
    this.log2 = log2;
    const bits = new BitReader(block.subarray(1));
    this.states = new Uint32Array(1 << log2);
    for (let lane = 0; lane < this.states.length; lane++) {
      const length = 16 + bits.take(4);
      this.states[lane] = 2 ** length + bits.take(length);
    }
    this.body = block.subarray(1 + bits.bytes);
    this.open = new BitReader(this.body, true);
  }

  /** The values of the next stage, given the table of each. */
  take(stage: Uint16Array): Int32Array {
    // One lane for a million symbols has nothing of lanes, and no writer makes it.
    this.count += stage.length;
    if (lanesLog2(this.count) > this.log2) {
      throw damaged("a coded block has too few lanes for its symbols");
    }
    const { frequencies, starts, symbols, shifts } = this.tables;
    const { states, body } = this;
    const mask = states.length - 1;
    const values = new Int32Array(stage.length);
    for (let j = 0; j < stage.length; j++) {
      const table = stage[j] as number;
      let x = states[j & mask] as number;
      const slot = x & SLOT;
      const symbol = symbols[(table << PRECISION_BITS) | slot] as number;
      const place = table * ALPHABET + symbol;
      const width = frequencies[place] as number;
      x = (x >>> PRECISION_BITS) * width + slot - (starts[place] as number);
      if (x < LOWEST) {
        if (this.at + 2 > body.length) throw damaged("a coded block ends too early");
        const word = (body[this.at] as number) | ((body[this.at + 1] as number) << 8);
        x = x * LOWEST + word;
        this.at += 2;
      }
      states[j & mask] = x;
      const shift = shifts[table] as number;
      let value = symbol;
      if (symbol === ESCAPE) {
        value = symbol * 2 ** shift + this.open.take(shift + ESCAPE_BITS);
      } else if (shift) {
        value = symbol * 2 ** shift + this.open.take(shift);
      }
      values[j] = value;
    }
    return values;
  }

  /** All signs, after all stages, 1 for negative; checks that the block ends here. */
  takeSigns(count: number): Uint8Array {
    const { states } = this;
    const inside = 16 * states.length;
    const rest = Math.max(0, count - inside);
    const end = this.at + ((rest + 7) >> 3);
    if (end + this.open.bytes !== this.body.length) {
      throw damaged("a coded block has another length than its content");
    }
    const more = new BitReader(this.body.subarray(this.at, end));
    const signs = new Uint8Array(count);
    for (let i = 0; i < inside; i++) {
      const state = states[i >> 4] as number;
      if (state >>> 16 !== 1) throw damaged("a coded block does not end in its starting state");
      const bit = (state >> (15 - (i & 15))) & 1;
      if (i < count) signs[i] = bit;
      else if (bit) throw damaged("a coded block has stray bits");
    }
    for (let i = inside; i < count; i++) signs[i] = more.take(1);
    while (more.position & 7) {
      if (more.take(1)) throw damaged("a coded block has stray bits");
    }
    return signs;
  }
}

/** Collects the stages of one block, then codes them backwards. */
export class BlockEncoder {
  /** table * 64 + symbol of each value of each stage. */
  private readonly stages: Uint16Array[] = [];
  private readonly open = new BitWriter();
  private readonly signs: number[] = [];

  constructor(private readonly tables: Tables) {}

  /** Adds a stage: values from 0, and the table of each. */
  put(values: Int32Array, stage: Uint16Array): void {
    const places = new Uint16Array(values.length);
    for (let j = 0; j < values.length; j++) {
      const table = stage[j] as number;
      const value = values[j] as number;
      const shift = this.tables.shifts[table] as number;
      const whole = value >> shift;
      const symbol = Math.min(whole, ESCAPE);
      if (symbol === ESCAPE) {
        if (whole - ESCAPE >= 1 << ESCAPE_BITS) throw new RangeError(`value ${value} is too large`);
        this.open.put(whole - ESCAPE, ESCAPE_BITS);
      }
      if (shift) this.open.put(value, shift);
      places[j] = table * ALPHABET + symbol;
    }
    this.stages.push(places);
  }

  /** Adds the sign of a value; the decoder gets all signs after all stages. */
  putSign(negative: boolean): void {
    this.signs.push(negative ? 1 : 0);
  }

  finish(): Uint8Array {
    const { frequencies, starts } = this.tables;
    const log2 = lanesLog2(this.stages.reduce((sum, stage) => sum + stage.length, 0));
    const states = new Uint32Array(1 << log2);
    const mask = states.length - 1;
    const inside = 16 * states.length;
    for (let lane = 0; lane < states.length; lane++) {
      let state = LOWEST;
      for (let i = 0; i < 16; i++) state |= (this.signs[16 * lane + i] ?? 0) << (15 - i);
      states[lane] = state;
    }
    const words: number[] = [];
    for (const stage of this.stages.reverse()) {
      for (let j = stage.length - 1; j >= 0; j--) {
        const place = stage[j] as number;
        const width = frequencies[place] as number;
        let x = states[j & mask] as number;
        if (x >= width * 2 ** (32 - PRECISION_BITS)) {
          words.push(x & 0xffff);
          x >>>= 16;
        }
        const quotient = Math.floor(x / width);
        states[j & mask] = quotient * 2 ** PRECISION_BITS + (x - quotient * width) + starts[place]!;
      }
    }
    const header = new BitWriter();
    for (const state of states) {
      const length = 31 - Math.clz32(state);
      header.put(length - 16, 4);
      header.put(state, length);
    }
    const wordBytes = new Uint8Array(2 * words.length);
    words.reverse().forEach((word, i) => {
      wordBytes[2 * i] = word;
      wordBytes[2 * i + 1] = word >> 8;
    });
    const rest = new BitWriter();
    for (const sign of this.signs.slice(inside)) rest.put(sign, 1);
    return concat([
      Uint8Array.of(log2),
      header.finish(),
      wordBytes,
      rest.finish(),
      this.open.finish().slice().reverse(),
    ]);
  }
}
