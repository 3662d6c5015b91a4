// @ts-check
/** Which lines of the hash table points in occupied voxels of cells read: what a crop keeps of it, to the bit. */

import { hashEntries, hashLines } from "./schema.js";

/** @typedef {import("./types.js").Sizes} Sizes */
/** @typedef {import("./grid.js").Frame} Frame */

const PRIMES = [1, 2654435761, 805459861];
/** Points this part of the largest number from a box may be taken to be in it. */
const ROUNDING = 2 ** -20;
const AXES = [0, 1, 2];

/** @param {Sizes} sizes @param {Frame} frame
 * @param {ArrayLike<number>} cells
 * @param {(row: number, voxel: number) => boolean} isOccupied of the n-th of the cells
 * @returns {Uint8Array} (lines,) 1 for those that are read */
export function linesRead(sizes, frame, cells, isOccupied) {
  const found = new Uint8Array(hashLines(sizes)), r = sizes.occupancy_voxels;
  const levels = levelsOf(sizes), { origin, shift, grid } = frame;
  const margin = ROUNDING * Math.max(...AXES.map((k) => grid.counts[k] / origin.counts[k]));
  const toUnit = (/** @type {number} */ voxel, /** @type {number} */ k) => (voxel / r - shift[k]) / origin.counts[k];
  for (let row = 0; row < cells.length; row++) {
    const first = grid.unravel(cells[row]).map((n) => n * r);
    for (let voxel = 0; voxel < r ** 3; voxel++) {
      if (!isOccupied(row, voxel)) continue;
      const low = [first[0] + Math.floor(voxel / (r * r)), first[1] + (Math.floor(voxel / r) % r), first[2] + (voxel % r)];
      const lower = low.map((v, k) => clip(toUnit(v, k) - margin - ROUNDING));
      const upper = low.map((v, k) => clip(toUnit(v + 1, k) + margin + ROUNDING));
      for (const level of levels) mark(level, lower, upper, found);
    }
  }
  return found;
}

const clip = (/** @type {number} */ v) => Math.min(Math.max(v, 0), 1);

/** @typedef {{first: number, entries: number, nodes: number, dense: boolean}} Level */

/** @param {Sizes} sizes @returns {Level[]} */
function levelsOf(sizes) {
  const levels = [];
  for (let k = 0, first = 0; k < sizes.hash_levels; k++) {
    const nodes = sizes.hash_base_res * 2 ** k, entries = hashEntries(sizes, k);
    levels.push({ first, entries, nodes, dense: nodes ** 3 <= entries });
    first += entries;
  }
  return levels;
}

/** Mark the entries of all nodes that points between two corners (unit coordinates) read.
 * @param {Level} level @param {number[]} lower @param {number[]} upper @param {Uint8Array} found */
function mark(level, lower, upper, found) {
  const steps = level.nodes - 1;
  const low = lower.map((v) => Math.floor(v * steps + 0.5)), high = upper.map((v) => Math.floor(v * steps + 0.5) + 1);
  for (let x = low[0]; x <= high[0]; x++) {
    for (let y = low[1]; y <= high[1]; y++) {
      for (let z = low[2]; z <= high[2]; z++) found[level.first + entryOf(level, x, y, z)] = 1;
    }
  }
}

/** Number of a node's entry in its level. @param {Level} level @param {number} x @param {number} y @param {number} z */
function entryOf(level, x, y, z) {
  if (level.dense) {
    const number = x + y * level.nodes + z * level.nodes ** 2;
    return number >= level.entries ? number - level.entries : number;
  }
  const last = level.entries - 1;
  const hash = Math.imul(x, PRIMES[0] & last) ^ Math.imul(y, PRIMES[1] & last) ^ Math.imul(z, PRIMES[2] & last);
  return hash & last;
}
