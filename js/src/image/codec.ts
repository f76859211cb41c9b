/** The picture codec: bytes to pictures and back, through one bundle. */

import { asBytes, fromHex, hex, startsWith } from "../bytes.js";
import type { Bundle } from "../bundle.js";
import { BlockDecoder, BlockEncoder } from "../coding/block.js";
import { ContextModel, decodeBlock, encodeBlock } from "../coding/context.js";
import { finestThatFits, levelOf, qualityOf } from "../coding/quality.js";
import type { Rounding } from "../coding/rounding.js";
import { quantized, rounded, rounding } from "../coding/rounding.js";
import type { Tables } from "../coding/tables.js";
import { LEVELS, readTables } from "../coding/tables.js";
import { damaged, EdgeaeError } from "../errors.js";
import type { Runtime } from "../session.js";
import { floats, Graph } from "../session.js";
import { packAlpha, unpackAlpha } from "./alpha.js";
import type { Content, Metadata } from "./container.js";
import { readFile, readHeader, salvage, writeFile } from "./container.js";
import { compressExact, decompressExact, exactHeader, exactMetadata, isExact } from "./exact.js";
import type { Size } from "./grid.js";
import { all, cut, lostOf, paste, widened } from "./grid.js";
import type { Header, Limits } from "./header.js";
import { FILE_LIMITS, PACKET_LIMITS } from "./header.js";
import type { LatentSpec } from "./latent.js";
import { latentSpec } from "./latent.js";
import type { PacketHeader, Received } from "./packets.js";
import { gather, overheadBytes, writePackets } from "./packets.js";
import type { Picture } from "./picture.js";
import { checkedPicture, newPicture, transparency } from "./picture.js";
import { dequantize, paint, planesOf } from "./planes.js";
import type { Area, Tile } from "./tiles.js";
import { overlap, scaled, tileCount, tilesOf, touches } from "./tiles.js";
import type { DecompressOptions } from "./window.js";
import { checkProportion, isOutOfProportion, roomFor, windowOf } from "./window.js";

const DEFAULT_QUALITY = 5;
// What a few bytes may leave to concealment whatever their number: see Limits.
const CONCEALED_PIXELS = 2 ** 20;

export interface CompressOptions extends Metadata {
  /** 1 (smallest) to 9 in steps of an eighth; 5 if neither this nor `maxBytes` is given. */
  readonly quality?: number | undefined;
  /** The finest level whose file is not larger; the network runs only once. */
  readonly maxBytes?: number | undefined;
  /** Write a gray picture, of the mean of the three colors: it says so when it is read. */
  readonly gray?: boolean | undefined;
  /** Keep every pixel, as text, line art and fine patterns need it; see `compressExact`. */
  readonly lossless?: boolean | undefined;
}

export interface PacketOptions {
  /** What the largest packet may have. */
  readonly maxPacketBytes: number;
  /** 1 to 9, 5 by default. */
  readonly quality?: number | undefined;
  /** 0 to 255: count it up so that pictures that follow each other are told apart. */
  readonly number?: number | undefined;
}

/** A picture of which parts may be lost. */
export interface Concealed {
  readonly image: Picture;
  /** (height, width): 1 wherever a pixel may not be what the undamaged bytes hold. */
  readonly mask: Uint8Array;
}

/** What a file says of itself. */
export interface FileInfo {
  readonly width: number;
  readonly height: number;
  /** 4 with transparency, 3 in color, 1 or 0 gray. */
  readonly channels: number;
  /** Undefined if the picture is kept exactly. */
  readonly quality: number | undefined;
  /** Hexadecimal: 16 bytes, the first 4 of them in the small form, empty if no codec is needed. */
  readonly codecId: string;
  /** Whether every pixel is kept: `decompressExact` reads the file without a codec. */
  readonly lossless: boolean;
}

/** The header of an .eae file, of which only the beginning need be there. */
export function info(bytes: Uint8Array | ArrayBuffer): FileInfo {
  const data = asBytes(bytes);
  const lossless = isExact(data);
  const header = (lossless ? exactHeader : readHeader)(data, FILE_LIMITS);
  const { width, height, channels, level, codecId } = header;
  const quality = lossless ? undefined : qualityOf(level);
  return { width, height, channels, quality, codecId: hex(codecId), lossless };
}

