/** The signal codec, as far as it reads: files and packets to samples, through one bundle. */

import { asBytes, fromHex, hex, newBytes, startsWith } from "../bytes.js";
import type { Bundle } from "../bundle.js";
import { qualityOf } from "../coding/quality.js";
import { RangeDecoder } from "../coding/range.js";
import { LEVELS } from "../coding/tables.js";
import { EdgeaeError } from "../errors.js";
import type { Runtime } from "../session.js";
import { floats, Graph } from "../session.js";
import { SignalContexts } from "./contexts.js";
import { ExactReader } from "./exact.js";
import type { SignalContent } from "./file.js";
import { readSignalFile, readSignalHeader, splitBlock } from "./file.js";
import type { Dtype, SignalHeader, SignalLimits } from "./header.js";
import { SIGNAL_LIMITS, STRIDE } from "./header.js";
import type { LatentSpec, SignalTables } from "./latent.js";
import { signalSpec, signalTables } from "./latent.js";
import { gatherSignal } from "./packets.js";
import type { Samples } from "./samples.js";
import { samplesOf } from "./samples.js";

// Steps that go through the decoder at once: 65,536 samples.
const PIECE_STEPS = 4096;

export interface SignalOptions {
  readonly limits?: Partial<SignalLimits> | undefined;
}

/** A signal as it was given to be compressed. */
export interface Signal {
  /** The samples of each lead: an Int16Array of "int16" and so on. */
  readonly leads: readonly Samples[];
  readonly dtype: Dtype;
  /** In Hz. */
  readonly sampleRate: number;
  /** Of the leads; empty if the file says none. */
  readonly names: readonly string[];
  /** What samples are counted in, of each lead; empty if the file says none. */
  readonly units: readonly string[];
}

/** A signal of which parts may be lost. */
export interface ReceivedLeads {
  readonly signal: Signal;
  /** (samples,): 1 wherever a sample may not be what all packets would give. */
  readonly mask: Uint8Array;
}

/** What a file says of itself. */
export interface SignalInfo {
  /** Of each lead. */
  readonly samples: number;
  readonly leads: number;
  readonly dtype: Dtype;
  /** In Hz. */
  readonly sampleRate: number;
  /** Whether samples are coded as whole numbers, not by the latent. */
  readonly exact: boolean;
  /** Undefined if samples are coded as whole numbers. */
  readonly quality: number | undefined;
  /** Hexadecimal: 16 bytes, or the first 4 of them in the small form. */
  readonly codecId: string;
}

/** The header of a signal's .eae file, of which only the beginning need be there. */
export function signalInfo(bytes: Uint8Array | ArrayBuffer): SignalInfo {
  const header = readSignalHeader(asBytes(bytes), SIGNAL_LIMITS);
  const { samples, channels, dtype, sampleRate, exact, level, codecId } = header;
  const quality = exact ? undefined : qualityOf(level);
  return { samples, leads: channels, dtype, sampleRate, exact, quality, codecId: hex(codecId) };
}

/** A learned codec of sensor signals that reads; many calls may be under way at a time. */
export class SignalCodec {
  private readonly id: Uint8Array;
  private readonly contexts: SignalContexts;

  private constructor(
    readonly bundle: Bundle,
    private readonly spec: LatentSpec,
    private readonly tables: SignalTables,
    private readonly decoder: Graph,
    private readonly graphs: readonly Graph[],
  ) {
    this.id = fromHex(bundle.manifest.codecId);
    this.contexts = new SignalContexts(spec, graphs);
  }

  static async open(bundle: Bundle, runtime: Runtime, precision?: string): Promise<SignalCodec> {
    const { manifest } = bundle;
    if (manifest.task !== "codec" || manifest.layout["kind"] !== "signal") {
      throw new EdgeaeError("bundle", `${manifest.name} is no codec of signals`);
    }
    if (!/^[0-9a-f]{32}$/.test(manifest.codecId)) {
      throw new EdgeaeError("bundle", `${manifest.name} has no codec id`);
    }
    const spec = signalSpec(bundle);
    const [tables, decoder, ...contexts] = await Promise.all([
      bundle.read(bundle.fileEntry("tables.bin")),
      Graph.of(bundle, runtime, "decoder", precision),
      // Exact integers in float32, whatever the precision of the others.
      ...Array.from({ length: 1 + spec.slices.length }, (_, i) =>
        Graph.of(bundle, runtime, `context${i}`, "fp32"),
      ),
    ]);
    return new SignalCodec(bundle, spec, signalTables(tables, spec.channels), decoder, contexts);
  }

