/** What both halves of the page need of it. */

export function element<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} ${id}`);
  return found;
}

export const button = (id: string) => element(id, HTMLButtonElement);
export const input = (id: string) => element(id, HTMLInputElement);
export const canvas = (id: string) => element(id, HTMLCanvasElement);

/** Where a half of the page says what it is doing. */
export class Status {
  private readonly line: HTMLElement;

  constructor(id: string) {
    this.line = element(id, HTMLElement);
  }

  say(text: string): void {
    this.line.classList.remove("failed");
    this.line.textContent = text;
  }

  fail(error: unknown): void {
    this.line.classList.add("failed");
    this.line.textContent = error instanceof Error ? error.message : String(error);
  }
}

/** Counts what was asked for: of several things that are under way only the newest counts. */
export class Turns {
  private newest = 0;

  /** Gives a function that says whether this is still the newest. */
  begin(): () => boolean {
    const mine = ++this.newest;
    return () => mine === this.newest;
  }

  /** Whether nothing has begun yet. */
  get untouched(): boolean {
    return this.newest === 0;
  }
}

/** A file that is dropped beside the areas that take one would replace the page. */
export function keepPage(): void {
  addEventListener("dragover", (event) => {
    // An area that takes files has said so before.
    if (event.defaultPrevented) return;
    event.preventDefault();
    if (event.dataTransfer) event.dataTransfer.dropEffect = "none";
  });
  addEventListener("drop", (event) => event.preventDefault());
}

/** Calls with every file that is chosen or dropped. */
export function takesFiles(section: string, chooser: string, take: (file: File) => void): void {
  const area = element(section, HTMLElement);
  const choose = input(chooser);
  choose.addEventListener("change", () => {
    const [file] = choose.files ?? [];
    if (file) take(file);
    // The same file may be chosen again.
    choose.value = "";
  });
  area.addEventListener("dragover", (event) => {
    event.preventDefault();
    area.classList.add("over");
  });
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("over");
    const [file] = event.dataTransfer?.files ?? [];
    if (file) take(file);
  });
}

export function checkedValue(name: string): string {
  return document.querySelector<HTMLInputElement>(`input[name="${name}"]:checked`)?.value ?? "";
}

export function onChecked(name: string, call: (value: string) => void): void {
  for (const radio of document.querySelectorAll<HTMLInputElement>(`input[name="${name}"]`)) {
    radio.addEventListener("change", () => call(radio.value));
  }
}

export function save(data: BlobPart, type: string, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([data], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** "7.7 of 9.1 MB" of all files that are on their way. */
export function loading(say: (text: string) => void) {
  const files = new Map<string, { loadedBytes: number; totalBytes: number }>();
  return (progress: { file: string; loadedBytes: number; totalBytes: number }): void => {
    files.set(progress.file, progress);
    const sum = (of: "loadedBytes" | "totalBytes") =>
      ([...files.values()].reduce((total, file) => total + file[of], 0) / 1e6).toFixed(1);
    say(`Loading the model: ${sum("loadedBytes")} of ${sum("totalBytes")} MB`);
  };
}