/** The EXIF and XMP of a whole file, of which no tile is decoded. */
export function metadata(bytes: Uint8Array | ArrayBuffer): Metadata {
  const data = asBytes(bytes);
  const { exif, xmp } = (isExact(data) ? exactMetadata : readFile)(data, FILE_LIMITS);
  return { exif: exif?.slice(), xmp: xmp?.slice() };
}

/** A learned picture codec; many calls may be under way at a time. */
export class ImageCodec {
  private readonly id: Uint8Array;
  private readonly worth: Rounding;
  private encoder: Promise<Graph> | undefined;

  private constructor(
    readonly bundle: Bundle,
    private readonly runtime: Runtime,
    private readonly precision: string | undefined,
    private readonly spec: LatentSpec,
    private readonly tables: Tables,
    private readonly decoder: Graph,
    private readonly contexts: readonly Graph[],
    private readonly context: ContextModel,
  ) {
    this.id = fromHex(bundle.manifest.codecId);
    this.worth = rounding(tables);
  }

  /** Fetches what a reader needs; the encoder's graph follows with the first picture to write. */
  static async open(bundle: Bundle, runtime: Runtime, precision?: string): Promise<ImageCodec> {
    const { manifest } = bundle;
    if (manifest.task !== "codec" || manifest.layout["kind"] !== "image") {
      throw new EdgeaeError("bundle", `${manifest.name} is no codec of pictures`);
    }
    if (!/^[0-9a-f]{32}$/.test(manifest.codecId)) {
      throw new EdgeaeError("bundle", `${manifest.name} has no codec id`);
    }
    const spec = latentSpec(bundle);
    const [tables, decoder, ...contexts] = await Promise.all([
      bundle.read(bundle.fileEntry("tables.bin")),
      Graph.of(bundle, runtime, "decoder", precision),
      // Exact integers in float32, whatever the precision of the others.
      ...spec.slices.map((_, i) => Graph.of(bundle, runtime, `context${i}`, "fp32")),
    ]);
    return new ImageCodec(
      bundle,
      runtime,
      precision,
      spec,
      readTables(tables, spec.channels),
      decoder,
      contexts,
      new ContextModel(spec.slices, contexts),
    );
  }

  /** The picture of an .eae file. */
  async decompress(
    bytes: Uint8Array | ArrayBuffer,
    options: DecompressOptions = {},
  ): Promise<Picture> {
    const data = asBytes(bytes);
    if (isExact(data)) return decompressExact(data, options);
    const limits = { ...FILE_LIMITS, ...options.limits };
    const content = readFile(data, limits);
    const { header, blocks } = content;
    this.checkId(header.codecId);
    const expected = this.tileCount(header, this.spec.tile);
    if (blocks.size !== expected) {
      throw damaged(`the file has ${blocks.size} tiles, expected ${expected}`);
    }
    return (await this.restore(content, data.length, options.region, limits)).image;
  }

  /**
   * What is left of a damaged .eae file. Lost tiles become a plain color; lost transparency becomes
   * opaque and masks everything. A file of the small form, or of the exact one, is one piece, whole
   * or nothing.
   */
  async conceal(
    bytes: Uint8Array | ArrayBuffer,
    options: DecompressOptions = {},
  ): Promise<Concealed> {
    const data = asBytes(bytes);
    if (isExact(data)) {
      const image = decompressExact(data, options);
      return { image, mask: new Uint8Array(image.width * image.height) };
    }
    const limits = { ...FILE_LIMITS, ...options.limits };
    const content = salvage(data, limits);
    this.checkId(content.header.codecId);
    const { image, window, lost } = await this.restore(content, data.length, options.region, limits);
    const mask = this.touched(lost, content.header, window);
    if (content.header.channels === 4 && content.alpha === undefined) mask.fill(1);
    return { image, mask };
  }

