// @ts-check
/** The safetensors container: the header, checked before anything that it claims is allocated, and written anew. */

import { FieldError } from "./errors.js";
import { dumps, parse, plain } from "./json.js";

/** @typedef {import("./types.js").Entry} Entry */
/** @typedef {{entries: Map<string, Entry>, metadata: Map<string, string>}} Header */

/** Bytes of a number of each type. @type {Record<string, number>} */
export const ITEM_BYTES = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, U8: 1, I8: 1 };
export const MAX_HEADER = 1 << 20;
const MAX_TENSORS = 4096;
const MAX_AXES = 8;

/** @param {number} count */
export const commas = (count) => count.toLocaleString("en-US");

/** Length of the header that the first 8 bytes of a file claim.
 * @param {Uint8Array} bytes at least the first 8
 * @param {number} size of the file
 * @param {string} name
 * @returns {number} */
export function headerLength(bytes, size, name) {
  if (size < 8 || bytes.length < 8) throw new FieldError(`${name} is not a field file: it has ${commas(size)} bytes`);
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  if (length > BigInt(Math.min(MAX_HEADER, size - 8))) {
    throw new FieldError(
      `${name} is not a field file or is truncated: its header would take ${length.toLocaleString("en-US")} bytes of ` +
        `${commas(size)} (at most ${commas(MAX_HEADER)} are read)`,
    );
  }
  return Number(length);
}

/** The header of a file.
 * @param {Uint8Array} bytes of the JSON text
 * @param {number} size of the file
 * @param {string} name
 * @returns {Header} */
export function readHeader(bytes, size, name) {
  const header = parse(textOf(bytes, name), name);
  if (!(header instanceof Map)) throw new FieldError(`${name} is not a field file: its header is not a JSON object`);
  const metadata = header.get("__metadata__") ?? new Map();
  header.delete("__metadata__");
  if (!(metadata instanceof Map) || ![...metadata.values()].every((value) => typeof value === "string")) {
    throw new FieldError(`${name}: __metadata__ must map names to text`);
  }
  if (header.size > MAX_TENSORS) {
    throw new FieldError(`${name} lists ${commas(header.size)} tensors; a field has at most ${commas(MAX_TENSORS)}`);
  }
  const base = 8 + bytes.length;
  const entries = new Map([...header].map(([key, value]) => [key, entryOf(key, value, base, size, name)]));
  checkPlaces(entries, base, size, name);
  return { entries, metadata };
}

/** @param {Uint8Array} bytes @param {string} name */
function textOf(bytes, name) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new FieldError(`${name} is not a field file or is damaged: its header is not text`);
  }
}

/** @param {string} key @param {any} value @param {number} base @param {number} size @param {string} name
 * @returns {Entry} */
function entryOf(key, value, base, size, name) {
  const said = value instanceof Map ? plain(value) : {};
  const itemBytes = typeof said.dtype === "string" ? ITEM_BYTES[said.dtype] : undefined;
  const shown = JSON.stringify(key.slice(0, 80));
  if (itemBytes === undefined || !Array.isArray(said.shape) || said.data_offsets?.length !== 2) {
    throw new FieldError(`${name}: bad header entry for ${shown}: ${JSON.stringify(said).slice(0, 80)}`);
  }
  const numbers = [...value.get("shape"), ...value.get("data_offsets")];
  if (!numbers.every((n) => typeof n === "number" && n >= 0 && n <= size) || said.shape.length > MAX_AXES) {
    throw new FieldError(`${name}: shape and offsets of ${shown} do not fit a file of ${commas(size)} bytes`);
  }
  const product = (/** @type {number[]} */ axes) => axes.reduce((a, b) => a * b, itemBytes);
  const bytes = product(said.shape), [start, end] = said.data_offsets;
  if (bytes !== end - start) {
    throw new FieldError(
      `${name}: ${shown} claims [${said.shape}] ${said.dtype} in ${commas(end - start)} bytes, which takes ${commas(bytes)}`,
    );
  }
  return { dtype: said.dtype, shape: said.shape, start: base + start, bytes, rowBytes: product(said.shape.slice(1)) };
}

/** The tensors must fill the file, one after the other.
 * @param {Map<string, Entry>} entries @param {number} base @param {number} size @param {string} name */
function checkPlaces(entries, base, size, name) {
  let position = base;
  const order = [...entries].sort(([, a], [, b]) => a.start - b.start || a.bytes - b.bytes);
  for (const [key, entry] of order) {
    if (entry.start !== position) throw new FieldError(`${name}: the bytes of ${key} overlap others or leave a gap`);
    position += entry.bytes;
  }
  if (position !== size) {
    throw new FieldError(
      `${name} has ${commas(size)} bytes but its header describes ${commas(position)}: truncated or damaged`,
    );
  }
}

/** Order in which tensors are written: wide types first, then by name.
 * @param {Map<string, {dtype: string, shape: number[]}>} shapes
 * @returns {string[]} */
export function writingOrder(shapes) {
  const width = (/** @type {string} */ name) => ITEM_BYTES[shapes.get(name)?.dtype ?? "U8"];
  return [...shapes.keys()].sort((a, b) => width(b) - width(a) || (a < b ? -1 : a > b ? 1 : 0));
}

/** The first bytes of a file: length and header.
 * @param {Map<string, {dtype: string, shape: number[]}>} shapes name -> type and size
 * @param {Map<string, string>} metadata
 * @returns {Uint8Array} */
export function headerBytes(shapes, metadata) {
  /** @type {Map<string, any>} */
  const header = new Map([["__metadata__", metadata]]);
  let position = 0;
  for (const name of writingOrder(shapes)) {
    const { dtype, shape } = /** @type {{dtype: string, shape: number[]}} */ (shapes.get(name));
    const end = position + shape.reduce((a, b) => a * b, ITEM_BYTES[dtype]);
    header.set(name, new Map(/** @type {[string, any][]} */ ([["dtype", dtype], ["shape", shape], ["data_offsets", [position, end]]])));
    position = end;
  }
  const json = dumps(header);
  const text = new TextEncoder().encode(json + " ".repeat((8 - (json.length % 8)) % 8));
  if (text.length > MAX_HEADER) {
    throw new FieldError(`the description takes ${commas(text.length)} bytes; at most ${commas(MAX_HEADER)} fit a field file`);
  }
  const bytes = new Uint8Array(8 + text.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}
