/** A denoiser between a microphone and whatever hears it, in the Web Audio graph. */

import { EdgeaeError } from "../errors.js";
import type { LiveOptions, LiveReport } from "../messages.js";
import type { RemoteOptions } from "../remote.js";
import { RemoteModel } from "../remote.js";
import { keptPart } from "./denoiser.js";
import { Ring } from "./ring.js";
import type { WorkletMessage, WorkletOptions, WorkletReport } from "./worklet.js";

const PROCESSOR = "edgeae-speech-denoiser";
const QUANTUM = 128;
// A second and more at any rate: a power of two.
const CAPACITY = 1 << 17;
const DEFAULT_SLACK_MS = 40;

export interface SpeechDenoiserOptions extends RemoteOptions {
  /** 1 or 2; each is cleaned on its own. */
  readonly channels?: 1 | 2 | undefined;
  /** How long the worker may take to answer, beyond the model's own delay; 40 ms by default. */
  readonly slackMs?: number | undefined;
  readonly attenuationLimitDb?: number | undefined;
  readonly bypass?: boolean | undefined;
  /** Where worklet.js is, if not beside this module. */
  readonly worklet?: string | URL | undefined;
}

/** How the node does, since it was made. */
export interface SpeechDenoiserStats {
  /** Steps of the model. */
  readonly hops: number;
  /** Steps whose sound, or some of it, did not come in time. */
  readonly droppedHops: number;
  /** The part of the time that the worker was busy; below 1 it keeps up. */
  readonly load: number;
  /** The longest that it was busy at once in the last half second, in milliseconds. */
  readonly worstMs: number;
}

// Node and workers have no such class, and can make no such node.
 
const Base =
  (globalThis as { AudioWorkletNode?: typeof AudioWorkletNode }).AudioWorkletNode ??
  (Object as unknown as typeof AudioWorkletNode);

/**
 * Cleans speech as it arrives. The graph runs in a worker; the audio thread only hands sound over
 * and plays what comes back `latency` seconds later.
 *
 * An event "error" says that the worker failed; after that the node is silent.
 */
export class SpeechDenoiserNode extends Base {
  private readonly report = { hops: 0, busyMs: 0, worstMs: 0 };
  private played: WorkletReport = { quanta: 0, missed: 0, dropped: 0 };
  private limitDb: number | undefined;
  private bypassed: boolean;

  private constructor(
    context: BaseAudioContext,
    private readonly model: RemoteModel,
    options: SpeechDenoiserOptions,
    processorOptions: WorkletOptions,
    /** From input to output, in seconds. */
    readonly latency: number,
    /** How the audio thread and the worker share sound: memory needs a page that is isolated. */
    readonly transport: "memory" | "messages",
  ) {
    const { channels } = processorOptions;
    super(context, PROCESSOR, {
      numberOfInputs: 1,
      numberOfOutputs: 1,
      outputChannelCount: [channels],
      channelCount: channels,
      channelCountMode: "explicit",
      processorOptions,
    });
    this.limitDb = options.attenuationLimitDb;
    this.bypassed = options.bypass ?? false;
    this.port.onmessage = ({ data }: MessageEvent<WorkletReport>) => (this.played = data);
    model.onLive = (report: LiveReport) => Object.assign(this.report, report);
    model.onFailed = (error) => this.dispatchEvent(new CustomEvent("error", { detail: error }));
  }

  /** A node of the context, ready to be connected. */
  static async create(
    context: BaseAudioContext,
    source: string | URL,
    options: SpeechDenoiserOptions = {},
  ): Promise<SpeechDenoiserNode> {
    const { channels = 1, slackMs = DEFAULT_SLACK_MS } = options;
    if (!(slackMs >= 0 && slackMs <= 500)) {
      throw new RangeError(`slackMs is ${slackMs}, expected 0 to 500`);
    }
    const keep = keepOf(options.attenuationLimitDb, options.bypass ?? false);
    const { sampleRate } = context;
    const [model] = await Promise.all([
      RemoteModel.open(source, options),
      addWorklet(context, options.worklet),
    ]);
    try {
      const memory = () => new SharedArrayBuffer(Ring.bytes(channels, CAPACITY));
      const shared = globalThis.crossOriginIsolated
        ? { input: memory(), output: memory() }
        : undefined;
      const channel = shared ? undefined : new MessageChannel();
      const live = { sampleRate, channels, blockSamples: QUANTUM, capacity: CAPACITY };
      const sound: LiveOptions = { ...live, ...(shared ? { shared } : { port: channel!.port1 }) };
      const { delay, hopSamples } = await model.call<{ delay: number; hopSamples: number }>(
        { verb: "live", options: sound },
        channel ? [channel.port1] : [],
      );
      const slack = QUANTUM * Math.ceil((slackMs / 1000) * (sampleRate / QUANTUM));
      const latency = delay + slack;
      const processor = { channels, latency, slack, hopSamples, keep, capacity: CAPACITY };
      const node = new SpeechDenoiserNode(
        context,
        model,
        options,
        shared ? { ...processor, shared } : processor,
        latency / sampleRate,
        shared ? "memory" : "messages",
      );
      if (channel) node.tell({ port: channel.port2 }, [channel.port2]);
      return node;
    } catch (error) {
      model.close();
      throw error;
    }
  }

  /** How far noise is taken down; undefined is as far as the model can. May be set at any time. */
  get attenuationLimitDb(): number | undefined {
    return this.limitDb;
  }

  set attenuationLimitDb(limitDb: number | undefined) {
    const keep = keepOf(limitDb, this.bypassed);
    this.limitDb = limitDb;
    this.tell({ keep });
  }

  /** Whether the sound is as it came, at the same latency. May be set at any time. */
  get bypass(): boolean {
    return this.bypassed;
  }

  set bypass(bypass: boolean) {
    this.bypassed = bypass;
    this.tell({ keep: keepOf(this.limitDb, bypass) });
  }

  get stats(): SpeechDenoiserStats {
    const { hops, busyMs, worstMs } = this.report;
    const seconds = (this.played.quanta * QUANTUM) / this.context.sampleRate;
    const load = seconds ? busyMs / 1000 / seconds : 0;
    return { hops, droppedHops: this.played.dropped, load, worstMs };
  }

  /** Ends the worker and the processor. The node gives nothing after that. */
  close(): void {
    this.disconnect();
    this.model.onFailed = undefined;
    this.tell({ close: true });
    this.model.close();
  }

  private tell(message: WorkletMessage, transfer: Transferable[] = []): void {
    this.port.postMessage(message, transfer);
  }
}

function keepOf(limitDb: number | undefined, bypass: boolean): number {
  const keep = keptPart(limitDb);
  return bypass ? 1 : keep;
}

async function addWorklet(context: BaseAudioContext, url: string | URL | undefined): Promise<void> {
  const { audioWorklet } = context as { audioWorklet?: AudioWorklet };
  if (!audioWorklet) {
    throw new EdgeaeError("runtime", "AudioWorklet needs a secure context: https, or localhost");
  }
  // Bundlers know this form and no other.
  await audioWorklet.addModule(url ?? new URL("./worklet.js", import.meta.url));
}