  /** The bytes of a picture, as an .eae file holds them; transparency is kept exactly. */
  async compress(image: Picture, options: CompressOptions = {}): Promise<Uint8Array> {
    const { quality, maxBytes, gray = false, lossless = false, exif, xmp } = options;
    const { width, height } = checkedPicture(image);
    if ([quality !== undefined, maxBytes !== undefined, lossless].filter(Boolean).length > 1) {
      throw new TypeError("give one of quality, maxBytes and lossless");
    }
    if (lossless) return await compressExact(image, options);
    const alpha = gray ? undefined : transparency(image);
    const packed = alpha && (await packAlpha(alpha, width));
    const channels = gray ? 0 : alpha ? 4 : 3;
    const kept: Part[] = [];
    for await (const part of this.analyze(image, gray)) kept.push(part);

    const write = async (level: number): Promise<Uint8Array> => {
      const blocks: Uint8Array[] = [];
      for (const part of kept) blocks.push(await this.code(part, level));
      const header = { codecId: this.id, level, height, width, channels };
      return writeFile(header, blocks, { alpha: packed, exif, xmp });
    };
    const file =
      maxBytes === undefined
        ? await write(levelOf(quality ?? DEFAULT_QUALITY))
        : await finestThatFits(write, maxBytes);
    if (isOutOfProportion(width * height, file.length, FILE_LIMITS)) {
      throw new RangeError("no reader would take the file: too many pixels for its few bytes");
    }
    return file;
  }

  /**
   * The picture in packets, any of which may be lost: see `receive`. Tiles are as large as fit into
   * a packet, by powers of two; smaller ones cost more bytes. Transparency is refused.
   */
  async packets(image: Picture, options: PacketOptions): Promise<Uint8Array[]> {
    const { maxPacketBytes, quality = DEFAULT_QUALITY, number = 0 } = options;
    const { width, height } = checkedPicture(image);
    if (transparency(image)) throw new RangeError("packets hold no transparency");
    if (width * height > PACKET_LIMITS.pixels) {
      throw new RangeError(`packets hold ${PACKET_LIMITS.pixels} pixels, not ${width} x ${height}`);
    }
    if (!Number.isInteger(number) || number < 0 || number > 255) {
      throw new RangeError(`number is ${number}, expected 0 to 255`);
    }
    if (!(maxPacketBytes >= 1)) {
      throw new RangeError(`maxPacketBytes is ${maxPacketBytes}, expected at least 1`);
    }
    const level = levelOf(quality);
    const header = { codecId: this.id, level, height, width, channels: 3 };
    const grid = this.grid(header);
    const latents = new Float32Array(this.spec.channels * grid.height * grid.width);
    for await (const { tile, latents: part } of this.analyze(image, false)) {
      paste(part, tile, latents, grid, this.spec.channels);
    }
    for (let sideLog2 = Math.floor(Math.log2(this.spec.tile)); sideLog2 >= 0; sideLog2--) {
      const made = { picture: header, number, sideLog2 };
      const count = this.tileCount(header, 2 ** sideLog2);
      if (count > PACKET_LIMITS.chunks) {
        throw new RangeError(
          `maxPacketBytes is ${maxPacketBytes}, which would take ${count} tiles: ` +
            `expected at most ${PACKET_LIMITS.chunks}`,
        );
      }
      const blocks = await this.codeAll(latents, made, maxPacketBytes - overheadBytes(made, count));
      if (blocks) return writePackets(made, blocks, Math.floor(maxPacketBytes));
    }
    throw new RangeError(`not even a tile of one latent fits into ${maxPacketBytes} bytes`);
  }