  /** The signal of an .eae file. */
  async decompress(
    bytes: Uint8Array | ArrayBuffer,
    options: SignalOptions = {},
  ): Promise<Signal> {
    const content = readSignalFile(asBytes(bytes), { ...SIGNAL_LIMITS, ...options.limits });
    const { header, names, units } = content;
    this.checkId(header.codecId);
    if (header.exact) return { ...signalOf(header, this.exact(content)), names, units };
    const symbols = await this.latent(content);
    return { ...signalOf(header, await this.synthesize(symbols, header)), names, units };
  }

  /**
   * The signal of the packets that arrived. They may be lost, doubled, damaged and about 60 places
   * from their own; only the one that opens the signal must be there. Where a block leans on one that
   * is lost, all is lost up to the next that stands alone. What is lost is the middle of its lead.
   */
  async receive(
    packets: Iterable<Uint8Array | ArrayBuffer>,
    options: SignalOptions = {},
  ): Promise<ReceivedLeads> {
    const limits = { ...SIGNAL_LIMITS, ...options.limits };
    const received = gatherSignal(packets, this.id, limits);
    const { blocks, count } = received;
    const { blockSteps } = received.header;
    const header = {
      ...received.header,
      samples: received.header.samples || count * blockSteps * STRIDE,
    };
    const symbols = this.newSymbols(header);
    const lost = new Uint8Array(Math.ceil(header.samples / STRIDE)).fill(1);
    const next = this.reader(header, symbols);
    // Without further keys only the first block stands alone.
    const every = header.keyBlocks || Infinity;
    let expected = -1;
    for (const [number, block] of [...blocks].sort(([one], [other]) => one - other)) {
      if (number % every && number !== expected) continue;
      await next(number, block);
      lost.fill(0, number * blockSteps, (number + 1) * blockSteps);
      expected = number + 1;
    }
    const signal = signalOf(header, await this.synthesize(symbols, header));
    return { signal, mask: spread(lost, this.spec.decoderHalo, header.samples) };
  }

  /** Frees the runtime's memory. The codec cannot be used after that. */
  async close(): Promise<void> {
    await Promise.all([this.decoder, ...this.graphs].map((graph) => graph.close()));
  }

  /** @internal The symbols (leads, channels, steps) of a file, for tests. */
  async symbols(bytes: Uint8Array): Promise<Int32Array> {
    const found = await this.latent(readSignalFile(bytes, SIGNAL_LIMITS));
    return Int32Array.from(found.flatMap((lead) => Array.from(lead)));
  }

  private async latent({ header, blocks }: SignalContent): Promise<Int16Array[]> {
    const symbols = this.newSymbols(header);
    const next = this.reader(header, symbols);
    for (const [number, block] of blocks.entries()) await next(number, block);
    return symbols;
  }

  /** The symbols (channels, steps) of each lead, zeros. */
  private newSymbols({ channels, samples }: SignalHeader): Int16Array[] {
    const length = this.spec.channels * Math.ceil(samples / STRIDE);
    return Array.from({ length: channels }, () => new Int16Array(newBytes(2 * length).buffer));
  }

  /** Writes the symbols of blocks, which come in their order. */
  private reader(
    { channels, samples, level, blockSteps, keyBlocks }: SignalHeader,
    symbols: readonly Int16Array[],
  ): (number: number, block: Uint8Array) => Promise<void> {
    const total = Math.ceil(samples / STRIDE);
    const fresh = () => Array.from({ length: channels }, () => this.contexts.past());
    let pasts = fresh();
    return async (number, block) => {
      if (keyBlocks && number % keyBlocks === 0) pasts = fresh();
      const first = number * blockSteps;
      const last = Math.min(total, first + blockSteps);
      for (const [lead, part] of splitBlock(block, channels).entries()) {
        const decoder = new RangeDecoder(this.tables.symbols, part);
        for (let step = first; step < last; step++) {
          const found = await this.contexts.step(pasts[lead]!, level, decoder);
          for (let c = 0; c < found.length; c++) symbols[lead]![c * total + step] = found[c]!;
        }
        decoder.finish();
      }
    };
  }

