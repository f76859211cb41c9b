export { EdgeaeError } from "./errors.js";
export type { ErrorKind } from "./errors.js";
export type { Manifest, Progress, Source } from "./bundle.js";
export type { Runtime } from "./session.js";
export type { Limits } from "./image/header.js";
export type { Metadata } from "./image/container.js";
export type { Picture } from "./image/picture.js";
export type { Area } from "./image/tiles.js";
export { ImageCodec, info, metadata } from "./image/codec.js";
export type {
  CompressOptions,
  Concealed,
  FileInfo,
  PacketOptions,
} from "./image/codec.js";
export { compressExact, decompressExact } from "./image/exact.js";
export type { ExactOptions } from "./image/exact.js";
export type { DecompressOptions } from "./image/window.js";
export { SignalDenoiser } from "./audio/denoiser.js";
export type { DenoiseOptions, StreamOptions } from "./audio/denoiser.js";
export type { Stream } from "./audio/stream.js";
export { load, loadCodec, loadDenoiser } from "./load.js";
export type { LoadOptions } from "./load.js";
export { RemoteCodec, RemoteDenoiser } from "./remote.js";
export type { RemoteOptions } from "./remote.js";
export { SpeechDenoiserNode } from "./audio/node.js";
export type { SpeechDenoiserOptions, SpeechDenoiserStats } from "./audio/node.js";
