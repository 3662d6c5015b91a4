// @ts-check
/** Regions: the part of space that an edit keeps, as in the Python package `lg_field.space.regions`. */

import { FieldError } from "./errors.js";
import { Float, plain } from "./json.js";
import { uncontractBox } from "./grid.js";

/** @typedef {import("./grid.js").Box} Box */
/** @typedef {import("./grid.js").Grid} Grid */
/** @typedef {(box: Box) => Box} BoxMap */

export const MAX_NESTING = 64;
const AXES = [0, 1, 2];
/** Parts per axis that a cell of curved space is cut into. */
const PARTS = 4;
/** What float32 coordinates are rounded to, in parts of them; and more than that. */
const ROUNDING = 1e-6, FAR = 1e-5;

const floats = (/** @type {ArrayLike<number>} */ values) => Array.from(values, (value) => new Float(value));
const every = (/** @type {(axis: number) => boolean} */ test) => AXES.every(test);
const commonest = (/** @type {number[]} */ values) => values.length === 3 && values.every(Number.isFinite);

/** A part of scene space. Subclasses say what it holds. */
export class Region {
  /** Name in JSON. */
  kind = "";
  /** Levels of regions made of regions. */
  nesting = 1;

  /** Whether a point (scene units) is in it. @param {ArrayLike<number>} _point @returns {boolean} */
  contains(_point) {
    throw new Error("a subclass says so");
  }

  /** False only where an axis-aligned box and the region are apart. @param {Box} _box @returns {boolean} */
  touches(_box) {
    throw new Error("a subclass says so");
  }

  /** True only where the region holds all of the box. @param {Box} _box @returns {boolean} */
  covers(_box) {
    throw new Error("a subclass says so");
  }

  /** Data for `json.dumps`, as `Region.to_dict` of Python. @returns {Map<string, any>} */
  typed() {
    throw new Error("a subclass says so");
  }

  /** The same as plain data. @returns {any} */
  toDict() {
    return plain(this.typed());
  }

  /** What of it joins with others of a kind. @param {string} _kind @returns {Region[]} */
  partsOf(_kind) {
    return [this];
  }

  /** Which of some cells it touches; in curved space a few that it only nearly touches come along.
   * @param {Grid} grid @param {ArrayLike<number>} cells
   * @param {boolean} contraction the grid is one of contracted space
   * @returns {Uint8Array} 1 for each that it does */
  touched(grid, cells, contraction) {
    return Uint8Array.from(cells, (cell) => {
      const box = grid.box(cell);
      if (!contraction) return Number(this.touches(widened(box)));
      if (!this.touches(widened(uncontractBox(box), FAR))) return 0; // then no part of it is touched
      for (let n = 0; n < PARTS ** 3; n++) if (this.touches(widened(uncontractBox(partOf(box, n))))) return 1;
      return 0;
    });
  }

  /** What it says of whole voxels of a lattice: 1 for each that it consists of, null where it is not made of them.
   * @param {Grid} _lattice @param {boolean} _contracted @returns {Uint8Array | null} */
  voxels(_lattice, _contracted) {
    return null;
  }

  /** It as the points in these voxels (null: any) that are in this region (null: anywhere).
   * @param {Grid} lattice @param {boolean} contracted
   * @returns {{mask: Uint8Array | null, rest: Region | null}} */
  splitVoxels(lattice, contracted) {
    const mask = this.voxels(lattice, contracted);
    return mask ? { mask, rest: null } : { mask: null, rest: this };
  }
}

/** Half-open, `[lower, upper)`. */
export class AxisBox extends Region {
  /** @param {number[]} lower @param {number[]} upper */
  constructor(lower, upper) {
    super();
    if (!commonest(lower) || !commonest(upper)) throw new FieldError("a box needs a lower and an upper corner, of three axes");
    for (const k of AXES) {
      if (!(lower[k] < upper[k])) {
        throw new FieldError(`box is empty on axis ${k}: its lower corner ${lower[k]} is not below its upper corner ${upper[k]}`);
      }
    }
    this.kind = "box";
    this.lower = lower;
    this.upper = upper;
  }

  /** @param {ArrayLike<number>} p */
  contains(p) {
    return every((k) => p[k] >= this.lower[k] && p[k] < this.upper[k]);
  }

  /** @param {Box} box */
  touches([low, high]) {
    return every((k) => low[k] < this.upper[k] && high[k] > this.lower[k]);
  }

  /** @param {Box} box */
  covers([low, high]) {
    return every((k) => low[k] >= this.lower[k] && high[k] < this.upper[k]);
  }

  /** @param {Grid} grid @param {ArrayLike<number>} cells @param {boolean} contraction */
  touched(grid, cells, contraction) {
    if (contraction) return super.touched(grid, cells, contraction);
    const range = grid.rangeOfBox(this.lower, this.upper);
    return Uint8Array.from(cells, (cell) => {
      const index = grid.unravel(cell);
      return Number(range !== null && every((k) => index[k] >= range[0][k] && index[k] <= range[1][k]));
    });
  }

  typed() {
    return new Map(/** @type {[string, any][]} */ ([["type", this.kind], ["lower", floats(this.lower)], ["upper", floats(this.upper)]]));
  }
}