  /**
   * The picture of the packets that arrived. They may be lost, doubled, damaged and in any order;
   * where there are several pictures, that of the most packets is taken.
   */
  async receive(
    packets: Iterable<Uint8Array | ArrayBuffer>,
    options: { readonly limits?: Partial<Limits> | undefined } = {},
  ): Promise<Concealed> {
    const limits = { ...PACKET_LIMITS, ...options.limits };
    const { header, blocks, bytes } = this.gather(packets, limits);
    const { picture } = header;
    const side = 2 ** header.sideLog2;
    this.checkLoss(picture, side, blocks, bytes, limits);
    const layout = this.layout(picture, side, limits);
    const grid = this.grid(picture);
    const symbols = new Int16Array(this.spec.channels * grid.height * grid.width);
    for (const [i, block] of blocks) {
      const tile = layout[i] as Tile;
      const part = Int16Array.from(await this.decodeBlock(block, tile, picture.level));
      paste(part, tile, symbols, grid, this.spec.channels);
    }
    const lost = lostOf(layout, blocks, grid);
    const { tile: rowSide, channels } = this.spec;
    const rows = (row: number): Promise<Int16Array> => {
      const top = row * rowSide;
      const height = Math.min(rowSide, grid.height - top);
      const area = { top, left: 0, height, width: grid.width };
      return Promise.resolve(cut(symbols, grid, area, channels));
    };
    const window = { top: 0, left: 0, height: picture.height, width: picture.width };
    const data = await this.synthesize(rows, picture, window, lost);
    const image = newPicture(data, window.width, window.height);
    return { image, mask: this.touched(lost, picture, window) };
  }

  /** Frees the runtime's memory. The codec cannot be used after that. */
  async close(): Promise<void> {
    const encoder = this.encoder ? [await this.encoder] : [];
    await Promise.all([this.decoder, ...this.contexts, ...encoder].map((graph) => graph.close()));
  }

  /** @internal The symbols (channels, h, w) of a file or of all its packets, for tests. */
  async symbols(files: readonly Uint8Array[]): Promise<Int32Array> {
    const [first] = files;
    const isFile = first?.[0] === 0x89;
    const content = isFile ? readFile(first, FILE_LIMITS) : undefined;
    const gathered = isFile ? undefined : this.gather(files, PACKET_LIMITS);
    const header = (content?.header ?? gathered?.header.picture) as Header;
    const side = gathered ? 2 ** gathered.header.sideLog2 : this.spec.tile;
    const grid = this.grid(header);
    const symbols = new Int32Array(this.spec.channels * grid.height * grid.width);
    const layout = this.layout(header, side, FILE_LIMITS);
    for (const [i, block] of content?.blocks ?? gathered?.blocks ?? []) {
      const tile = layout[i] as Tile;
      const part = Int32Array.from(await this.decodeBlock(block, tile, header.level));
      paste(part, tile, symbols, grid, this.spec.channels);
    }
    return symbols;
  }

  private async restore(
    content: Content,
    bytes: number,
    region: Area | undefined,
    limits: Limits,
  ): Promise<{ image: Picture; window: Area; lost: Uint8Array }> {
    const { header, blocks, alpha } = content;
    const window = windowOf(region, header);
    checkProportion(window, bytes, limits);
    this.checkLoss(header, this.spec.tile, blocks, bytes, limits);
    const layout = this.layout(header, this.spec.tile, limits);
    const lost = lostOf(layout, blocks, this.grid(header));
    const needed = this.needed(layout, window);
    const rows = (row: number) => this.rowOfSymbols(row, layout, blocks, needed, header);
    const data = await this.synthesize(rows, header, window, lost);
    if (alpha !== undefined) {
      // After the tiles: a kilobyte of it can unpack to a megabyte.
      const plane = unpackAlpha(alpha, header.height, header.width);
      for (let row = 0, i = 3; row < window.height; row++) {
        const begin = (window.top + row) * header.width + window.left;
        for (let column = 0; column < window.width; column++, i += 4) {
          data[i] = plane[begin + column] as number;
        }
      }
    }
    return { image: newPicture(data, window.width, window.height), window, lost };
  }

  private async rowOfSymbols(
    row: number,
    layout: readonly Tile[],
    blocks: ReadonlyMap<number, Uint8Array>,
    needed: (tile: Tile) => boolean,
    header: Header,
  ): Promise<Int16Array> {
    const { width } = this.grid(header);
    const columns = Math.ceil(width / this.spec.tile);
    const tiles = layout.slice(row * columns, (row + 1) * columns);
    const { top, height } = tiles[0] as Tile;
    const symbols = new Int16Array(this.spec.channels * height * width);
    for (const [column, tile] of tiles.entries()) {
      const block = blocks.get(row * columns + column);
      if (block === undefined || !needed(tile)) continue;
      const part = Int16Array.from(await this.decodeBlock(block, tile, header.level));
      paste(part, { ...tile, top: tile.top - top }, symbols, { height, width }, this.spec.channels);
    }
    return symbols;
  }

