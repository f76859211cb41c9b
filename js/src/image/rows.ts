/** Rows of bytes filtered as a PNG's are: section 9 of the PNG specification, third edition. */

import { damaged } from "../errors.js";

/** What each filter predicts of a byte: from the byte of the pixel before, above, and above that. */
const PREDICTORS: ((left: number, above: number, corner: number) => number)[] = [
  () => 0,
  (left) => left,
  (_, above) => above,
  (left, above) => (left + above) >> 1,
  (left, above, corner) => {
    const toLeft = Math.abs(above - corner);
    const toAbove = Math.abs(left - corner);
    const toCorner = Math.abs(left + above - 2 * corner);
    if (toLeft <= toAbove && toLeft <= toCorner) return left;
    return toAbove <= toCorner ? above : corner;
  },
];

/** Ways to choose filters: always the same of them, or that of the smallest differences. */
export const CHOICES = PREDICTORS.length + 1;

/** Turns rows, each behind the number of its filter, into the bytes that were filtered. */
export function unfilter(rows: Uint8Array, rowBytes: number, pixelBytes: number): void {
  const line = 1 + rowBytes;
  for (let begin = 0; begin < rows.length; begin += line) {
    const predict = PREDICTORS[rows[begin] as number];
    if (!predict) throw damaged("the rows are filtered in a way that is not known here");
    for (let i = 0, at = begin + 1; i < rowBytes; i++, at++) {
      const left = i < pixelBytes ? 0 : rows[at - pixelBytes]!;
      const above = begin ? rows[at - line]! : 0;
      const corner = begin && i >= pixelBytes ? rows[at - line - pixelBytes]! : 0;
      rows[at]! += predict(left, above, corner);
    }
  }
}

/** Rows of `values` (height, rowBytes), by their numbers, each behind the number of its filter. */
export function filtered(
  values: Uint8Array,
  rowBytes: number,
  pixelBytes: number,
  numbers: readonly number[],
  choice: number,
): Uint8Array {
  const out = new Uint8Array(numbers.length * (1 + rowBytes));
  const trial = new Uint8Array(rowBytes);
  let to = 0;
  for (const row of numbers) {
    let least = Infinity;
    for (let filter = 0; filter < PREDICTORS.length; filter++) {
      if (choice < PREDICTORS.length && filter !== choice) continue;
      const cost = filterRow(values, row * rowBytes, rowBytes, pixelBytes, filter, trial);
      if (cost >= least) continue;
      least = cost;
      out[to] = filter;
      out.set(trial, to + 1);
    }
    to += 1 + rowBytes;
  }
  return out;
}

/** The sum of the differences, whose sign does not matter. */
function filterRow(
  values: Uint8Array,
  begin: number,
  rowBytes: number,
  pixelBytes: number,
  filter: number,
  out: Uint8Array,
): number {
  const predict = PREDICTORS[filter]!;
  let cost = 0;
  for (let i = 0, at = begin; i < rowBytes; i++, at++) {
    const left = i < pixelBytes ? 0 : values[at - pixelBytes]!;
    const above = begin ? values[at - rowBytes]! : 0;
    const corner = begin && i >= pixelBytes ? values[at - rowBytes - pixelBytes]! : 0;
    const difference = (values[at]! - predict(left, above, corner)) & 0xff;
    out[i] = difference;
    cost += Math.min(difference, 256 - difference);
  }
  return cost;
}
