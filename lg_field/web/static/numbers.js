// @ts-check
/** Numbers as they lie in a file, and as they are computed with. */

import { FieldError } from "./errors.js";

/** The bytes of an array. @param {ArrayBufferView} array @returns {Uint8Array} */
export const bytesOf = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

/** Values of a tensor as float32.
 * @param {Uint8Array} bytes @param {string} dtype "F32", "F16" or "BF16" @param {string} name for messages
 * @returns {Float32Array} a copy; a FieldError if one is NaN or infinite */
export function floats(bytes, dtype, name) {
  const values = FLOATS[dtype]?.(bytes);
  if (!values) throw new FieldError(`${name} is of type ${dtype}, which this page does not read: F32, F16 and BF16 are`);
  for (let k = 0; k < values.length; k++) {
    if (!Number.isFinite(values[k])) throw new FieldError(`${name} holds NaN or infinite values`);
  }
  return values;
}

/** @param {Uint8Array} bytes */
function ofFloat32(bytes) {
  return new Float32Array(bytes.slice().buffer);
}

/** @param {Uint8Array} bytes */
function ofBfloat16(bytes) {
  const half = new Uint16Array(bytes.slice().buffer), bits = new Uint32Array(half.length);
  for (let k = 0; k < half.length; k++) bits[k] = half[k] << 16;
  return new Float32Array(bits.buffer);
}

/** @param {Uint8Array} bytes */
function ofFloat16(bytes) {
  const half = new Uint16Array(bytes.slice().buffer), values = new Float32Array(half.length);
  for (let k = 0; k < half.length; k++) {
    const exponent = (half[k] >> 10) & 31, fraction = half[k] & 1023;
    const size = exponent === 0 ? fraction * 2 ** -24
      : exponent < 31 ? (1 + fraction / 1024) * 2 ** (exponent - 15)
      : fraction ? NaN : Infinity;
    values[k] = half[k] & 0x8000 ? -size : size;
  }
  return values;
}

/** Types of numbers with a fraction. @type {Record<string, (bytes: Uint8Array) => Float32Array>} */
export const FLOATS = { F32: ofFloat32, F16: ofFloat16, BF16: ofBfloat16 };

/** Whole numbers below 2^31 of int64.
 * @param {Uint8Array} bytes @param {string} name
 * @returns {Int32Array} */
export function integers(bytes, name) {
  const words = new Int32Array(bytes.slice().buffer), values = new Int32Array(words.length / 2);
  for (let k = 0; k < values.length; k++) {
    if (words[2 * k + 1] !== 0 || words[2 * k] < 0) throw new FieldError(`${name} holds numbers that are no cells`);
    values[k] = words[2 * k];
  }
  return values;
}

/** Bit k of packed booleans, the first in the highest bit of its byte.
 * @param {Uint8Array} bytes @param {number} k @returns {number} 0 or 1 */
export const bit = (bytes, k) => (bytes[k >> 3] >> (7 - (k & 7))) & 1;

/** (n,) booleans of bits, the first in the highest bit.
 * @param {Uint8Array} bytes @param {number} count @returns {Uint8Array} of 0 and 1 */
export function unpackBits(bytes, count) {
  const values = new Uint8Array(count);
  for (let k = 0; k < count; k++) values[k] = bit(bytes, k);
  return values;
}

/** Inverse of `unpackBits`. @param {Uint8Array} values @returns {Uint8Array} */
export function packBits(values) {
  const bytes = new Uint8Array(Math.ceil(values.length / 8));
  for (let k = 0; k < values.length; k++) if (values[k]) bytes[k >> 3] |= 128 >> (k & 7);
  return bytes;
}
