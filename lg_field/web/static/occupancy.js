// @ts-check
/** Which voxels of a scene's rows are occupied: the card's bits, and boxes around them in scene space. */

import { Frame, uncontractBox } from "./space.js";

/** @typedef {import("./field.js").Field} Field */
/** @typedef {{low: number[], high: number[]}} Box */

const f = Math.fround;

/** Whether each voxel of a row is occupied. @param {Field} field @param {number} row @param {number} voxel */
export function occupied(field, row, voxel) {
  const bytes = Math.ceil(field.sizes.occupancy_voxels ** 3 / 8);
  return (field.occupied[row * bytes + (voxel >> 3)] >> (7 - (voxel & 7))) & 1;
}

/** Occupied voxels of a row, by number. @param {Field} field @param {number} row @returns {number[]} */
export function voxelsOf(field, row) {
  const found = [], count = field.sizes.occupancy_voxels ** 3;
  for (let voxel = 0; voxel < count; voxel++) if (occupied(field, row, voxel)) found.push(voxel);
  return found;
}

/** Range of occupied voxels per axis in each row, [low, high) twice per axis; made once. @param {Field} field */
function extents(field) {
  const cached = EXTENTS.get(field);
  if (cached) return cached;
  const r = field.sizes.occupancy_voxels, made = new Int16Array(6 * field.numRows);
  for (let row = 0; row < field.numRows; row++) {
    const at = made.subarray(6 * row, 6 * row + 6);
    at.set([r, r, r, 0, 0, 0]);
    for (const voxel of voxelsOf(field, row)) {
      [Math.floor(voxel / (r * r)), Math.floor(voxel / r) % r, voxel % r].forEach((v, k) => {
        at[k] = Math.min(at[k], v);
        at[3 + k] = Math.max(at[3 + k], v + 1);
      });
    }
  }
  EXTENTS.set(field, made);
  return made;
}
/** @type {WeakMap<Field, Int16Array>} */ const EXTENTS = new WeakMap();

/** Box around the occupied voxels of some rows in scene space, rounded as `OccupancyGrid.bounds` of Python rounds; no
 * extent without any.
 * @param {Field} field @param {Iterable<number>} rows @returns {Box} */
export function boundsOf(field, rows) {
  const r = field.sizes.occupancy_voxels, of = extents(field), frame = frameOf(field), sizes = field.sizes;
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (const row of rows) {
    if (of[6 * row + 3] === 0) continue;
    const index = field.grid.unravel(field.cells[row]);
    const ends = [0, 1].map((s) => index.map((n, k) => n * r + of[6 * row + 3 * s + k]));
    const box = sizes.contraction ? sceneBox(frame, ends, r) : ends;
    for (let k = 0; k < 3; k++) low[k] = Math.min(low[k], box[0][k]), high[k] = Math.max(high[k], box[1][k]);
  }
  if (!(low[0] < high[0])) return { low: [0, 0, 0], high: [0, 0, 0] };
  if (sizes.contraction) return { low, high };
  return { low: low.map((n, k) => fromPlace(frame, n / r, k)), high: high.map((n, k) => fromPlace(frame, n / r, k)) };
}

/** The part of a box that is not contracted, where a camera of an unbounded scene looks. @param {Field} field @param {Box} box */
export function nearBounds(field, box) {
  if (!field.sizes.contraction) return box;
  const low = box.low.map((v) => Math.min(1, Math.max(-1, v))), high = box.high.map((v) => Math.min(1, Math.max(-1, v)));
  return low.every((v, k) => v < high[k]) ? { low, high } : box;
}

/** @param {Frame} frame @param {number[][]} ends @param {number} r */
function sceneBox(frame, ends, r) {
  const { lower, upper, counts } = frame.grid;
  const corner = (/** @type {number[]} */ voxel) => voxel.map((n, k) => lower[k] + ((upper[k] - lower[k]) * n) / r / counts[k]);
  return uncontractBox([corner(ends[0]), corner(ends[1])], 1e4);
}

/** A place along an axis in scene units. @param {Frame} frame @param {number} place @param {number} k */
function fromPlace(frame, place, k) {
  const { lower, upper, counts } = frame.origin;
  const unit = f(f(place - frame.shift[k]) / counts[k]);
  return f(f(lower[k]) + f(unit * f(f(upper[k]) - f(lower[k]))));
}

/** Where a field's cells are. @param {Field} field @returns {Frame} */
export function frameOf(field) {
  return new Frame(field.grid, field.sizes.contraction, field.sizes.frame);
}
