/** Where the four known types of chunk that may be salvaged stand in a run of bytes. */

const TYPES = ["HEAD", "heAD", "ALPH", "TILE"].map(asciiOf);
const FIRST_LETTERS = new Set(TYPES.map(([first]) => first));

export function asciiOf(text: string): Uint8Array {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

/** The place of every such type, in order; none overlaps another. */
export function* chunkTypes(data: Uint8Array): Generator<number> {
  for (let place = 0; place + 4 <= data.length; place++) {
    if (!FIRST_LETTERS.has(data[place])) continue;
    if (TYPES.some((type) => type.every((letter, i) => data[place + i] === letter))) yield place;
  }
}
