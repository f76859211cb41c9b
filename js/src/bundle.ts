/** One model: a manifest, and files that are fetched when they are needed and checked by hash. */

import { hex } from "./bytes.js";
import { EdgeaeError } from "./errors.js";

const FORMAT = 1;
const MANIFEST = "manifest.json";
const MAX_MANIFEST_BYTES = 1 << 20;
/** @internal What a file of a bundle may have. */
export const MAX_FILE_BYTES = 2 ** 30;
const CACHE = "edgeae";

export interface FileEntry {
  readonly file: string;
  readonly sha256: string;
  readonly bytes: number;
}

/** The manifest of a bundle, as far as it is read here. */
export interface Manifest {
  readonly task: string;
  readonly name: string;
  readonly version: string;
  readonly layout: Readonly<Record<string, unknown>>;
  readonly latent: Readonly<Record<string, unknown>>;
  readonly stream: Readonly<Record<string, unknown>>;
  readonly codecId: string;
  /** By role and precision. */
  readonly graphs: ReadonlyMap<string, ReadonlyMap<string, FileEntry>>;
  readonly files: ReadonlyMap<string, FileEntry>;
}

/** What has come so far of a file that is on its way. */
export interface Progress {
  readonly file: string;
  readonly loadedBytes: number;
  readonly totalBytes: number;
  /** Whether it comes from the cache. */
  readonly cached: boolean;
}

export interface BundleOptions {
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** Keep files in the browser's Cache, under their hash; true by default. */
  readonly cache?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The folder's URL, or a function that gives the bytes of a file in it. More than `maxBytes` of them are
 * refused: the function need not read on.
 */
export type Source = string | URL | ((file: string, maxBytes: number) => Promise<Uint8Array>);

export class Bundle {
  private constructor(
    readonly manifest: Manifest,
    /** The sha256 of the manifest. */
    readonly id: string,
    private readonly source: Source,
    private readonly options: BundleOptions,
  ) {}

  static async open(source: Source, options: BundleOptions = {}): Promise<Bundle> {
    const root = typeof source === "function" ? source : folderUrl(source);
    const data =
      typeof root === "function"
        ? await root(MANIFEST, MAX_MANIFEST_BYTES)
        : await download(new URL(MANIFEST, root), MAX_MANIFEST_BYTES, "no-cache", options.signal);
    return new Bundle(parseManifest(data), await sha256(data), root, options);
  }

  /** The precision of a role that was asked for; without a wish int8 where there is one. */
  graphEntry(role: string, precision?: string): FileEntry {
    const there = this.manifest.graphs.get(role);
    const entry =
      precision === undefined
        ? (there?.get("int8") ?? there?.get("fp32"))
        : (there?.get(precision) ?? there?.get("fp32"));
    if (!entry) throw new EdgeaeError("bundle", `${this.manifest.name} has no graph ${role}`);
    return entry;
  }

  /** Every precision that some graph has. */
  get precisions(): string[] {
    return [...new Set([...this.manifest.graphs.values()].flatMap((of) => [...of.keys()]))];
  }

  fileEntry(name: string): FileEntry {
    const entry = this.manifest.files.get(name);
    if (!entry) throw new EdgeaeError("bundle", `${this.manifest.name} has no file ${name}`);
    return entry;
  }

  /** The bytes of a file, which are those that the manifest names. */
  async read(entry: FileEntry): Promise<Uint8Array> {
    const cache = await this.cache();
    // Named by its content: two bundles that share a file share it here too.
    const key = `https://edgeae.invalid/sha256/${entry.sha256}`;
    const kept = await cache?.match(key);
    if (kept) {
      const data = new Uint8Array(await kept.arrayBuffer());
      if ((await sha256(data)) === entry.sha256) {
        this.report(entry, data.length, true);
        return data;
      }
    }
    const data = await this.fetch(entry);
    if (data.length !== entry.bytes || (await sha256(data)) !== entry.sha256) {
      throw new EdgeaeError("bundle", `${entry.file} is not the file that the manifest names`);
    }
    // A full disk is no reason to fail: the file is here.
    await cache?.put(key, new Response(data as BodyInit)).catch(() => undefined);
    return data;
  }

  private async fetch(entry: FileEntry): Promise<Uint8Array> {
    if (typeof this.source === "function") {
      const data = await this.source(entry.file, entry.bytes);
      this.report(entry, data.length, false);
      return data;
    }
    const url = new URL(entry.file, this.source);
    const progress = (loaded: number) => this.report(entry, loaded, false);
    return await download(url, entry.bytes, "default", this.options.signal, progress);
  }

  private report(entry: FileEntry, loadedBytes: number, cached: boolean): void {
    this.options.onProgress?.({ file: entry.file, loadedBytes, totalBytes: entry.bytes, cached });
  }

