// @ts-check
/** The box and the sphere that a visitor draws: their numbers in scene or world units, their handles and lines. */

import { add, dot, length, unit } from "./camera.js";
import { OrientedBox, box, sphere } from "./space.js";
import { boxLines, sphereLines } from "./wire.js";

/** @typedef {import("./types.js").Matrix4} Matrix4 */
/** @typedef {import("./space.js").Region} Region */
/** A place to be dragged along a direction; `to` takes the way, scene units. A handle without a direction is dragged
 * across the view. @typedef {{at: number[], along: number[] | null, to: (way: number, shift: number[]) => void}} Handle */

const COLOR = [1, 0.85, 0.2, 1], LEAST = 1e-3;
const SCENE = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];

/** Units that numbers are shown in: value k of a point p is scale * (axes[k] . p) + shift[k]. */
export class Units {
  /** @param {string} name @param {number[][]} axes @param {number} scale @param {number[]} shift */
  constructor(name, axes, scale, shift) {
    this.name = name;
    this.axes = axes;
    this.scale = scale;
    this.shift = shift;
  }

  static get scene() { return new Units("scene", SCENE, 1, [0, 0, 0]); }

  /** Of the data set's world. @param {Matrix4} m scene to world */
  static world(m) {
    const rows = [0, 1, 2].map((k) => m[k].slice(0, 3)), scale = length(rows[0]) || 1;
    return new Units("world", rows.map(unit), scale, [0, 1, 2].map((k) => m[k][3]));
  }

  /** Whether its axes are those of the scene. */
  get straight() { return this.axes.every((axis, k) => Math.abs(axis[k] - 1) < 1e-9); }
  /** @param {number} u along an axis, scene units @param {number} k */
  shown(u, k) { return this.scale * u + this.shift[k]; }
  /** @param {number} value @param {number} k */
  taken(value, k) { return (value - this.shift[k]) / this.scale; }
}

/** A box along the axes of some units. */
export class BoxShape {
  kind = "box";
  /** @param {Units} units */
  constructor(units) {
    this.units = units;
    this.lower = [-1, -1, -1];
    this.upper = [1, 1, 1];
  }

  /** Around a box of scene space. @param {{low: number[], high: number[]}} bounds */
  around({ low, high }) {
    const ends = this.units.axes.map((axis) => {
      const all = Array.from({ length: 8 }, (_, c) => dot(axis, low.map((v, k) => ((c >> k) & 1 ? high[k] : v))));
      return [Math.min(...all), Math.max(...all)];
    });
    this.lower = ends.map((end) => end[0]);
    this.upper = ends.map((end) => end[1]);
  }

  /** @param {number[]} u along the axes @returns {number[]} scene point */
  point(u) { return this.units.axes.reduce((sum, axis, k) => add(sum, axis, u[k]), [0, 0, 0]); }

  /** @returns {Region} */
  get region() {
    if (this.units.straight) return box([...this.lower], [...this.upper]);
    const { axes } = this.units, size = this.upper.map((v, k) => v - this.lower[k]);
    const rotation = [0, 1, 2].map((i) => axes.map((axis) => axis[i]));
    return new OrientedBox(this.point(this.lower.map((v, k) => v + size[k] / 2)), rotation, size);
  }

  /** @returns {[string, number][]} */
  get numbers() {
    return ["x", "y", "z"].flatMap((name, k) => /** @type {[string, number][]} */ ([
      [`${name} from`, this.units.shown(this.lower[k], k)], [`${name} to`, this.units.shown(this.upper[k], k)]]));
  }

  /** @param {number} index of `numbers` @param {number} value */
  set(index, value) {
    const k = index >> 1, u = this.units.taken(value, k);
    this._end(k, index & 1, u);
  }

  /** @param {number} k @param {number} end @param {number} u */
  _end(k, end, u) {
    if (end) this.upper[k] = Math.max(u, this.lower[k] + LEAST);
    else this.lower[k] = Math.min(u, this.upper[k] - LEAST);
  }

  /** @returns {Handle[]} */
  get handles() {
    const middle = this.lower.map((v, k) => (v + this.upper[k]) / 2);
    return [0, 1, 2, 3, 4, 5].map((n) => {
      const k = n >> 1, end = n & 1, u = [...middle], from = end ? this.upper[k] : this.lower[k];
      u[k] = from;
      return { at: this.point(u), along: this.units.axes[k], to: (way) => this._end(k, end, from + way) };
    });
  }

  lines() {
    return boxLines((c) => this.point(this.lower.map((v, k) => ((c >> (2 - k)) & 1 ? this.upper[k] : v))), COLOR);
  }
}

/** A ball. */
export class SphereShape {
  kind = "sphere";
  /** @param {Units} units */
  constructor(units) {
    this.units = units;
    this.center = [0, 0, 0];
    this.radius = 1;
  }

  /** @param {{low: number[], high: number[]}} bounds */
  around({ low, high }) {
    this.center = low.map((v, k) => (v + high[k]) / 2);
    this.radius = Math.max(LEAST, length(add(high, low, -1)) / 3);
  }

  /** @returns {Region} */
  get region() { return sphere([...this.center], this.radius); }

  /** @returns {[string, number][]} */
  get numbers() {
    const places = this.units.axes.map((axis, k) => this.units.shown(dot(axis, this.center), k));
    return [["x", places[0]], ["y", places[1]], ["z", places[2]], ["radius", this.radius * this.units.scale]];
  }

  /** @param {number} index @param {number} value */
  set(index, value) {
    if (index === 3) this.radius = Math.max(LEAST, value / this.units.scale);
    else {
      const axis = this.units.axes[index];
      this.center = add(this.center, axis, this.units.taken(value, index) - dot(axis, this.center));
    }
  }

  /** @returns {Handle[]} */
  get handles() {
    const { center, radius } = this;
    return [
      { at: center, along: null, to: (_, shift) => void (this.center = add(center, shift)) },
      { at: add(center, [0, 0, radius]), along: [0, 0, 1], to: (way) => void (this.radius = Math.max(LEAST, radius + way)) },
      { at: add(center, [radius, 0, 0]), along: [1, 0, 0], to: (way) => void (this.radius = Math.max(LEAST, radius + way)) },
    ];
  }

  lines() { return sphereLines(this.center, this.radius, COLOR); }
}
