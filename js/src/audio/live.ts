/** The worker's side of a live stream: takes sound as it comes, gives it back cleaned. */

import type { LiveOptions, LiveReport } from "../messages.js";
import type { SignalDenoiser } from "./denoiser.js";
import { Ring } from "./ring.js";
import type { Stream } from "./stream.js";

const REPORT_MS = 500;
// Longer than anyone would wait for sound: only so that a worker never sleeps for good.
const WAIT_MS = 1000;
const WARM_UP_HOPS = 200;

// Half a ring behind, a second and more, what waits is given up and the stream begins anew: a machine
// that is too slow would else stay behind for ever.

interface Listener {
  readonly report: (report: LiveReport) => void;
  readonly fail: (error: unknown) => void;
}

/** Begins, and gives the stream's delay in samples, and those of a step of the model. */
export async function runLive(
  denoiser: SignalDenoiser,
  options: LiveOptions,
  listener: Listener,
): Promise<{ delay: number; hopSamples: number }> {
  const { sampleRate, channels, blockSamples, shared, port } = options;
  const stream = denoiser.stream({ sampleRate, channels, blockSamples });
  const clean = timed(stream, listener);
  const hopSamples = denoiser.hopSamples(sampleRate);
  await warmUp(denoiser.stream({ sampleRate, channels }), channels, hopSamples);
  // Only after the answer has gone: the loop over shared memory never looks at messages again.
  if (shared) {
    setTimeout(() => void overMemory(shared, options, stream, clean).catch(listener.fail));
  }
  if (port) overPort(port, options, stream, clean, listener.fail);
  return { delay: stream.delay, hopSamples };
}

/** The first steps of a graph take many times as long as later ones: engines compile meanwhile. */
async function warmUp(stream: Stream, channels: number, hopSamples: number): Promise<void> {
  const length = Math.ceil(hopSamples);
  for (let hop = 0; hop < WARM_UP_HOPS; hop++) {
    // Not silence, whose arithmetic is another; block by block, as live sound comes.
    const noise = Float32Array.from({ length }, (_, i) => 0.01 * Math.sin(i * i + hop));
    await stream.process(Array.from({ length: channels }, () => noise));
  }
}

type Clean = (block: Float32Array[]) => Promise<Float32Array[]>;

/** Processes blocks, keeps the time that it takes, and reports it. */
function timed(stream: Stream, { report }: Listener): Clean {
  let [hops, busyMs, worstMs, reported] = [0, 0, 0, 0];
  return async (block) => {
    const start = performance.now();
    const before = stream.hops;
    const out = await sounding(stream, block);
    const took = performance.now() - start;
    hops += stream.hops - before;
    busyMs += took;
    worstMs = Math.max(worstMs, took);
    if (start - reported >= REPORT_MS) {
      report({ hops, busyMs, worstMs });
      reported = start;
      worstMs = 0;
    }
    return out;
  };
}

/** A block with NaN in it, which a broken node upstream may give, is as good as lost. */
async function sounding(stream: Stream, block: Float32Array[]): Promise<Float32Array[]> {
  try {
    return await stream.process(block);
  } catch (error) {
    if (error instanceof RangeError) return await stream.skip(block[0]!.length);
    throw error;
  }
}

async function overMemory(
  shared: NonNullable<LiveOptions["shared"]>,
  { channels, capacity }: LiveOptions,
  stream: Stream,
  clean: Clean,
): Promise<never> {
  const input = new Ring(shared.input, channels);
  const output = new Ring(shared.output, channels);
  // The node makes its first sound after this has begun, so nothing was written before.
  let position = 0;
  for (;;) {
    const there = input.since(position);
    if (there === 0) {
      Atomics.wait(input.counter, 0, position, WAIT_MS);
      continue;
    }
    let block = silence(channels, there);
    if (there > capacity / 2) {
      await stream.reset();
    } else {
      input.read(position, block, there);
      block = await clean(block);
    }
    output.write(block, there);
    position = (position + there) | 0;
  }
}

function overPort(
  port: MessagePort,
  { channels, capacity }: LiveOptions,
  stream: Stream,
  clean: Clean,
  fail: (error: unknown) => void,
): void {
  let last = Promise.resolve();
  let waiting = 0;
  port.onmessage = ({ data }: MessageEvent<Float32Array[]>) => {
    const count = data[0]!.length;
    waiting += count;
    last = last
      .then(async () => {
        const late = waiting > capacity / 2;
        if (late) await stream.reset();
        const out = late ? silence(channels, count) : await clean(data);
        waiting -= count;
        port.postMessage(
          out,
          out.map(({ buffer }) => buffer),
        );
      })
      .catch(fail);
  };
}

function silence(channels: number, count: number): Float32Array[] {
  return Array.from({ length: channels }, () => new Float32Array(count));
}
