import { LEVELS } from "../coding/tables.js";
import { damaged } from "../errors.js";

/** What a file, or the packets of a picture, may ask for before they are refused. */
export interface Limits {
  /** Bytes of the file, or of one packet. */
  readonly fileBytes: number;
  readonly pixels: number;
  /** Pixels of each side. */
  readonly sidePixels: number;
  /** Chunks of a file, or packets of one picture and its tiles. */
  readonly chunks: number;
  /** Pixels to decode at once for each byte of the file, beyond 2 ** 27 pixels. */
  readonly pixelsPerByte: number;
  /** Pixels left to concealment for each byte that is there, beyond 2 ** 20 pixels. */
  readonly concealedPixelsPerByte: number;
}

export const FILE_LIMITS: Limits = {
  fileBytes: 2 ** 30,
  pixels: 2 ** 28,
  sidePixels: 2 ** 16,
  chunks: 2 ** 17,
  pixelsPerByte: 2 ** 5,
  concealedPixelsPerByte: 2 ** 12,
};

/** A receiver may have to hold the whole picture for the sake of one packet. */
export const PACKET_LIMITS: Limits = { ...FILE_LIMITS, pixels: 2 ** 24, chunks: 2 ** 12 };

/** What a reader must know before the first tile. */
export interface Header {
  /** 16 bytes, or the first 4 of them in the small form. */
  readonly codecId: Uint8Array;
  /** Quantization level, 0 (coarsest) to 64. */
  readonly level: number;
  readonly height: number;
  readonly width: number;
  /** 1, 3 or 4 of an array (height, width, channels), 0 for (height, width). */
  readonly channels: number;
}

/** Channels that the small form and packets can say, in the order of their codes. */
const SMALL_CHANNELS = [0, 1, 3];

export function hasSmallForm(header: Header): boolean {
  return SMALL_CHANNELS.includes(header.channels);
}

/** Level and channels in one byte, as the small form and packets hold them. */
export function pictureCode(header: Header): number {
  return header.level * SMALL_CHANNELS.length + SMALL_CHANNELS.indexOf(header.channels);
}

export function fromPictureCode(code: number): { level: number; channels: number } {
  const level = Math.floor(code / SMALL_CHANNELS.length);
  return { level, channels: SMALL_CHANNELS[code % SMALL_CHANNELS.length] as number };
}

/** The header itself, if it makes sense and is within the limits. */
export function checked(header: Header, limits: Limits): Header {
  const { height, width, level, channels } = header;
  if (!height || !width || ![0, 1, 3, 4].includes(channels) || level >= LEVELS) {
    throw damaged("the file's header makes no sense");
  }
  if (Math.max(height, width) > limits.sidePixels || height * width > limits.pixels) {
    throw damaged(
      `the file holds ${width} x ${height} pixels, expected at most ${limits.pixels} in all ` +
        `and ${limits.sidePixels} a side`,
    );
  }
  return header;
}

export function checkBytes(data: Uint8Array, limits: Limits): void {
  if (data.length > limits.fileBytes) {
    throw damaged(`there are ${data.length} bytes, expected at most ${limits.fileBytes}`);
  }
}
