/** Where the tiles of a grid lie, and what each must see of its neighbors. */

/** A rectangle of a grid. */
export interface Area {
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
}

/** The kept part of a grid, and the larger part that must be read for it. */
export interface Tile extends Area {
  readonly seen: Area;
}

export function tileCount(height: number, width: number, side: number): number {
  return Math.ceil(height / side) * Math.ceil(width / side);
}

/** The tiles of a grid, row by row, none larger than `side` squared; halos end at its edge. */
export function* tilesOf(height: number, width: number, side: number, halo: number): Generator<Tile> {
  for (let top = 0; top < height; top += side) {
    for (let left = 0; left < width; left += side) {
      const bottom = Math.min(top + side, height);
      const right = Math.min(left + side, width);
      const seenTop = Math.max(0, top - halo);
      const seenLeft = Math.max(0, left - halo);
      const seen = {
        top: seenTop,
        left: seenLeft,
        height: Math.min(height, bottom + halo) - seenTop,
        width: Math.min(width, right + halo) - seenLeft,
      };
      yield { top, left, height: bottom - top, width: right - left, seen };
    }
  }
}

/** What two areas have in common; height or width is 0 or less if nothing. */
export function overlap(one: Area, other: Area): Area {
  const top = Math.max(one.top, other.top);
  const left = Math.max(one.left, other.left);
  return {
    top,
    left,
    height: Math.min(one.top + one.height, other.top + other.height) - top,
    width: Math.min(one.left + one.width, other.left + other.width) - left,
  };
}

export function touches(one: Area, other: Area): boolean {
  const common = overlap(one, other);
  return common.height > 0 && common.width > 0;
}

/** The area in a grid that is `factor` times finer. */
export function scaled({ top, left, height, width }: Area, factor: number): Area {
  return {
    top: top * factor,
    left: left * factor,
    height: height * factor,
    width: width * factor,
  };
}

/** Marks (height, width) of the areas. */
export function marked(height: number, width: number, areas: Iterable<Area>): Uint8Array {
  const marks = new Uint8Array(height * width);
  for (const area of areas) {
    for (let row = area.top; row < area.top + area.height; row++) {
      const begin = row * width + area.left;
      marks.fill(1, begin, begin + area.width);
    }
  }
  return marks;
}