  /** RGBA of the window, opaque, from rows of tiles that are made when they are first needed. */
  private async synthesize(
    rowOfSymbols: (row: number) => Promise<Int16Array>,
    header: Header,
    window: Area,
    lost: Uint8Array,
  ): Promise<Uint8ClampedArray> {
    const { stride, tile: side, decoderHalo: halo, channels } = this.spec;
    const grid = this.grid(header);
    const rows = new Map<number, Int16Array>();
    const steps = this.stepsOf(header.level);
    const level = { data: Float32Array.of(header.level / (LEVELS - 1)), dims: [1, 1, 1, 1] };
    // Where all that a tile sees is lost it is worked out once for each shape.
    const neutral = new Map<string, Float32Array>();
    let data: Uint8ClampedArray | undefined;
    for (const tile of tilesOf(grid.height, grid.width, side, halo)) {
      const whole = scaled(tile, stride);
      if (!touches(whole, window)) continue;
      const { seen } = tile;
      const first = Math.floor(seen.top / side);
      const last = Math.floor((seen.top + seen.height - 1) / side);
      for (let row = first; row <= last; row++) {
        if (!rows.has(row)) rows.set(row, await rowOfSymbols(row));
      }
      for (const row of rows.keys()) if (row < first) rows.delete(row);
      // A file whose first tiles are unsound is refused before there is room for its picture.
      data ??= roomFor(window);
      const unseen = all(lost, grid, seen);
      const view = [tile.height, tile.width, tile.top - seen.top, tile.left - seen.left];
      const key = [...view, seen.height, seen.width].join();
      let planes = unseen ? neutral.get(key) : undefined;
      if (!planes) {
        const latents = new Float32Array(channels * seen.height * seen.width);
        for (let row = first; row <= last; row++) {
          const height = Math.min(side, grid.height - row * side);
          dequantize(rows.get(row)!, { top: row * side, height }, grid.width, seen, steps, latents);
        }
        const dims = [1, channels, seen.height, seen.width];
        const [output] = await this.decoder.run([{ data: latents, dims }, level]);
        planes = floats(output, 3 * seen.height * seen.width * stride ** 2, this.decoder);
        if (unseen) neutral.set(key, planes);
      }
      paint(planes, scaled(seen, stride), overlap(whole, window), data, window, header.channels < 3);
    }
    return data as Uint8ClampedArray;
  }

  /** Every tile with its unquantized latents. */
  private async *analyze(image: Picture, gray: boolean): AsyncGenerator<Part> {
    const { stride, tile: side, encoderHalo, channels } = this.spec;
    this.encoder ??= Graph.of(this.bundle, this.runtime, "encoder", this.precision);
    // A file that did not come may come the next time.
    this.encoder.catch(() => (this.encoder = undefined));
    const encoder = await this.encoder;
    const grid = this.grid(image);
    for (const tile of tilesOf(grid.height, grid.width, side, encoderHalo)) {
      const { seen } = tile;
      const input = planesOf(image, scaled(seen, stride), gray);
      const dims = [1, 3, seen.height * stride, seen.width * stride];
      const [output] = await encoder.run([{ data: input, dims }]);
      const latents = floats(output, channels * seen.height * seen.width, encoder);
      const inner = { ...tile, top: tile.top - seen.top, left: tile.left - seen.left };
      yield { tile, latents: cut(latents, seen, inner, channels) };
    }
  }

  private async code({ tile, latents }: Part, level: number): Promise<Uint8Array> {
    const { height, width } = tile;
    const values = quantized(latents, this.stepsOf(level), height * width);
    const encoder = new BlockEncoder(this.tables);
    await encodeBlock(this.context, height, width, level, encoder, (stage) =>
      rounded(values, this.worth, stage),
    );
    return encoder.finish();
  }

  /** The blocks of all tiles, if each fits into the room. */
  private async codeAll(
    latents: Float32Array,
    { picture, sideLog2 }: PacketHeader,
    room: number,
  ): Promise<Uint8Array[] | undefined> {
    const grid = this.grid(picture);
    const blocks: Uint8Array[] = [];
    for (const tile of tilesOf(grid.height, grid.width, 2 ** sideLog2, 0)) {
      const part = { tile, latents: cut(latents, grid, tile, this.spec.channels) };
      const block = await this.code(part, picture.level);
      if (block.length > room) return undefined;
      blocks.push(block);
    }
    return blocks;
  }

