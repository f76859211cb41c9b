/** The speech half: a recording before and after, or a microphone as it speaks. */

import { RemoteDenoiser, SpeechDenoiserNode } from "edgeae";

import { button, canvas, checkedValue, element, input, loading, onChecked, save, Status, takesFiles, Turns } from "./page.js";
import { drawRecording, scroll } from "./spectrogram.js";
import { wav } from "./wav.js";

const MODEL = "models/speech-denoiser";
const RATE_HZ = 48_000;
const RAMP_S = 0.02;
/** The limit's last step: no limit. */
const ALL = 41;

interface Recording {
  readonly name: string;
  readonly noisy: readonly Float32Array[];
  readonly clean: readonly Float32Array[];
}

const status = new Status("speech-status");
let denoiser: Promise<RemoteDenoiser> | undefined;
let context: AudioContext | undefined;
let recording: Recording | undefined;
let player: Player | undefined;
let live: Live | undefined;
let recorder: MediaRecorder | undefined;
const openings = new Turns();
/** Live and Record: both want the microphone, and the newest has it. */
const listenings = new Turns();

function theDenoiser(): Promise<RemoteDenoiser> {
  denoiser ??= RemoteDenoiser.open(MODEL, { onProgress: loading((text) => status.say(text)) });
  denoiser.catch(() => (denoiser = undefined));
  return denoiser;
}

function theContext(): AudioContext {
  return (context ??= new AudioContext({ sampleRate: RATE_HZ }));
}

/** The part of the noise that is kept: 1 is the recording as it was. */
function kept(): number {
  if (checkedValue("heard") === "before") return 1;
  const limit = Number(input("limit").value);
  return limit === ALL ? 0 : 10 ** (-limit / 20);
}

function limitDb(): number | undefined {
  const limit = Number(input("limit").value);
  return limit === ALL ? undefined : limit;
}

/** What the visitor opens ends whatever is heard. */
async function openRecording(blob: Blob, name: string): Promise<void> {
  stopListening();
  await takeRecording(blob, name, openings.begin());
}

async function takeRecording(blob: Blob, name: string, current: () => boolean): Promise<void> {
  try {
    player?.stop();
    button("play").disabled = true;
    status.say(`Opening ${name}…`);
    const model = await theDenoiser();
    // The context of a page that nobody has touched may not sound, but it decodes.
    const sound = await new OfflineAudioContext(1, 1, RATE_HZ)
      .decodeAudioData(await blob.arrayBuffer())
      .catch(() => {
        throw new Error(`${name} is no sound that this browser can read`);
      });
    const noisy = Array.from({ length: sound.numberOfChannels }, (_, c) => sound.getChannelData(c));
    if (!current()) return;
    if (!live) drawRecording(canvas("before"), noisy[0]!, RATE_HZ);
    const start = performance.now();
    const clean = await model.denoise(noisy, {
      sampleRate: RATE_HZ,
      onProgress: (part) => {
        if (current()) status.say(`Cleaning ${name}: ${Math.round(100 * part)} %`);
      },
    });
    if (!current()) return;
    const seconds = (performance.now() - start) / 1000;
    recording = { name, noisy, clean };
    player = new Player(recording);
    drawAfter();
    button("play").disabled = input("seek").disabled = button("speech-save").disabled = false;
    input("seek").max = String(sound.duration);
    const speed = (sound.duration / seconds).toFixed(0);
    const length = sound.duration.toFixed(1);
    status.say(`${name}: ${length} s, cleaned in ${seconds.toFixed(1)} s, ${speed} times real time.`);
  } catch (error) {
    if (!current()) return;
    // What was there before can still be played.
    button("play").disabled = !recording;
    if (!live) drawIfThere();
    status.fail(error);
  }
}

function drawAfter(): void {
  if (!recording || live) return;
  drawRecording(canvas("after"), mixed(recording)[0]!, RATE_HZ);
  const length = (recording.noisy[0]!.length / RATE_HZ).toFixed(1);
  canvas("before").setAttribute("aria-label", `Spectrogram before, ${length} seconds`);
  canvas("after").setAttribute("aria-label", `Spectrogram after, ${length} seconds, noise removed`);
}

/** What is heard and saved as "after", at the limit that is set. */
function mixed({ noisy, clean }: Recording): Float32Array[] {
  const limit = limitDb();
  const keep = limit === undefined ? 0 : 10 ** (-limit / 20);
  return clean.map((samples, c) => samples.map((value, i) => value + keep * (noisy[c]![i]! - value)));
}

/** Plays both recordings at once; which is heard is a matter of two gains. */
class Player {
  private readonly buffers: AudioBuffer[];
  private sources: AudioBufferSourceNode[] = [];
  private gains: GainNode[] = [];
  private startedAt = 0;
  position = 0;

