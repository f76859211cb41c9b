/** What the browser's own encoders make of a picture at a given size. */

const STEPS = 8;

export interface Encoded {
  readonly bytes: number;
  readonly image: ImageData;
}

/** The best picture that fits; the smallest there is if none does; undefined without an encoder. */
export async function encodedToFit(
  image: ImageData,
  type: "image/jpeg" | "image/webp",
  maxBytes: number,
): Promise<Encoded | undefined> {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d")?.putImageData(image, 0, 0);
  const encode = (quality: number) => canvas.convertToBlob({ type, quality });
  let best = await encode(0);
  // A browser without the encoder gives a PNG.
  if (best.type !== type) return undefined;
  let [low, high] = [0, 1];
  for (let i = 0; i < STEPS && best.size <= maxBytes; i++) {
    const quality = (low + high) / 2;
    const blob = await encode(quality);
    if (blob.size <= maxBytes) [low, best] = [quality, blob];
    else high = quality;
  }
  return { bytes: best.size, image: await decoded(best) };
}

/** The pixels of a picture file, upright and in sRGB; at most so many on the longer side. */
export async function decoded(blob: Blob, longest = Infinity): Promise<ImageData> {
  const bitmap = await createImageBitmap(blob);
  const scale = Math.min(1, longest / Math.max(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(bitmap.width * scale));
  const height = Math.max(1, Math.round(bitmap.height * scale));
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser cannot draw");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

/** Peak signal-to-noise ratio of red, green and blue, in dB. */
export function psnr(one: ImageData, other: ImageData): number {
  let sum = 0;
  for (let i = 0; i < one.data.length; i++) {
    if (i % 4 < 3) sum += (one.data[i]! - other.data[i]!) ** 2;
  }
  return 10 * Math.log10((255 ** 2 * 0.75 * one.data.length) / sum);
}
