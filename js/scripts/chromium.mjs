/** The system's Chromium, for tests and measurements. */

import { existsSync } from "node:fs";

import { chromium } from "playwright-core";

const NAMES = [
  process.env.CHROMIUM ?? "",
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

export const chromiumPath = NAMES.find((path) => path && existsSync(path));

/**
 * A headless browser whose microphone is a WAV file that is played over and over.
 *
 * @param {string} [microphone]
 */
export async function launch(microphone) {
  return await chromium.launch({
    executablePath: chromiumPath,
    args: [
      "--no-sandbox",
      "--autoplay-policy=no-user-gesture-required",
      "--use-fake-ui-for-media-stream",
      "--use-fake-device-for-media-stream",
      ...(microphone ? [`--use-file-for-fake-audio-capture=${microphone}`] : []),
    ],
  });
}