  constructor({ noisy, clean }: Recording) {
    this.buffers = [noisy, clean].map((channels) => {
      const [numberOfChannels, length] = [channels.length, channels[0]!.length];
      const buffer = new AudioBuffer({ numberOfChannels, length, sampleRate: RATE_HZ });
      channels.forEach((samples, c) => buffer.copyToChannel(samples as Float32Array<ArrayBuffer>, c));
      return buffer;
    });
  }

  get playing(): boolean {
    return this.sources.length > 0;
  }

  get now(): number {
    const at = this.playing ? theContext().currentTime - this.startedAt : this.position;
    return Math.min(at, this.buffers[0]!.duration);
  }

  async play(): Promise<void> {
    const sound = theContext();
    await sound.resume();
    if (this.now >= this.buffers[0]!.duration - 0.05) this.position = 0;
    this.sources = this.buffers.map((buffer) => new AudioBufferSourceNode(sound, { buffer }));
    this.gains = this.sources.map((source) => {
      const gain = new GainNode(sound, { gain: 0 });
      source.connect(gain).connect(sound.destination);
      return gain;
    });
    this.mix();
    const at = sound.currentTime + 0.02;
    for (const source of this.sources) source.start(at, this.position);
    this.startedAt = at - this.position;
    this.sources[0]!.onended = () => this.stop();
    button("play").textContent = "Pause";
    animate();
  }

  mix(): void {
    const keep = kept();
    this.gains.forEach((gain, i) => {
      gain.gain.setTargetAtTime(i ? 1 - keep : keep, theContext().currentTime, RAMP_S / 3);
    });
  }

  stop(): void {
    this.position = this.now;
    for (const source of this.sources) {
      source.onended = null;
      source.stop();
    }
    this.sources = this.gains = [];
    button("play").textContent = "Play";
  }

  async seek(seconds: number): Promise<void> {
    const { playing } = this;
    if (playing) this.stop();
    this.position = seconds;
    if (playing) await this.play();
    else showPosition();
  }
}

function showPosition(): void {
  const at = player?.now ?? 0;
  input("seek").value = String(at);
  input("seek").setAttribute("aria-valuetext", `${at.toFixed(1)} seconds`);
  element("seek-value", HTMLElement).textContent = `${at.toFixed(1)} s`;
  const part = `${(100 * at) / Math.max(0.1, Number(input("seek").max))}%`;
  for (const plot of document.querySelectorAll<HTMLElement>(".plot")) {
    plot.classList.toggle("playing", !live && at > 0);
    plot.style.setProperty("--playhead", part);
  }
}

/** A microphone through the denoiser to the loudspeaker. */
class Live {
  private constructor(
    private readonly stream: MediaStream,
    readonly node: SpeechDenoiserNode,
    readonly analysers: readonly AnalyserNode[],
  ) {}

  /** Undefined if it is no longer wanted when the microphone is there. */
  static async start(current: () => boolean): Promise<Live | undefined> {
    const sound = theContext();
    await sound.resume();
    const stream = await microphone();
    try {
      if (current()) {
        const started = await Live.through(sound, stream);
        if (current()) return started;
        started.node.close();
      }
    } catch (error) {
      release(stream);
      throw error;
    }
    release(stream);
    return undefined;
  }

  private static async through(sound: AudioContext, stream: MediaStream): Promise<Live> {
    const node = await SpeechDenoiserNode.create(sound, MODEL, {
      attenuationLimitDb: limitDb(),
      bypass: checkedValue("heard") === "before",
      onProgress: loading((text) => status.say(text)),
    });
    const source = new MediaStreamAudioSourceNode(sound, { mediaStream: stream });
    const options = { fftSize: 1024, smoothingTimeConstant: 0 };
    const analysers = [new AnalyserNode(sound, options), new AnalyserNode(sound, options)];
    source.connect(analysers[0]!);
    source.connect(node).connect(analysers[1]!).connect(sound.destination);
    node.addEventListener("error", (event) => status.fail((event as CustomEvent<Error>).detail));
    return new Live(stream, node, analysers);
  }

  describe(): string {
    const { load, droppedHops } = this.node.stats;
    const late = (1000 * this.node.latency).toFixed(0);
    const busy = (100 * load).toFixed(0);
    return `Live: ${late} ms late, the worker is busy for ${busy} % of the time, ${droppedHops} hops dropped. Wear headphones.`;
  }

  stop(): void {
    release(this.stream);
    this.node.close();
  }
}

/** The browser no longer listens. */
function release(stream: MediaStream): void {
  for (const track of stream.getTracks()) track.stop();
}

/** As it is: browsers would take noise away on their own. */
function microphone(): Promise<MediaStream> {
  const audio = { noiseSuppression: false, echoCancellation: false, autoGainControl: false };
  return navigator.mediaDevices.getUserMedia({ audio }).catch((error: unknown) => {
    throw new Error(`there is no microphone to listen to: ${(error as Error).message}`);
  });
}

