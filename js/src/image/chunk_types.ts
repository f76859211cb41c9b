/** Where the types of chunks that matter to a salvager stand in a run of bytes. */

import { asciiOf } from "../coding/chunks.js";

/** What a file is made of, and what may be left of it. */
export const SALVAGED = ["HEAD", "heAD", "ALPH", "TILE", "exIF", "xmPP"];
/** What ends a file, and what ties its chunks together. */
export const BOUNDS = ["crCS", "DONE"];

/** The place of every such type, in order; none overlaps another. */
export function* chunkTypes(data: Uint8Array, types: readonly string[]): Generator<number> {
  const wanted = types.map(asciiOf);
  const firstLetters = new Set(wanted.map(([first]) => first));
  for (let place = 0; place + 4 <= data.length; place++) {
    if (!firstLetters.has(data[place])) continue;
    if (wanted.some((type) => type.every((letter, i) => data[place + i] === letter))) yield place;
  }
}
