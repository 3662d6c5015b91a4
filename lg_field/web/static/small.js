// @ts-check
/** Weights as small whole numbers, as files of int8 hold them: which bits each of them has, and the values again.
 *
 * A row of a tensor is cut into segments with a scale each. First bytes lie under the tensor's name, scales under
 * NAME_scale, what numbers of more than 8 bits have beside the first ones under NAME_fine. */

import { FieldError } from "./errors.js";
import { rateOf } from "./network.js";
import { bytesOf, floats } from "./numbers.js";

/** @typedef {import("./types.js").Sizes} Sizes */
/** @typedef {{width: number, bits: number, fine: number}} Segment columns that share a scale, and bytes of a row beside the
 * first ones */
/** How a tensor of lines is held; `byColumn`: one scale for each column of all lines.
 * @typedef {{segments: Segment[], byColumn: boolean}} Layout */
/** Bytes of a tensor's lines, and of what stands beside them. @typedef {{first: Uint8Array, scale: Uint8Array, fine?: Uint8Array}} Held */

export const SCALE = "_scale", FINE = "_fine";
const LARGEST = 127, SMALLEST = 1e-30;

/** @param {number} width @param {number} bits @returns {Segment} */
const segment = (width, bits) => ({ width, bits, fine: Math.ceil((width * (bits - 8)) / 8) });

/** How a file of int8 holds a tensor; null: as it is.
 * @param {string} name @param {number[]} shape @param {Sizes} sizes @returns {Layout | null} */
export function layoutOf(name, shape, sizes) {
  const width = shape[1] ?? 0, sensitive = rateOf(sizes) > 1;
  if (shape.length !== 2 || width === 0 || name === "occupied") return null;
  if (name === "hash_table") return { segments: [segment(width, 8)], byColumn: true };
  if (name === "local") return { segments: rowSegments(width, sizes, sensitive), byColumn: false };
  return { segments: [segment(width, name === "features" ? 8 : sensitive ? 24 : 16)], byColumn: false };
}

/** Weights and biases of each layer of a row. @param {number} width @param {Sizes} sizes @param {boolean} sensitive */
function rowSegments(width, sizes, sensitive) {
  const h = sizes.local_width, out = 1 + sizes.color_features;
  const first = 3 * (1 + 2 * sizes.local_frequencies) + (sizes.grid_nodes ? sizes.grid_features : 0);
  const layers = [[first, h], ...Array.from({ length: sizes.hidden_layers }, () => [h, h]), [h, out]];
  const segments = layers.flatMap(([a, b], k) => [segment(a * b, sensitive ? (k ? 12 : 24) : 8), segment(b, sensitive ? (k ? 16 : 24) : 8)]);
  return segments.reduce((sum, one) => sum + one.width, 0) === width ? segments : [segment(width, 8)];
}

/** What a tensor needs beside it: end of the name -> type and shape. @param {Layout} layout @param {number[]} shape
 * @returns {Map<string, {dtype: string, shape: number[]}>} */
export function beside({ segments, byColumn }, shape) {
  const fine = segments.reduce((sum, one) => sum + one.fine, 0);
  const needed = new Map([[SCALE, { dtype: "F32", shape: byColumn ? [1, shape[1]] : [shape[0], segments.length] }]]);
  return fine ? needed.set(FINE, { dtype: "U8", shape: [shape[0], fine] }) : needed;
}

/** The values of whole numbers, line after line.
 * @param {Held} held @param {Layout} layout @param {string} name for messages @returns {Float32Array} */
export function restored(held, { segments, byColumn }, name) {
  const first = new Int8Array(held.first.buffer, held.first.byteOffset, held.first.length), scales = floats(held.scale, "F32", `${name}${SCALE}`);
  if (scales.some((scale) => scale < 0)) throw new FieldError(`${name}: scales must not be negative`);
  const values = new Float32Array(first.length), fine = held.fine ?? new Uint8Array();
  if (byColumn) for (let k = 0; k < values.length; k++) values[k] = first[k] * scales[k % scales.length];
  else {
    for (let at = 0, low = 0, number = 0; at < values.length; ) {
      for (const one of segments) {
        for (let k = 0; k < one.width; k++) values[at + k] = wholeOf(first[at + k], fine, low, k, one) * scales[number];
        at += one.width;
        low += one.fine;
        number += 1;
      }
    }
  }
  if (!values.every(Number.isFinite)) throw new FieldError(`${name}: scales are so large that values are infinite`);
  return values;
}

/** @param {number} first byte @param {Uint8Array} fine @param {number} low where those of the segment begin
 * @param {number} k number in the segment @param {Segment} segment */
function wholeOf(first, fine, low, k, { bits, width }) {
  if (bits === 8) return first;
  if (bits === 12) return first * 16 + ((fine[low + (k >> 1)] >> (4 * (k & 1))) & 15);
  return bits === 16 ? first * 256 + fine[low + k] : first * 65536 + (fine[low + k] | (fine[low + width + k] << 8));
}

/** Lines of a tensor with scales by column, with the scales that these lines need.
 * @param {Uint8Array[]} lines @param {Uint8Array} scale @returns {{lines: Uint8Array[], scale: Uint8Array}} */
export function rescaled(lines, scale) {
  const before = floats(scale, "F32", `hash_table${SCALE}`), after = new Float32Array(before.length);
  const whole = lines.map((line) => new Int8Array(line.slice().buffer));
  for (let k = 0; k < before.length; k++) {
    const most = whole.reduce((largest, line) => Math.max(largest, Math.abs(line[k])), 0) * before[k];
    if (most > SMALLEST) {
      after[k] = 2 ** Math.floor(Math.log2(most / LARGEST));
      while (after[k] * LARGEST < most) after[k] *= 2;
    }
    for (const line of whole) line[k] = after[k] ? evenly((line[k] * before[k]) / after[k]) : 0;
  }
  return { lines: whole.map(bytesOf), scale: bytesOf(after) };
}

/** The nearest whole number; of two the even one. @param {number} value */
function evenly(value) {
  const low = Math.floor(value), part = value - low;
  return part > 0.5 || (part === 0.5 && low % 2 !== 0) ? low + 1 : low;
}
