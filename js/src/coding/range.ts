/**
 * Range coding in one lane, for the small blocks of signals: section 13 of docs/FORMAT.md. The
 * range has up to 48 bits, so that doubles hold every number exactly.
 */

import { damaged } from "../errors.js";
import { ALPHABET, ESCAPE } from "./tables.js";

const TOTAL = 2 ** 16;
const TOP = 2 ** 48;
const LEAST = 2 ** 40;
const FIRST_BYTES = 6;
// What lies beyond the last symbol of a table: its length in so many bits, then itself.
const LENGTH_BITS = 6;
// Plain bits are coded so many at a time.
const PART_BITS = 12;
const MAX_SHIFT = 40;

/** Frequencies of symbols, for values from 0. */
export interface FineTables {
  /** Running sums with the total at their end, flat: table * 65 + symbol. */
  readonly ends: Uint32Array;
  /** How many plain bits each value of a table has. */
  readonly shifts: Uint8Array;
}

/** The tables of their bytes: 64 frequencies of 16 bits each, then the shifts. */
export function fineTables(data: Uint8Array, count: number): FineTables | undefined {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const shifts = data.slice(2 * count * ALPHABET, (2 * ALPHABET + 1) * count);
  const ends = new Uint32Array(count * (ALPHABET + 1));
  for (let table = 0; table < count; table++) {
    let sum = 0;
    for (let symbol = 0; symbol < ALPHABET; symbol++) {
      const frequency = view.getUint16(2 * (table * ALPHABET + symbol), true);
      if (!frequency) return undefined;
      sum += frequency;
      ends[table * (ALPHABET + 1) + symbol + 1] = sum;
    }
    if (sum !== TOTAL || shifts[table]! > MAX_SHIFT) return undefined;
  }
  return { ends, shifts };
}

/** Takes the values of one block, in the order in which they were put. */
export class RangeDecoder {
  private code = 0;
  private width = TOP;
  private position = FIRST_BYTES;

  constructor(
    private readonly tables: FineTables,
    private readonly data: Uint8Array,
  ) {
    if (data[data.length - 1] === 0) throw damaged("a coded block ends in a zero");
    // Beyond the end of a block there are zeros.
    for (let i = 0; i < FIRST_BYTES; i++) this.code = this.code * 256 + (data[i] ?? 0);
  }

  /** The next value, by its table; beyond 2 ** 53 it is not exact, and no writer's. */
  take(table: number): number {
    const { ends, shifts } = this.tables;
    const first = table * (ALPHABET + 1);
    const part = Math.floor(this.width / TOTAL);
    const slot = Math.floor(this.code / part);
    if (slot >= TOTAL) stray();
    // Values near zero are most of them.
    let at = first;
    while (slot >= ends[at + 1]!) at++;
    this.drop(part, ends[at + 1]! - ends[at]!, ends[at]!);
    let symbol = at - first;
    if (symbol === ESCAPE) symbol += this.bits(this.bits(LENGTH_BITS));
    const shift = shifts[table]!;
    return shift ? symbol * 2 ** shift + this.bits(shift) : symbol;
  }

  /** The next value of so many bits, all equally likely. */
  bits(count: number): number {
    let value = 0;
    for (let place = 0; place < count; place += PART_BITS) {
      const some = 2 ** Math.min(PART_BITS, count - place);
      const frequency = TOTAL / some;
      const part = Math.floor(this.width / TOTAL);
      const found = Math.floor(Math.floor(this.code / part) / frequency);
      if (found >= some) stray();
      this.drop(part, frequency, found * frequency);
      value += found * 2 ** place;
    }
    return value;
  }

  /** Checks that the block ends here. */
  finish(): void {
    if (this.position < this.data.length || this.code >= this.width) {
      throw damaged("a coded block is longer than what it holds");
    }
  }

  private drop(part: number, frequency: number, start: number): void {
    this.code -= part * start;
    this.width = part * frequency;
    while (this.width <= LEAST) {
      this.code = this.code * 256 + (this.data[this.position++] ?? 0);
      this.width *= 256;
    }
  }
}

function stray(): never {
  throw damaged("a coded block holds a number that no writer makes");
}
