/** Pictures as browsers hold them. */

import { FILE_LIMITS } from "./header.js";

/** An ImageData, or anything of its shape where there is none: RGBA, 8 bits each, row by row. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray;
}

/** A new picture: an ImageData where the engine has one. */
export function newPicture(data: Uint8ClampedArray, width: number, height: number): Picture {
  return "ImageData" in globalThis
    ? new ImageData(data as ImageDataArray, width, height)
    : { data, width, height };
}

/** The picture itself. Throws TypeError or RangeError if it is none, or too large. */
export function checkedPicture(picture: Picture): Picture {
  const { width, height, data } = picture;
  if (!(data instanceof Uint8ClampedArray || (data as unknown) instanceof Uint8Array)) {
    throw new TypeError("image.data is no Uint8ClampedArray");
  }
  if (!Number.isInteger(width) || !Number.isInteger(height) || width < 1 || height < 1) {
    throw new RangeError(`image is ${width} x ${height}, expected at least one pixel`);
  }
  if (data.length !== 4 * width * height) {
    throw new RangeError(`image.data has ${data.length} bytes, expected ${4 * width * height}`);
  }
  const { pixels, sidePixels } = FILE_LIMITS;
  if (Math.max(width, height) > sidePixels || width * height > pixels) {
    throw new RangeError(
      `image is ${width} x ${height}, expected at most ${pixels} pixels in all and ${sidePixels} a side`,
    );
  }
  return picture;
}

/** The transparency (height, width) of a picture, if any of it is transparent. */
export function transparency({ data }: Picture): Uint8Array | undefined {
  const alpha = new Uint8Array(data.length / 4);
  for (let i = 0; i < alpha.length; i++) alpha[i] = data[4 * i + 3] as number;
  return alpha.some((value) => value !== 255) ? alpha : undefined;
}
