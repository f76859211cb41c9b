/** What went wrong, beside misuse, which is a plain TypeError or RangeError. */
export type ErrorKind =
  /** A bundle is missing, changed, unsafe, or of a task that this version cannot run. */
  | "bundle"
  /** The bytes are no .eae file, or they are cut off, damaged or over a limit. */
  | "bitstream"
  /** The bytes were written by another codec: `codecId` says which. */
  | "unknown-codec"
  /** The runtime failed, or the browser lacks something that is needed. */
  | "runtime";

/** Whatever edgeae cannot do for a reason that lies outside the calling code. */
export class EdgeaeError extends Error {
  override readonly name = "EdgeaeError";

  constructor(
    readonly kind: ErrorKind,
    message: string,
    /** Hexadecimal, with kind "unknown-codec": 16 bytes, or the first 4 of them. */
    readonly codecId = "",
  ) {
    super(message);
  }
}

/** A bitstream error; short, because a reader has many reasons to give up. */
export function damaged(message: string): EdgeaeError {
  return new EdgeaeError("bitstream", message);
}
