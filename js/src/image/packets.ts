/** Pictures in packets that may be lost, doubled or reordered: section 3 of docs/FORMAT.md. */

import { asBytes, concat, crc32, readUint32, readVarint, uint32, varint } from "../bytes.js";
import { damaged, EdgeaeError } from "../errors.js";
import type { Header, Limits } from "./header.js";
import { checkBytes, checked, fromPictureCode, pictureCode } from "./header.js";

const MARK = 0xe0;
const MAX_SIDE_LOG2 = 10;
const CRC_BYTES = 4;

/** What all packets of one picture share. */
export interface PacketHeader {
  readonly picture: Header;
  /** 0 to 255. */
  readonly number: number;
  /** The tiles' side is 2 ** sideLog2 latents. */
  readonly sideLog2: number;
}

/** One packet: its tiles are `first`, `first + 1` and so on, one for each block. */
export interface Packet {
  readonly header: PacketHeader;
  readonly first: number;
  readonly blocks: readonly Uint8Array[];
}

/** What arrived of one image. */
export interface Received {
  readonly header: PacketHeader;
  /** By the number of their tile. */
  readonly blocks: Map<number, Uint8Array>;
  /** Of all its undamaged packets. */
  readonly bytes: number;
}

/** Packets with as many blocks each as fit, in the order of their tiles. Each block must fit. */
export function writePackets(
  header: PacketHeader,
  blocks: readonly Uint8Array[],
  maxPacketBytes: number,
): Uint8Array[] {
  const sizes = blocks.map((block) => block.length);
  const packets: Uint8Array[] = [];
  for (let first = 0, next: number; first < blocks.length; first = next) {
    const begin = concat([start(header), varint(first)]);
    let room = maxPacketBytes - begin.length - 1 - CRC_BYTES - (sizes[first] as number);
    for (next = first + 1; next < blocks.length; next++) {
      // What was the last block gets a length, and the next one takes its place.
      const last = sizes[next - 1] as number;
      room -= varint(last).length + (sizes[next] as number);
      if (room < 0) break;
    }
    const body = concat([
      begin,
      ...blocks.slice(first, next - 1).flatMap((block) => [varint(block.length), block]),
      Uint8Array.of(0),
      blocks[next - 1] as Uint8Array,
    ]);
    packets.push(concat([body, uint32(crc32(header.picture.codecId, body))]));
  }
  return packets;
}

/** The most that a packet of one block adds to it in a picture of so many tiles. */
export function overheadBytes(header: PacketHeader, tiles: number): number {
  return start(header).length + varint(tiles - 1).length + 1 + CRC_BYTES;
}

/** What a packet of this codec holds. */
export function readPacket(data: Uint8Array, codecId: Uint8Array, limits: Limits): Packet {
  checkBytes(data, limits);
  const [mark, number, code] = data;
  if (mark === undefined || number === undefined || code === undefined) {
    throw damaged("a packet is cut off");
  }
  if (data.length < 3 + CRC_BYTES || mark < MARK || mark > MARK + MAX_SIDE_LOG2) {
    throw damaged("this is not a packet of a picture, or it is cut off");
  }
  const body = data.subarray(0, -CRC_BYTES);
  if (readUint32(data, body.length) !== crc32(codecId, body)) {
    throw damaged("a packet is damaged, or was made by another codec");
  }
  const [height, afterHeight] = readVarint(body, 3);
  const [width, afterWidth] = readVarint(body, afterHeight);
  const [first, begin] = readVarint(body, afterWidth);
  const picture = checked({ codecId, height, width, ...fromPictureCode(code) }, limits);
  const header = { picture, number, sideLog2: mark - MARK };
  return { header, first, blocks: blocksOf(body, begin, limits) };
}

/** Equal for packets of one picture alone. */
function keyOf({ picture, number, sideLog2 }: PacketHeader): string {
  const { level, channels, height, width } = picture;
  return [sideLog2, number, level, channels, height, width].join();
}

function blocksOf(body: Uint8Array, place: number, limits: Limits): Uint8Array[] {
  const blocks: Uint8Array[] = [];
  for (;;) {
    if (blocks.length === limits.chunks) {
      throw damaged(`a packet has more than ${limits.chunks} blocks`);
    }
    const [length, begin] = readVarint(body, place);
    if (length === 0) return [...blocks, body.subarray(begin)];
    if (length > body.length - begin) throw damaged("a packet holds less than it says");
    place = begin + length;
    blocks.push(body.subarray(begin, place));
  }
}

function start({ picture, number, sideLog2 }: PacketHeader): Uint8Array {
  const code = pictureCode(picture);
  const begin = Uint8Array.of(MARK + sideLog2, number, code);
  return concat([begin, varint(picture.height), varint(picture.width)]);
}

/**
 * What arrived of one image, that of the most packets. Those that are damaged, of another codec or
 * of larger tiles than `maxSide` latents are passed over.
 */
export function gather(
  packets: Iterable<Uint8Array | ArrayBuffer>,
  codecId: Uint8Array,
  maxSide: number,
  limits: Limits,
): Received {
  const pictures = new Map<string, Packet[]>();
  let came = 0;
  let bytes = 0;
  for (const packet of packets) {
    const data = asBytes(packet, "a packet");
    if (++came > limits.chunks) throw damaged(`more than ${limits.chunks} packets came`);
    const found = undamaged(data, codecId, maxSide, limits);
    if (!found) continue;
    bytes += data.length;
    const key = keyOf(found.header);
    pictures.set(key, [...(pictures.get(key) ?? []), found]);
  }
  let most: Packet[] = [];
  for (const found of pictures.values()) if (found.length > most.length) most = found;
  if (!most[0]) throw damaged(`of ${came} packets none is sound and of this codec`);
  const blocks = new Map<number, Uint8Array>();
  for (const { first, blocks: held } of most) {
    for (const [i, block] of held.entries()) {
      if (!blocks.has(first + i)) blocks.set(first + i, block);
    }
  }
  return { header: most[0].header, blocks, bytes };
}

function undamaged(
  data: Uint8Array,
  codecId: Uint8Array,
  maxSide: number,
  limits: Limits,
): Packet | undefined {
  try {
    const packet = readPacket(data, codecId, limits);
    return 2 ** packet.header.sideLog2 > maxSide ? undefined : packet;
  } catch (error) {
    if (error instanceof EdgeaeError) return undefined;
    throw error;
  }
}
