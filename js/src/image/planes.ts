/** From symbols to latents, from planes to pixels, and from pixels to planes. */

import type { Picture } from "./picture.js";
import type { Area } from "./tiles.js";

/** Writes symbols times steps to what a tile sees, from a row of tiles (channels, height, width). */
export function dequantize(
  symbols: Int16Array,
  row: { top: number; height: number },
  width: number,
  seen: Area,
  steps: Float32Array,
  latents: Float32Array,
): void {
  const top = Math.max(row.top, seen.top);
  const bottom = Math.min(row.top + row.height, seen.top + seen.height);
  for (let channel = 0; channel < steps.length; channel++) {
    const step = steps[channel] as number;
    for (let line = top; line < bottom; line++) {
      const from = (channel * row.height + line - row.top) * width + seen.left;
      const to = (channel * seen.height + line - seen.top) * seen.width;
      for (let i = 0; i < seen.width; i++) latents[to + i] = (symbols[from + i] as number) * step;
    }
  }
}

/** Writes the pixels of an area to RGBA: clipped to 0 to 1, times 255, halves to even. */
export function paint(
  planes: Float32Array,
  seen: Area,
  area: Area,
  data: Uint8ClampedArray,
  window: Area,
  gray: boolean,
): void {
  const size = seen.height * seen.width;
  for (let row = area.top; row < area.top + area.height; row++) {
    let from = (row - seen.top) * seen.width + area.left - seen.left;
    let to = 4 * ((row - window.top) * window.width + area.left - window.left);
    for (let column = 0; column < area.width; column++, from++, to += 4) {
      // A Uint8ClampedArray clips and rounds just so.
      data[to] = Math.fround((planes[from] as number) * 255);
      data[to + 1] = Math.fround((planes[from + size] as number) * 255);
      data[to + 2] = Math.fround((planes[from + 2 * size] as number) * 255);
      data[to + 3] = 255;
      if (gray) {
        const mean = ((data[to] as number) + data[to + 1]! + data[to + 2]!) / 3;
        data.fill(Math.round(mean), to, to + 3);
      }
    }
  }
}

/** Red, green and blue (3, height, width) in 0 to 1; beyond the edge its last pixels go on. */
export function planesOf(image: Picture, area: Area, gray: boolean): Float32Array {
  const size = area.height * area.width;
  const planes = new Float32Array(3 * size);
  const unit = Math.fround(1 / 255);
  for (let row = 0, to = 0; row < area.height; row++) {
    const line = Math.min(area.top + row, image.height - 1) * image.width;
    for (let column = 0; column < area.width; column++, to++) {
      const from = 4 * (line + Math.min(area.left + column, image.width - 1));
      let red = image.data[from] as number;
      let green = image.data[from + 1] as number;
      let blue = image.data[from + 2] as number;
      if (gray) red = green = blue = Math.round((red + green + blue) / 3);
      planes[to] = red * unit;
      planes[to + size] = green * unit;
      planes[to + 2 * size] = blue * unit;
    }
  }
  return planes;
}
