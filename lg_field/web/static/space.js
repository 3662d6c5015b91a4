// @ts-check
/** Space: the partition grid, contraction, which cell owns a point, and regions; as in the package `lg_field.space`. */

/** @typedef {import("./types.js").Vec3} Vec3 */

/** Cells of a box. Numbered row-major, last axis fastest. */
export class Grid {
  /** @param {number[]} counts @param {number[]} lower @param {number[]} upper */
  constructor(counts, lower, upper) { this.counts = counts; this.lower = lower; this.upper = upper; }
  get numCells() { return this.counts.reduce((a, b) => a * b, 1); }
  /** Index per axis of a cell. @param {number} cell @returns {number[]} */
  unravel(cell) { return []; }
  /** Cell of an index per axis. @param {number[]} index @returns {number} */
  ravel(index) { return 0; }
  /** Lower and upper corner of a cell in domain units. @param {number} cell @returns {[number[], number[]]} */
  box(cell) { return [[], []]; }
  /** Cell that owns a point of the domain (float32), -1 outside. @param {ArrayLike<number>} point @returns {number} */
  locate(point) { return -1; }
}

/** A part of space; made by `regionFromDict`, `box`, `sphere`, joined by `and`, `or`, `not`. */
export class Region {
  /** Whether a point (scene units) is in it. @param {ArrayLike<number>} point @returns {boolean} */
  contains(point) { return false; }
  /** @returns {any} as `Region.to_dict` of Python */
  toDict() { return {}; }
}

/** Scene point -> contracted space. @param {ArrayLike<number>} p @returns {Vec3} */
export function contract(p) { return [0, 0, 0]; }
/** Inverse. @param {ArrayLike<number>} p @returns {Vec3} */
export function uncontract(p) { return [0, 0, 0]; }
/** @param {number[]} lower @param {number[]} upper @returns {Region} */
export function box(lower, upper) { return new Region(); }
/** @param {number[]} center @param {number} radius @returns {Region} */
export function sphere(center, radius) { return new Region(); }
/** Points in both. @param {Region} a @param {Region} b @returns {Region} */
export function and(a, b) { return a; }
/** Points in either. @param {Region} a @param {Region} b @returns {Region} */
export function or(a, b) { return a; }
/** Points outside. @param {Region} a @returns {Region} */
export function not(a) { return a; }
/** Of JSON, as Python reads it; rejects with one line. @param {any} data @returns {Promise<Region>} */
export async function regionFromDict(data) { return new Region(); }
