// @ts-check
/** Lines over a picture: edges of cells, of a box, circles of a sphere. A line is two points of place and colour. */

import { uncontract } from "./space.js";

/** @typedef {import("./field.js").Field} Field */
/** Red, green, blue, opacity. @typedef {number[]} Color */

/** Numbers of a point. */
export const POINT = 7;
/** Pieces of an edge that contraction bends, and of a circle. */
const PIECES = 4, CIRCLE = 64;

/** @param {number[]} to numbers of lines @param {number[]} a @param {number[]} b @param {Color} color */
export function line(to, a, b, color) {
  to.push(a[0], a[1], a[2], ...color, b[0], b[1], b[2], ...color);
}

/** Edges of cells, each once. @param {Field} field @param {Uint8Array} kept @param {Uint8Array} selected @returns {number[]} */
export function cellLines(field, kept, selected) {
  const { grid } = field, nodes = grid.counts.map((n) => n + 1), edges = new Map();
  for (let row = 0; row < kept.length; row++) {
    if (!kept[row]) continue;
    const index = grid.unravel(field.cells[row]);
    for (let k = 0; k < 12; k++) {
      const axis = k >> 2, [u, v] = [(axis + 1) % 3, (axis + 2) % 3], start = [...index];
      start[u] += k & 1;
      start[v] += (k >> 1) & 1;
      const key = ((axis * nodes[0] + start[0]) * nodes[1] + start[1]) * nodes[2] + start[2];
      const known = edges.get(key);
      if (!known) edges.set(key, { axis, start, selected: selected[row] });
      else known.selected ||= selected[row];
    }
  }
  /** @type {number[]} */ const to = [];
  for (const { axis, start, selected: is } of edges.values()) edge(to, field, start, axis, is ? [1, 0.6, 0.15, 1] : [0.35, 0.65, 1, 0.55]);
  return to;
}

/** @param {number[]} to @param {Field} field @param {number[]} start node @param {number} axis @param {Color} color */
function edge(to, field, start, axis, color) {
  const { lower, cellSize } = field.grid, bent = field.sizes.contraction, pieces = bent ? PIECES : 1;
  const at = (/** @type {number} */ part) => {
    const p = start.map((n, k) => lower[k] + (n + (k === axis ? part : 0)) * cellSize[k]);
    return bent ? uncontract(p, 100) : p;
  };
  for (let k = 0; k < pieces; k++) line(to, at(k / pieces), at((k + 1) / pieces), color);
}

/** Edges of a box along some axes. @param {(k: number) => number[]} corner of the eight, first axis in the highest bit
 * @param {Color} color @returns {number[]} */
export function boxLines(corner, color) {
  /** @type {number[]} */ const to = [];
  for (let a = 0; a < 8; a++) for (const bit of [1, 2, 4]) if (!(a & bit)) line(to, corner(a), corner(a | bit), color);
  return to;
}

/** Three great circles of a sphere. @param {number[]} center @param {number} radius @param {Color} color @returns {number[]} */
export function sphereLines(center, radius, color) {
  /** @type {number[]} */ const to = [];
  for (let axis = 0; axis < 3; axis++) {
    const at = (/** @type {number} */ k) => {
      const p = [...center], angle = (2 * Math.PI * k) / CIRCLE;
      p[(axis + 1) % 3] += radius * Math.cos(angle);
      p[(axis + 2) % 3] += radius * Math.sin(angle);
      return p;
    };
    for (let k = 0; k < CIRCLE; k++) line(to, at(k), at(k + 1), color);
  }
  return to;
}