  /** The samples of each lead. */
  private async synthesize(
    symbols: readonly Int16Array[],
    header: SignalHeader,
  ): Promise<Samples[]> {
    const { samples, level, offsets, scales, dtype } = header;
    const { fround } = Math;
    const leads: Samples[] = [];
    for (const [lead, part] of symbols.entries()) {
      const values = await this.decode(part, level, samples);
      const [offset, scale] = [fround(offsets[lead]!), fround(scales[lead]!)];
      for (let i = 0; i < samples; i++) values[i] = fround(values[i]! * scale) + offset;
      leads.push(samplesOf(values, dtype));
    }
    return leads;
  }

  /** What the decoder makes of symbols (channels, steps). */
  private async decode(symbols: Int16Array, level: number, samples: number): Promise<Float32Array> {
    const { channels, phases, decoderHalo: halo } = this.spec;
    const steps = symbols.length / channels;
    const found = new Float32Array(newBytes(4 * steps * STRIDE).buffer);
    const setting = { data: Float32Array.of(level / (LEVELS - 1)), dims: [1, 1, 1, 1] };
    for (let begin = 0; begin < steps; begin += PIECE_STEPS) {
      const end = Math.min(steps, begin + PIECE_STEPS);
      const first = Math.max(0, begin - halo);
      const count = Math.min(steps, end + halo) - first;
      const latents = new Float32Array(channels * count);
      for (let i = 0; i < latents.length; i++) {
        const channel = Math.floor(i / count);
        const step = this.tables.steps[level * channels + channel]!;
        latents[i] = symbols[channel * steps + first + (i % count)]! * step;
      }
      const dims = [1, channels, 1, count];
      const [output] = await this.decoder.run([{ data: latents, dims }, setting]);
      const places = (count * STRIDE) / phases;
      const planes = floats(output, phases * places, this.decoder);
      for (let i = begin * STRIDE; i < end * STRIDE; i++) {
        const at = i - first * STRIDE;
        found[i] = planes[(at % phases) * places + Math.floor(at / phases)]!;
      }
    }
    return found.subarray(0, samples);
  }

  private exact({ header, blocks }: SignalContent): Samples[] {
    const { channels, samples, blockSteps, keyBlocks, offsets, scales, dtype } = header;
    const reader = new ExactReader(this.tables.exact, channels);
    const values = offsets.map(() => new Float64Array(newBytes(8 * samples).buffer));
    for (const [number, block] of blocks.entries()) {
      if (keyBlocks && number % keyBlocks === 0) reader.reset();
      const begin = number * blockSteps * STRIDE;
      const found = reader.read(Math.min(blockSteps * STRIDE, samples - begin), block);
      for (const [lead, part] of found.entries()) {
        const [offset, scale] = [offsets[lead]!, scales[lead]!];
        values[lead]!.set(
          part.map((value) => value * scale + offset),
          begin,
        );
      }
    }
    return values.map((lead) => samplesOf(lead, dtype));
  }

  private checkId(codecId: Uint8Array): void {
    if (startsWith(this.id, codecId)) return;
    const { name, codecId: own } = this.bundle.manifest;
    const found = hex(codecId);
    const message = `the file was written by codec ${found}, expected ${name}, ${own}`;
    throw new EdgeaeError("unknown-codec", message, found);
  }
}

function signalOf({ dtype, sampleRate }: SignalHeader, leads: readonly Samples[]): Signal {
  return { leads, dtype, sampleRate, names: [], units: [] };
}

/** The mask (samples,) of lost steps and of `halo` steps to each side of them. */
function spread(lost: Uint8Array, halo: number, samples: number): Uint8Array {
  const mask = new Uint8Array(samples);
  for (let step = 0; step < lost.length; step++) {
    if (lost[step]) mask.fill(1, Math.max(0, step - halo) * STRIDE, (step + halo + 1) * STRIDE);
  }
  return mask;
}