async function toggleLive(): Promise<void> {
  if (isPressed("live")) {
    stopListening();
    drawIfThere();
    status.say("");
    return;
  }
  stopListening();
  const current = listenings.begin();
  // Pressed from the click on: a second one takes it back, though the microphone is not there yet.
  press("live", true);
  try {
    player?.stop();
    status.say("Asking for the microphone…");
    const started = await Live.start(current);
    if (!started) return;
    live = started;
    showPosition();
    animate();
  } catch (error) {
    if (!current()) return;
    press("live", false);
    status.fail(error);
  }
}

/** Ends Live and Record, and what has only been asked for. */
function stopListening(): void {
  listenings.begin();
  live?.stop();
  live = undefined;
  press("live", false);
  recorder?.stop();
  recorder = undefined;
  press("record", false);
}

function drawIfThere(): void {
  if (!recording) return;
  drawRecording(canvas("before"), recording.noisy[0]!, RATE_HZ);
  drawAfter();
  showPosition();
}

async function toggleRecording(): Promise<void> {
  if (isPressed("record")) {
    if (recorder) recorder.stop();
    else {
      stopListening();
      status.say("");
    }
    return;
  }
  stopListening();
  const current = listenings.begin();
  press("record", true);
  try {
    player?.stop();
    status.say("Asking for the microphone…");
    const stream = await microphone();
    if (!current()) {
      release(stream);
      return;
    }
    recorder = recorderOf(stream, current);
    status.say("Recording. Press the button again to end.");
  } catch (error) {
    if (!current()) return;
    press("record", false);
    status.fail(error);
  }
}

/** Records until it is stopped, and opens the recording if nothing else was asked for by then. */
function recorderOf(stream: MediaStream, current: () => boolean): MediaRecorder {
  try {
    const pieces: Blob[] = [];
    const started = new MediaRecorder(stream);
    started.ondataavailable = ({ data }) => pieces.push(data);
    started.onstop = () => {
      release(stream);
      if (!current()) return;
      recorder = undefined;
      void openRecording(new Blob(pieces), "Your recording");
    };
    started.start();
    return started;
  } catch (error) {
    release(stream);
    throw error;
  }
}

function isPressed(id: "live" | "record"): boolean {
  return button(id).getAttribute("aria-pressed") === "true";
}

function press(id: "live" | "record", pressed: boolean): void {
  button(id).setAttribute("aria-pressed", String(pressed));
  const names = { live: ["Live", "End live"], record: ["Record", "End recording"] };
  button(id).textContent = names[id][pressed ? 1 : 0]!;
}

let said = 0;
let frame = 0;

function animate(): void {
  // One at a time, whoever asks.
  cancelAnimationFrame(frame);
  if (live) {
    scroll(canvas("before"), live.analysers[0]!);
    scroll(canvas("after"), live.analysers[1]!);
    // A screen reader reads every change: not sixty times a second.
    if (performance.now() - said > 5000) {
      said = performance.now();
      status.say(live.describe());
    }
  } else {
    showPosition();
    if (!player?.playing) return;
  }
  frame = requestAnimationFrame(animate);
}

function change(): void {
  player?.mix();
  if (!live) return;
  live.node.bypass = checkedValue("heard") === "before";
  live.node.attenuationLimitDb = limitDb();
}

/** Whatever is opened while it is on its way is newer. */
async function sampleSpeech(wanted: () => boolean = () => true): Promise<void> {
  const newest = openings.begin();
  const current = () => newest() && wanted();
  try {
    status.say("Fetching the sample…");
    const response = await fetch("samples/noisy.flac");
    const sample = await response.blob();
    if (current()) await takeRecording(sample, "noisy.flac", current);
  } catch (error) {
    if (current()) status.fail(error);
  }
}

/** The sample, unless the visitor has opened something or uses the microphone. */
export async function firstSpeech(): Promise<void> {
  const wanted = () => listenings.untouched;
  if (openings.untouched && wanted()) await sampleSpeech(wanted);
}

export function startSpeech(): void {
  takesFiles("speech", "speech-file", (file) => void openRecording(file, file.name));
  button("speech-sample").addEventListener("click", () => {
    stopListening();
    void sampleSpeech();
  });
  button("record").addEventListener("click", () => void toggleRecording());
  button("live").addEventListener("click", () => void toggleLive());
  button("play").addEventListener("click", () => {
    if (player?.playing) player.stop();
    else void player?.play();
  });
  input("seek").addEventListener("input", () => void player?.seek(Number(input("seek").value)));
  onChecked("heard", change);
  const limit = input("limit");
  limit.addEventListener("input", () => {
    const value = Number(limit.value);
    element("limit-value", HTMLElement).textContent = value === ALL ? "all" : `${value} dB`;
    limit.setAttribute("aria-valuetext", value === ALL ? "as far as possible" : `${value} decibels`);
    change();
  });
  limit.addEventListener("change", drawAfter);
  button("speech-save").addEventListener("click", () => {
    if (recording) save(wav(mixed(recording), RATE_HZ), "audio/wav", "clean.wav");
  });
  addEventListener("resize", () => !live && drawIfThere());
}
