/** What only Node can do. */

import type { FileHandle } from "node:fs/promises";
import { constants, open } from "node:fs/promises";
import { join } from "node:path";

import { MAX_FILE_BYTES } from "./bundle.js";
import { EdgeaeError } from "./errors.js";

export * from "./index.js";

/**
 * A bundle's folder on disk, to pass to `load`. What is no regular file, or has more bytes than it may
 * have, is refused before anything of it is read.
 */
export function folder(path: string): (file: string, maxBytes?: number) => Promise<Uint8Array> {
  return async (file, maxBytes = MAX_FILE_BYTES) => {
    let handle: FileHandle | undefined;
    try {
      // A named pipe without a writer would hold a blocking open up for ever. Windows has none.
      const flags = constants.O_RDONLY | ((constants.O_NONBLOCK as number | undefined) ?? 0);
      handle = await open(join(path, file), flags);
      return await contents(handle, file, maxBytes);
    } catch (error) {
      if (error instanceof EdgeaeError) throw error;
      throw new EdgeaeError("bundle", (error as Error).message);
    } finally {
      await handle?.close();
    }
  };
}

/** No more than the file had when it was opened, though it may grow. */
async function contents(handle: FileHandle, file: string, maxBytes: number): Promise<Uint8Array> {
  const stat = await handle.stat();
  if (!stat.isFile()) throw new EdgeaeError("bundle", `${file} is no regular file`);
  if (stat.size > maxBytes) {
    throw new EdgeaeError("bundle", `${file} has ${stat.size} bytes, expected at most ${maxBytes}`);
  }
  const data = new Uint8Array(stat.size);
  let end = 0;
  while (end < data.length) {
    const { bytesRead } = await handle.read(data, end, data.length - end);
    if (bytesRead === 0) break;
    end += bytesRead;
  }
  return data.subarray(0, end);
}
