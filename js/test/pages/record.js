/** A node with two inputs that keeps the first channel of both, from its first quantum on. */

const PROCESSOR = `
registerProcessor("recorder", class extends AudioWorkletProcessor {
  constructor({ processorOptions: { frames } }) {
    super();
    this.kept = [new Float32Array(frames), new Float32Array(frames)];
    this.at = 0;
  }
  process(inputs) {
    const left = this.kept[0].length - this.at;
    if (left <= 0) return false;
    this.kept.forEach((kept, i) => {
      const [samples] = inputs[i];
      if (samples) kept.set(samples.subarray(0, left), this.at);
    });
    this.at += 128;
    if (this.at >= this.kept[0].length) this.port.postMessage(this.kept);
    return true;
  }
});`;

export async function prepare(context) {
  const url = URL.createObjectURL(new Blob([PROCESSOR], { type: "text/javascript" }));
  await context.audioWorklet.addModule(url);
}

export function record(context, seconds) {
  const frames = 128 * Math.ceil((seconds * context.sampleRate) / 128);
  const node = new AudioWorkletNode(context, "recorder", {
    numberOfInputs: 2,
    numberOfOutputs: 0,
    channelCount: 1,
    channelCountMode: "explicit",
    processorOptions: { frames },
  });
  node.samples = new Promise((resolve) => {
    node.port.onmessage = ({ data }) => resolve(data);
  });
  return node;
}
