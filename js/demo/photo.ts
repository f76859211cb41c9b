/** The photo half: original and restored side by side, beside JPEG and WebP of the same size. */

import { decompressExact, info, RemoteCodec } from "edgeae";

import { button, canvas, checkedValue, element, input, loading, onChecked, save, Status, takesFiles, Turns } from "./page.js";
import { decoded, encodedToFit, psnr } from "./rivals.js";

// A photo from a phone takes a while in one thread: it is shown smaller, and the page says so.
const LONGEST_SIDE = 1600;

interface Row {
  readonly codec: string;
  readonly bytes: number;
  readonly image: ImageData;
  readonly psnr: number | undefined;
}

const status = new Status("photo-status");
let codec: Promise<RemoteCodec> | undefined;
let original: ImageData | undefined;
let file: Uint8Array | undefined;
let rows: Row[] = [];
let note = "";
/** What the .eae file is called when it is saved. */
let savedAs = "photo.eae";
const openings = new Turns();
const compressions = new Turns();

function theCodec(): Promise<RemoteCodec> {
  const onProgress = loading((text) => status.say(text));
  codec ??= RemoteCodec.open("models/photo-codec", { onProgress });
  codec.catch(() => (codec = undefined));
  return codec;
}

export async function openPhoto(blob: Blob, name: string): Promise<void> {
  const current = openings.begin();
  // What is being compressed is no longer asked for.
  compressions.begin();
  status.say(`Opening ${name}…`);
  try {
    if (/\.eae$/i.test(name)) {
      await showFile(new Uint8Array(await blob.arrayBuffer()), name, current);
      return;
    }
    const whole = await createImageBitmap(blob).catch(() => {
      throw new Error(`${name} is no picture that this browser can read`);
    });
    const image = await decoded(blob, LONGEST_SIDE);
    if (!current()) return;
    const { width, height } = image;
    const smaller = width === whole.width ? "" : `, of ${whole.width} × ${whole.height}`;
    note = `${width} × ${height} pixels${smaller}`;
    savedAs = `${name.replace(/\.[^.]*$/, "") || "photo"}.eae`;
    original = image;
    file = undefined;
    rows = [];
    alone(false);
    draw("left", image);
    draw("right", image);
    show();
    await compress();
  } catch (error) {
    if (current()) status.fail(error);
  }
}

/** Whether there is only a restored picture, and no original to lay beside it or to compress anew. */
function alone(is: boolean): void {
  element("stage", HTMLElement).classList.toggle("alone", is);
  input("split").disabled = input("quality").disabled = is;
  canvas("left").setAttribute("aria-hidden", String(is));
}

/** An .eae file alone: there is no original to compare with. */
async function showFile(bytes: Uint8Array, name: string, current: () => boolean): Promise<void> {
  const { width, height, quality } = info(bytes);
  // A file that keeps every pixel takes no codec.
  const model = quality === undefined ? undefined : await theCodec();
  status.say(`Restoring ${name}…`);
  const image = (model ? await model.decompress(bytes) : decompressExact(bytes)) as ImageData;
  if (!current()) return;
  compressions.begin();
  original = undefined;
  file = bytes;
  savedAs = name;
  const kept = quality === undefined ? "every pixel kept" : `quality ${quality}`;
  note = `${name}: ${width} × ${height} pixels, ${kept}`;
  // It gives the stage its size; only the right one is seen.
  draw("left", image);
  alone(true);
  for (const radio of shownRadios()) radio.checked = radio.value === "edgeae";
  rows = [{ codec: "edgeae", bytes: bytes.length, image, psnr: undefined }];
  show();
  status.say(note);
}

