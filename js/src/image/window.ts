/** The part of an image that is asked for, and whether its file may ask for so much. */

import { newBytes } from "../bytes.js";
import { damaged } from "../errors.js";
import type { Size } from "./grid.js";
import type { Limits } from "./header.js";
import type { Area } from "./tiles.js";

// What any file may hold however short it is, a photo of any usual camera: see Limits.
const USUAL_PIXELS = 2 ** 27;

export interface DecompressOptions {
  /** That part of the picture in pixels, exactly as the whole would show it. */
  readonly region?: Area | undefined;
  readonly limits?: Partial<Limits> | undefined;
}

/** The pixels that are asked for: a region of the image, or all of it. */
export function windowOf(region: Area | undefined, { height, width }: Size): Area {
  if (region === undefined) return { top: 0, left: 0, height, width };
  const values = [region.top, region.left, region.height, region.width];
  if (!values.every(Number.isInteger)) {
    throw new TypeError(`region is ${values.join()}, expected whole numbers {top, left, height, width}`);
  }
  const inside = region.top + region.height <= height && region.left + region.width <= width;
  if (!inside || region.top < 0 || region.left < 0 || region.height < 1 || region.width < 1) {
    throw new RangeError(
      `region is ${region.width} x ${region.height} at row ${region.top} and column ` +
        `${region.left}, expected inside an image of ${width} x ${height}`,
    );
  }
  return region;
}

/** Whether so many pixels are more than so many bytes may ask a reader for. */
export function isOutOfProportion(pixels: number, bytes: number, limits: Limits): boolean {
  return pixels > Math.max(USUAL_PIXELS, limits.pixelsPerByte * bytes);
}

/** Refuses a window of more pixels than its file's bytes may ask for. */
export function checkProportion(window: Area, bytes: number, limits: Limits): void {
  const pixels = window.height * window.width;
  if (isOutOfProportion(pixels, bytes, limits)) {
    throw damaged(
      `the file holds ${pixels} pixels in ${bytes} bytes, expected at most ${USUAL_PIXELS}, or ` +
        `${limits.pixelsPerByte} a byte: take a region, or set limits.pixelsPerByte`,
    );
  }
}

/** RGBA of a window, transparent black. */
export function roomFor({ height, width }: Size): Uint8ClampedArray {
  return new Uint8ClampedArray(newBytes(4 * height * width).buffer);
}
