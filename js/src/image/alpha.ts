/** Transparency, kept exactly: section 8 of docs/FORMAT.md. */

import { concat } from "../bytes.js";
import { damaged } from "../errors.js";
import { deflate, inflate } from "./inflate.js";

const PLAIN = 0;
const ROW_DIFFERENCES = 1;

/** The bytes of a plane (height, width): the smaller of the two ways. */
export async function packAlpha(plane: Uint8Array, width: number): Promise<Uint8Array> {
  const differences = plane.map((value, i) => value - (i < width ? 0 : (plane[i - width] as number)));
  const [plain, differing] = await Promise.all([deflate(plane), deflate(differences)]);
  return plain.length <= differing.length
    ? concat([Uint8Array.of(PLAIN), plain])
    : concat([Uint8Array.of(ROW_DIFFERENCES), differing]);
}

/** The plane (height, width) of its bytes. */
export function unpackAlpha(data: Uint8Array, height: number, width: number): Uint8Array {
  const kind = data[0];
  if (kind !== PLAIN && kind !== ROW_DIFFERENCES) {
    throw damaged("the transparency of the file is kept in a way that is not known here");
  }
  const plane = inflate(data.subarray(1), height * width);
  if (kind === ROW_DIFFERENCES) {
    for (let i = width; i < plane.length; i++) plane[i]! += plane[i - width] as number;
  }
  return plane;
}