  private async cache(): Promise<Cache | undefined> {
    if (typeof this.source === "function" || this.options.cache === false) return undefined;
    if (!("caches" in globalThis)) return undefined;
    // Some private windows have the object and refuse its use.
    return await caches.open(CACHE).catch(() => undefined);
  }
}

function folderUrl(source: string | URL): URL {
  const text = String(source).replace(/(^|\/)manifest\.json$/, "$1");
  // A page, a worker of a page, or neither.
  const here = globalThis as { document?: Document; location?: Location };
  const base = here.document?.baseURI ?? here.location?.href;
  try {
    return new URL(text.endsWith("/") || text === "" ? text : `${text}/`, base);
  } catch {
    throw new EdgeaeError("bundle", `${text} is no URL of a bundle's folder`);
  }
}

/** At most so many bytes; a longer answer is cut off as soon as it is longer. */
async function download(
  url: URL,
  maxBytes: number,
  cache: RequestCache,
  signal?: AbortSignal,
  onBytes?: (loaded: number) => void,
): Promise<Uint8Array> {
  try {
    const response = await fetch(url, { cache, signal: signal ?? null });
    if (!response.ok || !response.body) throw new Error(`the server says ${response.status}`);
    const pieces: Uint8Array[] = [];
    let loaded = 0;
    const reader = response.body.getReader();
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      pieces.push(piece.value);
      loaded += piece.value.length;
      if (loaded > maxBytes) {
        await reader.cancel();
        throw new Error(`it has more than ${maxBytes} bytes`);
      }
      onBytes?.(loaded);
    }
    return new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer());
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new EdgeaeError("bundle", `cannot fetch ${url.href}: ${(error as Error).message}`);
  }
}

async function sha256(data: Uint8Array): Promise<string> {
  const { subtle } = crypto as { subtle?: SubtleCrypto };
  if (!subtle) {
    throw new EdgeaeError("runtime", "hashes need a secure context: https, or localhost");
  }
  return hex(new Uint8Array(await subtle.digest("SHA-256", data as BufferSource)));
}

function parseManifest(data: Uint8Array): Manifest {
  if (data.length > MAX_MANIFEST_BYTES) refuse(`has ${data.length} bytes`);
  let raw: Record<string, unknown>;
  try {
    raw = section(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data)), "it");
  } catch (error) {
    if (error instanceof EdgeaeError) throw error;
    refuse(`is no JSON: ${(error as Error).message}`);
  }
  if (raw["format"] !== FORMAT) refuse(`has format ${String(raw["format"])}, expected ${FORMAT}`);
  const graphs = new Map<string, Map<string, FileEntry>>();
  for (const [role, of] of Object.entries(section(raw["graphs"], "graphs"))) {
    const entries = Object.entries(section(of, role));
    graphs.set(role, new Map(entries.map(([name, value]) => [name, fileEntry(value, role)])));
  }
  const files = new Map<string, FileEntry>();
  for (const [file, value] of Object.entries(section(raw["files"], "files"))) {
    files.set(file, fileEntry({ ...section(value, file), file }, "files"));
  }
  return {
    task: text(raw["task"], "task"),
    name: text(raw["name"], "name"),
    version: text(raw["version"], "version"),
    layout: section(raw["layout"], "layout"),
    latent: section(raw["latent"] ?? {}, "latent"),
    stream: section(raw["stream"] ?? {}, "stream"),
    codecId: text(raw["codec_id"] ?? "", "codec_id"),
    graphs,
    files,
  };
}

function fileEntry(value: unknown, where: string): FileEntry {
  const { file, sha256: hash, bytes } = section(value, where);
  // No separators and no "..": a name can only mean a file in the folder.
  if (typeof file !== "string" || !/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(file)) {
    refuse(`has no file name in ${where}`);
  }
  if (typeof hash !== "string" || !/^[0-9a-f]{64}$/.test(hash)) refuse(`has no hash of ${file}`);
  return { file, sha256: hash, bytes: whole(bytes, `bytes of ${file}`, 0, MAX_FILE_BYTES) };
}

/** The value as a JSON object. */
export function section(value: unknown, where: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    refuse(`has no object ${where}`);
  }
  return value as Record<string, unknown>;
}

/** The value as a whole number in a range. */
export function whole(value: unknown, where: string, least: number, most: number): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < least || value > most) {
    refuse(`says ${String(value)} for ${where}, allowed is ${least} to ${most}`);
  }
  return value;
}

function text(value: unknown, where: string): string {
  if (typeof value !== "string") refuse(`has no text ${where}`);
  return value;
}

function refuse(what: string): never {
  throw new EdgeaeError("bundle", `the manifest ${what}`);
}
