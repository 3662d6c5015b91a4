// @ts-check
/** Crops: the rows that a region or cells keep, and the field file of them, byte for byte what `lg-field crop` writes. */

import { headerBytes, writingOrder } from "./container.js";
import { FieldError } from "./errors.js";
import { asFloats, dumps } from "./json.js";
import { linesRead } from "./lines.js";
import { FLOATS, bytesOf, floats, packBits, unpackBits } from "./numbers.js";
import { KEY } from "./schema.js";
import { FINE, SCALE, rescaled } from "./small.js";
import { and, not } from "./space.js";

/** @typedef {import("./field.js").Field} Field */
/** @typedef {import("./space.js").Region} Region */
/** What to keep: a region or cells (numbers, without a mask); `invert` removes them instead, `snap` keeps whole cells.
 * `within`: of what a region keeps only these cells, as a crop by them after the one by the region.
 * @typedef {{region?: Region, cells?: ArrayLike<number>, invert?: boolean, snap?: boolean, within?: ArrayLike<number>}} Keep */
/** @typedef {{dtype: string, shape: number[], pieces: Uint8Array[]}} Tensor */

const NOTHING_KEPT = "nothing would be kept: no cell of the field is in what you asked for";
/** Edits that a history keeps. */
const MOST_EDITS = 16;

/** Row numbers that a crop keeps, sorted, and the exact region of the result.
 * @param {Field} field @param {Keep} keep
 * @returns {{rows: Int32Array, region: Region | null}} a FieldError if none would be kept */
export function rowsToKeep(field, keep) {
  if ((keep.region === undefined) === (keep.cells === undefined)) throw new FieldError("give either a region or cells to keep");
  const shape = keep.region && (keep.invert ? not(keep.region) : keep.region);
  const mask = shape ? shape.touched(field.grid, field.cells, field.sizes.contraction) : cellMask(field, keep);
  const within = keep.within ? cellMask(field, { cells: keep.within }) : null;
  const rows = Int32Array.from([...mask.keys()].filter((row) => mask[row] && (!within || within[row])));
  if (!rows.length) throw new FieldError(NOTHING_KEPT);
  const region = shape ? (field.region ? and(field.region, shape) : shape) : field.region;
  return { rows, region: keep.snap ? field.region : region };
}

/** @param {Field} field @param {Keep} keep @returns {Uint8Array} 1 for the rows of the cells */
function cellMask(field, { cells = [], invert = false }) {
  const named = new Set(Array.from(cells)), most = field.grid.numCells;
  for (const cell of named) {
    if (!(Number.isInteger(cell) && cell >= 0 && cell < most)) throw new FieldError(`no cell ${cell}: the grid has 0..${most - 1}`);
  }
  return Uint8Array.from(field.cells, (cell) => Number(named.has(cell) !== invert));
}

/** The field file of a crop; rows that are not here are fetched.
 * @param {Field} field @param {Keep} keep @param {{signal?: AbortSignal}} [options]
 * @returns {Promise<Blob>} */
export async function cropFile(field, keep, options = {}) {
  const { rows, region } = rowsToKeep(field, keep);
  const settled = region && settledRows(field, rows, region);
  const kept = settled ? settled.rows : rows;
  await field.rows(kept, undefined, options);
  const tensors = rowTensors(field, kept, settled ? settled.occupied : occupiedOf(field, kept));
  for (const [name, tensor] of sharedTensors(field, rows, settled !== null)) tensors.set(name, tensor);
  const history = settled ? noted(field, settled) : field.description.history;
  const text = describe(field, settled ? settled.region : region, history);
  const order = writingOrder(tensors), pieces = order.flatMap((name) => tensors.get(name)?.pieces ?? []);
  return new Blob([headerBytes(tensors, new Map([[KEY, text]])), ...pieces].map((piece) => /** @type {BlobPart} */ (piece)));
}

/** What a region of whole voxels leaves of rows: their occupancy says it then, not the region.
 * @param {Field} field @param {Int32Array} rows @param {Region} region
 * @returns {{rows: Int32Array, occupied: Uint8Array[], region: Region | null, voxels: number} | null} null where it says
 *   nothing of whole voxels */
function settledRows(field, rows, region) {
  const r = field.sizes.occupancy_voxels, lattice = field.grid.refined(r);
  const { mask, rest } = region.splitVoxels(lattice, field.sizes.contraction);
  if (!mask) return null;
  const left = [], occupied = [];
  let voxels = 0;
  for (const row of rows) {
    const bits = unpackBits(occupiedOf(field, [row])[0], r ** 3), first = field.grid.unravel(field.cells[row]).map((n) => n * r);
    for (let k = 0; k < bits.length; k++) {
      const index = [first[0] + Math.floor(k / (r * r)), first[1] + (Math.floor(k / r) % r), first[2] + (k % r)];
      bits[k] &= mask[lattice.ravel(index)];
    }
    const count = bits.reduce((sum, one) => sum + one, 0);
    if (!count) continue;
    left.push(row);
    occupied.push(packBits(bits));
    voxels += count;
  }
  if (!left.length) throw new FieldError(NOTHING_KEPT);
  return { rows: Int32Array.from(left), occupied, region: rest, voxels };
}

/** The history with what a crop by voxels dropped. @param {Field} field
 * @param {{rows: Int32Array, voxels: number}} after @returns {Map<string, any>} */
