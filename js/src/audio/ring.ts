/**
 * Sound on its way between the audio thread and a worker: one side writes, the other reads. In
 * shared memory neither waits for the other; without it each side has its own ring.
 */

const HEADER_BYTES = 8;

export class Ring {
  readonly capacity: number;
  /** How many samples were written, modulo 2 ** 32. */
  readonly counter: Int32Array;
  private readonly data: readonly Float32Array[];

  /** The capacity is a power of two: positions go on through 2 ** 32. */
  constructor(memory: ArrayBufferLike, channels: number) {
    this.capacity = (memory.byteLength - HEADER_BYTES) / 4 / channels;
    this.counter = new Int32Array(memory, 0, 1);
    this.data = Array.from(
      { length: channels },
      (_, c) => new Float32Array(memory, HEADER_BYTES + 4 * c * this.capacity, this.capacity),
    );
  }

  static bytes(channels: number, capacity: number): number {
    return HEADER_BYTES + 4 * channels * capacity;
  }

  /** The position after the newest sample. */
  get end(): number {
    return Atomics.load(this.counter, 0);
  }

  /** How many samples were written since that position. */
  since(position: number): number {
    return (this.end - position) | 0;
  }

  write(block: readonly Float32Array[], count: number): void {
    const { data, capacity, counter } = this;
    const end = this.end;
    for (const [c, ring] of data.entries()) {
      const samples = block[c];
      for (let i = 0; i < count; i++) ring[(end + i) & (capacity - 1)] = samples?.[i] ?? 0;
    }
    Atomics.store(counter, 0, (end + count) | 0);
    Atomics.notify(counter, 0);
  }

  /** Copies the samples from a position on. */
  read(position: number, block: readonly Float32Array[], count: number): void {
    const { data, capacity } = this;
    for (const [c, samples] of block.entries()) {
      const ring = data[c]!;
      for (let i = 0; i < count; i++) samples[i] = ring[(position + i) & (capacity - 1)]!;
    }
  }
}