/** A turned box; closed. */
export class OrientedBox extends Region {
  /** @param {number[]} center @param {number[][]} rotation by rows; its columns are the box's axes @param {number[]} size */
  constructor(center, rotation, size) {
    super();
    const dot = (/** @type {number} */ i, /** @type {number} */ j) => AXES.reduce((sum, k) => sum + rotation[i][k] * rotation[j][k], 0);
    const turns = rotation?.length === 3 && rotation.every(commonest) &&
      every((i) => every((j) => Math.abs(dot(i, j) - Number(i === j)) <= 1e-4 + 1e-5 * Number(i === j)));
    if (!turns) throw new FieldError(`rotation must be an orthonormal 3x3 matrix, got ${JSON.stringify(rotation)?.slice(0, 80)}`);
    if (!commonest(center) || !commonest(size) || !size.every((s) => s > 0)) {
      throw new FieldError(`the box needs a finite center and positive sizes, got ${center} and ${size}`);
    }
    this.kind = "oriented_box";
    this.center = center;
    this.rotation = rotation;
    this.size = size;
  }

  /** @param {ArrayLike<number>} p */
  contains(p) {
    return every((j) => {
      const along = AXES.reduce((sum, k) => sum + (p[k] - this.center[k]) * this.rotation[k][j], 0);
      return Math.abs(along) <= this.size[j] / 2;
    });
  }

  /** By separating axes: three of each box and their nine cross products. @param {Box} box */
  touches([low, high]) {
    const middle = AXES.map((k) => (low[k] + high[k]) / 2 - this.center[k]), extent = AXES.map((k) => (high[k] - low[k]) / 2);
    const unit = AXES.map((i) => AXES.map((k) => Number(i === k)));
    const turned = AXES.map((j) => AXES.map((k) => this.rotation[k][j]));
    const crossed = unit.flatMap((a) => turned.map((b) => cross(a, b)));
    return [...unit, ...turned, ...crossed].every((axis) => {
      const reach = dot3(extent, axis.map(Math.abs)) + AXES.reduce((sum, j) => sum + (this.size[j] / 2) * Math.abs(dot3(turned[j], axis)), 0);
      return Math.abs(dot3(middle, axis)) <= reach + 1e-9;
    });
  }

  /** @param {Box} box */
  covers(box) {
    return corners(box).every((corner) => this.contains(corner));
  }

  typed() {
    return new Map(/** @type {[string, any][]} */ ([
      ["type", this.kind], ["center", floats(this.center)], ["rotation", this.rotation.map(floats)], ["size", floats(this.size)],
    ]));
  }
}

/** A closed ball. */
export class Sphere extends Region {
  /** @param {number[]} center @param {number} radius */
  constructor(center, radius) {
    super();
    if (!commonest(center) || !(radius > 0 && radius < Infinity)) {
      throw new FieldError(`a sphere needs a finite center and a positive radius, got ${center}, ${radius}`);
    }
    this.kind = "sphere";
    this.center = center;
    this.radius = radius;
  }

  /** @param {ArrayLike<number>} p */
  contains(p) {
    return Math.sqrt(AXES.reduce((sum, k) => sum + (p[k] - this.center[k]) ** 2, 0)) <= this.radius;
  }

  /** @param {Box} box */
  touches([low, high]) {
    return this.contains(AXES.map((k) => Math.min(Math.max(this.center[k], low[k]), high[k])));
  }

  /** @param {Box} box */
  covers(box) {
    return corners(box).every((corner) => this.contains(corner));
  }

  typed() {
    return new Map(/** @type {[string, any][]} */ ([["type", this.kind], ["center", floats(this.center)], ["radius", new Float(this.radius)]]));
  }
}

/** The points p with `normal . p + offset >= 0`. */
export class HalfSpace extends Region {
  /** @param {number[]} normal @param {number} offset */
  constructor(normal, offset) {
    super();
    if (!commonest(normal) || !Number.isFinite(offset) || !normal.some(Boolean)) {
      throw new FieldError(`a half space needs a normal that is not zero and a finite offset, got ${normal}, ${offset}`);
    }
    this.kind = "half_space";
    this.normal = normal;
    this.offset = offset;
  }

  /** @param {ArrayLike<number>} p */
  contains(p) {
    return dot3(p, this.normal) + this.offset >= 0;
  }

  /** @param {Box} box */
  touches([low, high]) {
    return this.contains(AXES.map((k) => (this.normal[k] >= 0 ? high[k] : low[k])));
  }

  /** @param {Box} box */
  covers([low, high]) {
    return this.contains(AXES.map((k) => (this.normal[k] >= 0 ? low[k] : high[k])));
  }

  typed() {
    return new Map(/** @type {[string, any][]} */ ([["type", this.kind], ["normal", floats(this.normal)], ["offset", new Float(this.offset)]]));
  }
}

const dot3 = (/** @type {ArrayLike<number>} */ a, /** @type {ArrayLike<number>} */ b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

/** @param {number[]} a @param {number[]} b */
function cross(a, b) {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

/** The eight corners of a box. @param {Box} box @returns {number[][]} */
function corners(box) {
  return [...Array(8).keys()].map((n) => [box[(n >> 2) & 1][0], box[(n >> 1) & 1][1], box[n & 1][2]]);
}

/** One of the equal parts that a box is cut into. @param {Box} box @param {number} n @returns {Box} */
function partOf([lower, upper], n) {
  const step = [Math.floor(n / PARTS ** 2), Math.floor(n / PARTS) % PARTS, n % PARTS];
  const size = AXES.map((k) => (upper[k] - lower[k]) / PARTS);
  return [AXES.map((k) => lower[k] + step[k] * size[k]), AXES.map((k) => lower[k] + (step[k] + 1) * size[k])];
}

/** A box grown by what float32 coordinates are rounded to. @param {Box} box @param {number} [by] part of them
 * @returns {Box} */
function widened([lower, upper], by = ROUNDING) {
  const margin = AXES.map((k) => by * Math.max(Math.abs(lower[k]), Math.abs(upper[k])));
  return [lower.map((v, k) => v - margin[k]), upper.map((v, k) => v + margin[k])];
}
