/** The one place that meets ONNX Runtime. */

import type { Bundle } from "./bundle.js";
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

// onnxruntime-web has one stack and one heap for all sessions and does not look after two calls at
// a time, not even of different sessions: they wait for each other here.
const underWay = new WeakMap<Runtime["InferenceSession"], Promise<unknown>>();

function inTurn<T>({ InferenceSession }: Runtime, call: () => Promise<T>): Promise<T> {
  const result = (underWay.get(InferenceSession) ?? Promise.resolve()).then(call);
  underWay.set(
    InferenceSession,
    result.catch(() => undefined),
  );
  return result;
}

/** A model's graph, ready to run. */
export class Graph {
  private constructor(
    private readonly runtime: Runtime,
    private readonly session: RuntimeSession,
    readonly name: string,
  ) {}

  /** The graph of a role, in the precision that was asked for if there is one. */
  static async of(
    bundle: Bundle,
    runtime: Runtime,
    role: string,
    precision?: string,
  ): Promise<Graph> {
    const entry = bundle.graphEntry(role, precision);
    return await Graph.open(runtime, await bundle.read(entry), entry.file);
  }

  static async open(runtime: Runtime, model: Uint8Array, name: string): Promise<Graph> {
    try {
      const session = await inTurn(runtime, () =>
        runtime.InferenceSession.create(model, {
          // One thread of the CPU: in the browser this is WebAssembly. The integer graphs must run
          // in float32 exactly, which other execution providers do not promise.
          executionProviders: ["cpu"],
          intraOpNumThreads: 1,
          interOpNumThreads: 1,
          graphOptimizationLevel: "all",
          logSeverityLevel: 4,
        }),
      );
      return new Graph(runtime, session, name);
    } catch (error) {
      throw new EdgeaeError("runtime", `cannot open ${name}: ${firstLine(error)}`);
    }
  }

  /** The outputs, in the graph's order, of inputs in the graph's order. */
  async run(inputs: readonly Input[]): Promise<Output[]> {
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
      const results = (await inTurn(this.runtime, () => this.session.run(feeds))) as Record<
        string,
        RuntimeTensor
      >;
      return outputNames.map((output) => results[output]?.data as Output);
    } catch (error) {
      throw new EdgeaeError("runtime", `cannot run ${this.name}: ${firstLine(error)}`);
    }
  }

  async close(): Promise<void> {
    await inTurn(this.runtime, () => this.session.release());
  }
}

/** The output of a graph, which has so many numbers, none of them NaN. */
export function floats(output: unknown, length: number, graph: Graph): Float32Array {
  if (!(output instanceof Float32Array) || output.length !== length) {
    throw new EdgeaeError("bundle", `${graph.name} does not give what the manifest says`);
  }
  // An infinity is clipped like any large number; of NaN rounding would make some number.
  if (output.some(Number.isNaN)) throw new EdgeaeError("runtime", `${graph.name} gives NaN`);
  return output;
}

function firstLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split("\n")[0] as string;
}