  private async decodeBlock(block: Uint8Array, tile: Area, level: number): Promise<Float32Array> {
    const decoder = new BlockDecoder(this.tables, block);
    return await decodeBlock(this.context, tile.height, tile.width, level, decoder);
  }

  private gather(packets: Iterable<Uint8Array | ArrayBuffer>, limits: Limits): Received {
    // Larger tiles take many times the memory of the codec's own; no writer makes them.
    return gather(packets, this.id, this.spec.tile, limits);
  }

  private stepsOf(level: number): Float32Array {
    const { channels } = this.spec;
    return this.tables.steps.subarray(level * channels, (level + 1) * channels);
  }

  private grid({ height, width }: { height: number; width: number }): Size {
    const { stride } = this.spec;
    return { height: Math.ceil(height / stride), width: Math.ceil(width / stride) };
  }

  private tileCount(header: Header, side: number): number {
    const { height, width } = this.grid(header);
    return tileCount(height, width, side);
  }

  private layout(header: Header, side: number, limits: Limits): Tile[] {
    const count = this.tileCount(header, side);
    if (count > limits.chunks) {
      throw damaged(`the image has ${count} tiles, expected at most ${limits.chunks}`);
    }
    const { height, width } = this.grid(header);
    return [...tilesOf(height, width, side, this.spec.decoderHalo)];
  }

  private checkId(codecId: Uint8Array): void {
    if (startsWith(this.id, codecId)) return;
    const { name, codecId: own } = this.bundle.manifest;
    const found = hex(codecId);
    const message = `the file was written by codec ${found}, expected ${name}, ${own}`;
    throw new EdgeaeError("unknown-codec", message, found);
  }

  /** Refuses more loss than so many bytes may leave, before there is room for the picture. */
  private checkLoss(
    header: Header,
    side: number,
    blocks: ReadonlyMap<number, unknown>,
    bytes: number,
    limits: Limits,
  ): void {
    const count = this.tileCount(header, side);
    for (const i of blocks.keys()) {
      if (i >= count) throw damaged(`there is a tile ${i}, expected ${count} in all`);
    }
    const { height, width } = this.grid(header);
    // Tiles at the edges are smaller: at least so much is lost.
    const pixels = (height * width - blocks.size * side ** 2) * this.spec.stride ** 2;
    if (pixels > Math.max(CONCEALED_PIXELS, limits.concealedPixelsPerByte * bytes)) {
      throw damaged(`${pixels} pixels are lost, ${bytes} bytes are too few to conceal so many`);
    }
  }

  /** Which tiles decide the pixels of the window. */
  private needed(layout: readonly Tile[], window: Area): (tile: Tile) => boolean {
    const { stride } = this.spec;
    const shown = layout.filter((tile) => touches(scaled(tile, stride), window));
    const first = (shown[0] as Tile).seen;
    const last = (shown[shown.length - 1] as Tile).seen;
    // Tiles are in rows, so the first and the last span all that is seen.
    const { top, left } = first;
    const height = last.top + last.height - top;
    const width = last.left + last.width - left;
    return (tile) => touches(tile, { top, left, height, width });
  }

  /** The pixels of the window whose decoding sees a lost latent. */
  private touched(lost: Uint8Array, header: Header, window: Area): Uint8Array {
    const { stride, decoderHalo } = this.spec;
    const grid = this.grid(header);
    const wide = widened(lost, grid, decoderHalo);
    const mask = new Uint8Array(window.height * window.width);
    for (let row = 0, i = 0; row < window.height; row++) {
      const begin = Math.floor((window.top + row) / stride) * grid.width;
      for (let column = 0; column < window.width; column++) {
        mask[i++] = wide[begin + Math.floor((window.left + column) / stride)] as number;
      }
    }
    return mask;
  }
}

interface Part {
  readonly tile: Tile;
  readonly latents: Float32Array;
}
