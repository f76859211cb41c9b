/** What only Node can do. */

import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { EdgeaeError } from "./errors.js";

export * from "./index.js";

/** A bundle's folder on disk, to pass to `load`. */
export function folder(path: string): (file: string) => Promise<Uint8Array> {
  return async (file) => {
    try {
      return new Uint8Array(await readFile(join(path, file)));
    } catch (error) {
      throw new EdgeaeError("bundle", (error as Error).message);
    }
  };
}
