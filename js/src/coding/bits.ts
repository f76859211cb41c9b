/** Bits of bytes, the highest of each byte first. */

import { damaged } from "../errors.js";

/** Collects numbers bit by bit; zero bits fill up the last byte. */
export class BitWriter {
  private bytes = new Uint8Array(64);
  private used = 0;

  /** Adds the lowest `count` bits of a number, highest first; `count` is at most 32. */
  put(value: number, count: number): void {
    while (this.used + count > 8 * this.bytes.length) {
      const larger = new Uint8Array(2 * this.bytes.length);
      larger.set(this.bytes);
      this.bytes = larger;
    }
    for (let bit = count - 1; bit >= 0; bit--, this.used++) {
      if ((value >>> bit) & 1) this.bytes[this.used >> 3]! |= 0x80 >> (this.used & 7);
    }
  }

  finish(): Uint8Array {
    return this.bytes.subarray(0, (this.used + 7) >> 3);
  }
}

/** Takes numbers from bytes, from the first on or, `backwards`, from the last. */
export class BitReader {
  position = 0;

  constructor(
    private readonly data: Uint8Array,
    private readonly backwards = false,
  ) {}

  /** The next `count` bits, at most 32, as a number, highest first. */
  take(count: number): number {
    const { data } = this;
    if (this.position + count > 8 * data.length) throw damaged("a coded block ends too early");
    let value = 0;
    for (let i = 0; i < count; i++, this.position++) {
      const byte = this.position >> 3;
      const bits = data[this.backwards ? data.length - 1 - byte : byte] as number;
      value = (value << 1) | ((bits >> (7 - (this.position & 7))) & 1);
    }
    return value >>> 0;
  }

  /** How many bytes were begun. */
  get bytes(): number {
    return (this.position + 7) >> 3;
  }
}
