/** The one place that meets ONNX Runtime. */

import { EdgeaeError } from "./errors.js";

/** What is needed of onnxruntime-web or onnxruntime-node: pass the imported module. */
export interface Runtime {
  readonly Tensor: new (
    type: "float32",
    data: Float32Array,
    dims: readonly number[],
  ) => RuntimeTensor;
  readonly InferenceSession: {
    create(model: Uint8Array, options?: object): Promise<RuntimeSession>;
  };
}

interface RuntimeTensor {
  readonly data: unknown;
  readonly dims: readonly number[];
}

interface RuntimeSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- the two packages' types differ
  run(feeds: any): Promise<any>;
  release(): Promise<void>;
}

export interface Input {
  readonly data: Float32Array;
  readonly dims: readonly number[];
}

export type Output = Float32Array | Int32Array;

/** A model's graph, ready to run; runs wait for each other. */
export class Graph {
  private last: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly runtime: Runtime,
    private readonly session: RuntimeSession,
    readonly name: string,
  ) {}

  static async open(runtime: Runtime, model: Uint8Array, name: string): Promise<Graph> {
    try {
      const session = await runtime.InferenceSession.create(model, {
        // One thread of the CPU: in the browser this is WebAssembly. The integer graphs must run
        // in float32 exactly, which other execution providers do not promise.
        executionProviders: ["cpu"],
        intraOpNumThreads: 1,
        interOpNumThreads: 1,
        graphOptimizationLevel: "all",
        logSeverityLevel: 4,
      });
      return new Graph(runtime, session, name);
    } catch (error) {
      throw new EdgeaeError("runtime", `cannot open ${name}: ${firstLine(error)}`);
    }
  }

  /** The outputs, in the graph's order, of inputs in the graph's order. */
  run(inputs: readonly Input[]): Promise<Output[]> {
    // A session of onnxruntime-web does not run twice at a time.
    const result = this.last.then(() => this.runNow(inputs));
    this.last = result.catch(() => undefined);
    return result;
  }

  async close(): Promise<void> {
    await this.last;
    await this.session.release();
  }

  private async runNow(inputs: readonly Input[]): Promise<Output[]> {
    const { inputNames, outputNames } = this.session;
    if (inputs.length !== inputNames.length) {
      const found = `${inputNames.length} inputs, expected ${inputs.length}`;
      throw new EdgeaeError("bundle", `${this.name} has ${found}`);
    }
    try {
      const feeds: Record<string, RuntimeTensor> = {};
      inputs.forEach(({ data, dims }, i) => {
        feeds[inputNames[i] as string] = new this.runtime.Tensor("float32", data, dims);
      });
      const results = (await this.session.run(feeds)) as Record<string, RuntimeTensor>;
      return outputNames.map((output) => results[output]?.data as Output);
    } catch (error) {
      throw new EdgeaeError("runtime", `cannot run ${this.name}: ${firstLine(error)}`);
    }
  }
}

function firstLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split("\n")[0] as string;
}