async function compress(): Promise<void> {
  if (!original) return;
  const current = compressions.begin();
  const image = original;
  try {
    const model = await theCodec();
    if (!current()) return;
    status.say(`${note}. Compressing…`);
    const start = performance.now();
    const bytes = await model.compress(image, { quality: Number(input("quality").value) });
    const middle = performance.now();
    const restored = (await model.decompress(bytes)) as ImageData;
    const end = performance.now();
    if (!current()) return;
    file = bytes;
    rows = [{ codec: "edgeae", bytes: bytes.length, image: restored, psnr: psnr(image, restored) }];
    show();
    for (const [title, type] of [["JPEG", "image/jpeg"], ["WebP", "image/webp"]] as const) {
      const rival = await encodedToFit(image, type, bytes.length);
      if (!current()) return;
      if (rival) rows.push({ codec: title, ...rival, psnr: psnr(image, rival.image) });
    }
    show();
    const seconds = (from: number, to: number) => ((to - from) / 1000).toFixed(2);
    status.say(
      `${note}. Compressed in ${seconds(start, middle)} s, restored in ${seconds(middle, end)} s.`,
    );
  } catch (error) {
    if (current()) status.fail(error);
  }
}

function shownRadios(): NodeListOf<HTMLInputElement> {
  return document.querySelectorAll<HTMLInputElement>('input[name="shown"]');
}

function draw(id: "left" | "right", image: ImageData): void {
  const target = canvas(id);
  target.width = image.width;
  target.height = image.height;
  target.getContext("2d")?.putImageData(image, 0, 0);
}

function show(): void {
  const shown = rows.find(({ codec }) => codec === checkedValue("shown")) ?? rows[0];
  if (shown) {
    draw("right", shown.image);
    const tag = element("right-tag", HTMLElement);
    tag.textContent = shown.psnr ? `${shown.codec}, ${shown.psnr.toFixed(1)} dB` : shown.codec;
    const label = `The photo as ${shown.codec} restores it from ${shown.bytes} bytes`;
    canvas("right").setAttribute("aria-label", label);
  }
  for (const radio of shownRadios()) {
    radio.disabled = !rows.some(({ codec }) => codec === radio.value);
  }
  button("photo-save").disabled = !file;
  const best = Math.max(...rows.map(({ psnr }) => psnr ?? 0));
  element("rows", HTMLElement).replaceChildren(...rows.map((row) => rowOf(row, row.psnr === best)));
}

function rowOf({ codec, bytes, image, psnr }: Row, best: boolean): HTMLTableRowElement {
  const row = document.createElement("tr");
  row.classList.toggle("best", best);
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = codec;
  const smallest = rows[0]?.bytes ?? bytes;
  const cells = [
    bytes.toLocaleString("en") + (bytes > smallest ? " (smallest)" : ""),
    ((8 * bytes) / (image.width * image.height)).toFixed(3),
    psnr === undefined ? "–" : `${psnr.toFixed(2)} dB`,
  ].map((text) => {
    const cell = document.createElement("td");
    cell.textContent = text;
    return cell;
  });
  row.append(head, ...cells);
  return row;
}

async function samplePhoto(): Promise<void> {
  // Whatever is opened while it is on its way is newer.
  const current = openings.begin();
  try {
    status.say("Fetching the sample…");
    const response = await fetch("samples/photo.webp");
    const sample = await response.blob();
    if (current()) await openPhoto(sample, "photo.webp");
  } catch (error) {
    if (current()) status.fail(error);
  }
}

/** The sample, unless the visitor has opened something. */
export async function firstPhoto(): Promise<void> {
  if (openings.untouched) await samplePhoto();
}

export function startPhoto(): void {
  takesFiles("photo", "photo-file", (chosen) => void openPhoto(chosen, chosen.name));
  button("photo-sample").addEventListener("click", () => void samplePhoto());
  const stage = element("stage", HTMLElement);
  const split = input("split");
  const divide = () => stage.style.setProperty("--split", `${split.value}%`);
  split.addEventListener("input", divide);
  divide();
  const quality = input("quality");
  let wait: ReturnType<typeof setTimeout> | undefined;
  quality.addEventListener("input", () => {
    element("quality-value", HTMLElement).textContent = quality.value;
    clearTimeout(wait);
    wait = setTimeout(() => void compress(), 250);
  });
  onChecked("shown", show);
  const magnify = input("magnify");
  magnify.addEventListener("change", () => {
    stage.style.width = magnify.checked ? `${3 * canvas("left").width}px` : "";
    stage.classList.toggle("magnified", magnify.checked);
  });
  button("photo-save").addEventListener("click", () => {
    if (file) save(file as BlobPart, "application/octet-stream", savedAs);
  });
}
