import js from "@eslint/js";
import tseslint from "typescript-eslint";

const NODE = ["Buffer", "URL", "console", "process"];
const BROWSER = [
  "AudioContext",
  "AudioWorkletNode",
  "Blob",
  "OfflineAudioContext",
  "crypto",
  "document",
  "fetch",
  "navigator",
  "performance",
  "setTimeout",
];

/** @param {string[]} names */
function named(names) {
  return Object.fromEntries(names.map((name) => [name, "readonly"]));
}

export default tseslint.config(
  { ignores: ["dist", "build", "site", "node_modules"] },
  js.configs.recommended,
  {
    // A file and a function can be read in one sitting, as tests/test_walls.py holds in Python.
    rules: { "max-lines": ["error", 600], "max-lines-per-function": ["error", 80] },
  },
  {
    files: ["**/*.ts"],
    extends: [...tseslint.configs.strictTypeChecked, ...tseslint.configs.stylisticTypeChecked],
    languageOptions: {
      parserOptions: {
        project: ["tsconfig.json", "tsconfig.test.json", "tsconfig.demo.json"],
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      // Arrays are read in loops whose bounds are right: `!` says so.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/non-nullable-type-assertion-style": "off",
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/prefer-for-of": "off",
      "@typescript-eslint/no-confusing-void-expression": "off",
    },
  },
  {
    files: ["test/**/*.ts"],
    // node:test's functions return promises that it waits for itself.
    rules: { "@typescript-eslint/no-floating-promises": "off" },
  },
  {
    files: ["scripts/**/*.mjs", "test/pages/*.js"],
    // Some functions of the scripts run in a page.
    languageOptions: { globals: { ...named(NODE), ...named(BROWSER) } },
  },
);
