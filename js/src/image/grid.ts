/** Arrays (channels, height, width) and areas of them. */

import type { Area, Tile } from "./tiles.js";
import { marked } from "./tiles.js";

export interface Size {
  readonly height: number;
  readonly width: number;
}

/** Copies (channels, area) to its place in (channels, grid). */
export function paste<T extends Float32Array | Int16Array | Int32Array>(
  part: T,
  area: Area,
  whole: T,
  grid: Size,
  channels: number,
): void {
  for (let channel = 0, from = 0; channel < channels; channel++) {
    for (let row = area.top; row < area.top + area.height; row++, from += area.width) {
      const to = (channel * grid.height + row) * grid.width + area.left;
      whole.set(part.subarray(from, from + area.width), to);
    }
  }
}

/** An area of (channels, grid), as (channels, area). */
export function cut<T extends Float32Array | Int16Array>(
  whole: T,
  grid: Size,
  area: Area,
  channels: number,
): T {
  const length = channels * area.height * area.width;
  const part = (whole instanceof Float32Array ? new Float32Array(length) : new Int16Array(length)) as T;
  for (let channel = 0, to = 0; channel < channels; channel++) {
    for (let row = area.top; row < area.top + area.height; row++, to += area.width) {
      const from = (channel * grid.height + row) * grid.width + area.left;
      part.set(whole.subarray(from, from + area.width), to);
    }
  }
  return part;
}

export function lostOf(
  layout: readonly Tile[],
  blocks: ReadonlyMap<number, unknown>,
  { height, width }: Size,
): Uint8Array {
  return marked(
    height,
    width,
    layout.filter((_, i) => !blocks.has(i)),
  );
}

/** Whether all of an area is marked. */
export function all(marks: Uint8Array, grid: Size, area: Area): boolean {
  for (let row = area.top; row < area.top + area.height; row++) {
    const begin = row * grid.width + area.left;
    if (marks.subarray(begin, begin + area.width).includes(0)) return false;
  }
  return true;
}

/** The marks and all within `reach` rows and columns of one. */
export function widened(marks: Uint8Array, { height, width }: Size, reach: number): Uint8Array {
  if (!reach || !marks.includes(1)) return marks;
  const spread = (from: Uint8Array, lines: number, count: number, line: number, step: number) => {
    const to = from.slice();
    for (let i = 0; i < lines; i++) {
      // Counts down from a mark, once in each direction.
      for (const forward of [true, false]) {
        let left = 0;
        for (let j = 0; j < count; j++) {
          const place = i * line + (forward ? j : count - 1 - j) * step;
          if (from[place]) left = reach + 1;
          if (left-- > 0) to[place] = 1;
        }
      }
    }
    return to;
  };
  return spread(spread(marks, height, width, width, 1), width, height, 1, width);
}