function noted(field, after) {
  const { history } = field.description, before = history.get("edits"), r = field.sizes.occupancy_voxels;
  let voxels = 0;
  for (let row = 0; row < field.numRows; row++) for (let k = 0; k < r ** 3; k++) voxels += Number(field.isOccupied(row, k));
  const entry = new Map(/** @type {[string, any][]} */ ([
    ["edit", "crop"], ["voxels", [voxels, after.voxels]], ["cells", [field.numRows, after.rows.length]],
  ]));
  return new Map(history).set("edits", [...(Array.isArray(before) ? before : []), entry].slice(-MOST_EDITS));
}

/** Bits of occupied voxels as in the file. @param {Field} field @param {ArrayLike<number>} rows @returns {Uint8Array[]} */
function occupiedOf(field, rows) {
  const bytes = field.occupied.length / field.numRows;
  return Array.from(rows, (row) => field.occupied.subarray(row * bytes, (row + 1) * bytes));
}

/** @param {Field} field @param {Int32Array} rows @param {Uint8Array[]} occupied @returns {Map<string, Tensor>} */
function rowTensors(field, rows, occupied) {
  const cells = BigInt64Array.from(rows, (row) => BigInt(field.cells[row]));
  /** @type {Map<string, Tensor>} */
  const tensors = new Map([
    ["cells", { dtype: "I64", shape: [rows.length], pieces: [bytesOf(cells)] }],
    ["occupied", { dtype: "U8", shape: [rows.length, ...field.entry("occupied").shape.slice(1)], pieces: occupied }],
  ]);
  for (const name of ["features", "local"].flatMap((one) => withBeside(field, one))) {
    const { dtype, shape } = field.entry(name), pieces = Array.from(rows, (row) => field.lineOf(name, row));
    if (dtype in FLOATS) for (const piece of pieces) floats(piece, dtype, `${field.name}: ${name}`); // refuses what is not finite
    tensors.set(name, { dtype, shape: [rows.length, ...shape.slice(1)], pieces });
  }
  return tensors;
}

/** Names of a tensor and of what its whole numbers have beside them. @param {Field} field @param {string} name */
const withBeside = (field, name) => [name, name + SCALE, name + FINE].filter((one) => field.entries.has(one));

/** The shared part, of its hash table the lines that rows read. @param {Field} field @param {Int32Array} rows
 * @param {boolean} anew whether scales are those of the lines that are left
 * @returns {Map<string, Tensor>} */
function sharedTensors(field, rows, anew) {
  /** @type {Map<string, Tensor>} */
  const tensors = new Map();
  for (const name of [...field.shared.keys()].flatMap((one) => withBeside(field, one))) {
    const { dtype, shape } = field.entry(name), bytes = /** @type {Uint8Array} */ (field.parts.get(name));
    tensors.set(name, { dtype, shape, pieces: [bytes] });
  }
  if (!tensors.has("hash_table")) return tensors;
  const cells = Int32Array.from(rows, (row) => field.cells[row]), entry = field.entry("hash_table");
  const kept = linesRead(field.sizes, field.frame, cells, (n, voxel) => field.isOccupied(rows[n], voxel));
  const here = field.keptLines ?? new Uint8Array(kept.length).fill(1), bytes = /** @type {Uint8Array} */ (field.parts.get("hash_table"));
  let pieces = [];
  for (let line = 0, at = 0; line < kept.length; line++) {
    kept[line] &= here[line];
    if (kept[line]) pieces.push(bytes.subarray(at * entry.rowBytes, (at + 1) * entry.rowBytes));
    at += here[line];
  }
  const scale = tensors.get(`hash_table${SCALE}`);
  if (anew && scale) ({ lines: pieces, scale: scale.pieces[0] } = rescaled(pieces, scale.pieces[0]));
  tensors.set("hash_table", { dtype: entry.dtype, shape: [pieces.length, ...entry.shape.slice(1)], pieces });
  if (pieces.length < kept.length) {
    const bits = packBits(kept);
    tensors.set("hash_table_kept", { dtype: "U8", shape: [bits.length], pieces: [bits] });
  }
  return tensors;
}

/** The description of a field as text. @param {Field} field @param {Region | null} region
 * @param {Map<string, any>} history @returns {string} */
function describe(field, region, history) {
  const { config, description } = field.description, { counts, lower, upper } = field.grid;
  return dumps(new Map(/** @type {[string, any][]} */ ([
    ["format", "lg-field"], ["version", 1], ["network", "radiance"], ["config", config],
    ["grid", new Map(/** @type {[string, any][]} */ ([["counts", counts], ["lower", asFloats(lower)], ["upper", asFloats(upper)]]))],
    ["region", region?.typed() ?? null], ["description", description], ["history", history],
  ])));
}

/** Text of a JSON file that `lg-field crop --region` reads: a region, or cells.
 * @param {Field} field @param {Keep} keep
 * @returns {string} */
export function regionJson(field, keep) {
  if (keep.region) return dumps((keep.invert ? not(keep.region) : keep.region).typed());
  const { counts, lower, upper } = field.grid, { rows } = rowsToKeep(field, keep);
  return dumps(new Map(/** @type {[string, any][]} */ ([
    ["type", "cells"],
    ["grid", new Map(/** @type {[string, any][]} */ ([["counts", counts], ["lower", asFloats(lower)], ["upper", asFloats(upper)]]))],
    ["cells", Array.from(rows, (row) => field.cells[row])],
  ])));
}
