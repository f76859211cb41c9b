/** Sound as a picture: time to the right, frequency up to 8 kHz, loudness as color. */

import { Fft, sqrtHann } from "../dist/audio/fft.js";

const WINDOW = 1024;
const TOP_HZ = 8000;
const FLOOR_DB = -90;
const RANGE_DB = 80;
const ROWS = 160;

/** From black over violet and orange to pale yellow, so that lighter is always louder. */
const COLORS = [
  [5, 5, 15], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21],
  [250, 193, 39], [252, 255, 200],
] as const;

const PALETTE = Uint8ClampedArray.from({ length: 4 * 256 }, (_, i) => {
  if (i % 4 === 3) return 255;
  const place = (Math.floor(i / 4) / 255) * (COLORS.length - 1);
  const below = Math.min(COLORS.length - 2, Math.floor(place));
  const part = place - below;
  return COLORS[below]![i % 4]! * (1 - part) + COLORS[below + 1]![i % 4]! * part;
});

function paintColumn(column: ImageData, decibels: (hz: number) => number): void {
  for (let row = 0; row < ROWS; row++) {
    const hz = ((ROWS - 1 - row) / (ROWS - 1)) * TOP_HZ;
    const part = (decibels(hz) - FLOOR_DB) / RANGE_DB;
    const color = 4 * Math.round(255 * Math.min(1, Math.max(0, part)));
    column.data.set(PALETTE.subarray(color, color + 4), 4 * row);
  }
}

/** Draws all of a recording. */
export function drawRecording(canvas: HTMLCanvasElement, samples: Float32Array, rate: number): void {
  const columns = Math.max(1, Math.round(canvas.clientWidth));
  canvas.width = columns;
  canvas.height = ROWS;
  const context = canvas.getContext("2d")!;
  const fft = new Fft(WINDOW);
  const window = sqrtHann(WINDOW);
  const frame = new Float32Array(WINDOW);
  const spectrum = new Float32Array(WINDOW + 2);
  const image = new ImageData(1, ROWS);
  const bins = WINDOW / 2 + 1;
  for (let column = 0; column < columns; column++) {
    const begin = Math.round((column / columns) * samples.length) - WINDOW / 2;
    for (let i = 0; i < WINDOW; i++) frame[i] = (samples[begin + i] ?? 0) * window[i]! ** 2;
    fft.forward(frame, spectrum);
    paintColumn(image, (hz) => {
      const bin = Math.min(bins - 1, Math.round((hz / rate) * WINDOW));
      const power = (spectrum[bin]! ** 2 + spectrum[bins + bin]! ** 2) / (WINDOW / 4) ** 2;
      return 10 * Math.log10(power + 1e-12);
    });
    context.putImageData(image, column, 0);
  }
}

/** Adds what an analyser hears now at the right, and moves the rest to the left. */
export function scroll(canvas: HTMLCanvasElement, analyser: AnalyserNode): void {
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  if (canvas.height !== ROWS || canvas.width !== canvas.clientWidth) {
    canvas.width = canvas.clientWidth;
    canvas.height = ROWS;
    context.fillRect(0, 0, canvas.width, ROWS);
  }
  const levels = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(levels);
  const image = new ImageData(1, ROWS);
  paintColumn(image, (hz) => {
    const bin = Math.round((hz / analyser.context.sampleRate) * analyser.fftSize);
    return levels[Math.min(levels.length - 1, bin)]!;
  });
  context.drawImage(canvas, -2, 0);
  context.putImageData(image, canvas.width - 2, 0);
  context.putImageData(image, canvas.width - 1, 0);
}
