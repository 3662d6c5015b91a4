// @ts-check
/**
 * Space: the partition grid, contraction, which cell owns a point; as in the Python package, to the bit.
 *
 * Points that networks see are float32, so what asks for their cell rounds after every operation (`f32`); boxes of cells
 * and regions are float64.
 */

/** @typedef {import("./types.js").Vec3} Vec3 */
/** An axis-aligned box: lower and upper corner. @typedef {[number[], number[]]} Box */

const f32 = Math.fround;
const AXES = [0, 1, 2];

/** An axis-aligned box cut into equal cells, numbered row-major, last axis fastest. */
export class Grid {
  /** @param {number[]} counts cells per axis @param {number[]} lower corner of the domain @param {number[]} upper */
  constructor(counts, lower, upper) {
    this.counts = counts;
    this.lower = lower;
    this.upper = upper;
  }

  get numCells() {
    return this.counts.reduce((a, b) => a * b, 1);
  }

  /** Extent of a cell per axis. */
  get cellSize() {
    return this.counts.map((count, k) => (this.upper[k] - this.lower[k]) / count);
  }

  /** Index on an axis of a float32 coordinate, not clipped to the domain. @param {number} value @param {number} axis */
  indexOn(value, axis) {
    const low = f32(this.lower[axis]), high = f32(this.upper[axis]), count = this.counts[axis];
    const scale = f32(count / (this.upper[axis] - this.lower[axis]));
    const index = Math.floor(f32(f32(f32(value) - low) * scale));
    return (f32(value) === high || index === count) && f32(value) <= high ? count - 1 : index;
  }

  /** Cell that owns a point of the domain, -1 outside. @param {ArrayLike<number>} point @returns {number} */
  locate(point) {
    return this.holding(this.counts.map((_, axis) => this.indexOn(point[axis], axis)));
  }

  /** Cell of an index per axis, -1 for one outside. @param {number[]} index @returns {number} */
  holding(index) {
    return index.every((value, axis) => value >= 0 && value < this.counts[axis]) ? this.ravel(index) : -1;
  }

  /** Cell of an index per axis. @param {number[]} index @returns {number} */
  ravel(index) {
    return index.reduce((number, value, axis) => number * this.counts[axis] + value, 0);
  }

  /** Index per axis of a cell. @param {number} cell @returns {number[]} */
  unravel(cell) {
    const index = [];
    for (let axis = this.counts.length - 1; axis >= 0; axis--) {
      index.unshift(cell % this.counts[axis]);
      cell = Math.floor(cell / this.counts[axis]);
    }
    return index;
  }

  /** Box of a cell in domain units. @param {number} cell @returns {Box} */
  box(cell) {
    const index = this.unravel(cell), size = this.cellSize;
    return [index.map((n, k) => this.lower[k] + n * size[k]), index.map((n, k) => this.lower[k] + (n + 1) * size[k])];
  }

  /** The grid with every cell cut into `factor` per axis. @param {number} factor */
  refined(factor) {
    return new Grid(this.counts.map((count) => count * factor), this.lower, this.upper);
  }

  /** First and last index per axis of the cells that the half-open box touches; null for none.
   * @param {number[]} lower @param {number[]} upper @returns {Box | null} */
  rangeOfBox(lower, upper) {
    const clip = (/** @type {number} */ v, /** @type {number} */ a, /** @type {number} */ b) => Math.min(Math.max(v, a), b);
    const size = this.cellSize, first = [], last = [];
    for (const k of this.counts.keys()) {
      const [low, high] = [clip(lower[k], -1e30, 1e30), clip(upper[k], -1e30, 1e30)];
      const margin = Math.min(1e-6 * size[k], 0.1 * (high - low));
      const from = f32(low + margin), to = Math.min(f32(high - margin), before(f32(high)));
      const [start, end] = [f32(this.lower[k]), f32(this.upper[k])];
      first.push(Math.max(this.indexOn(clip(from, start, end), k), 0));
      last.push(Math.min(this.indexOn(clip(to, start, end), k), this.counts[k] - 1));
      if (from > end || to < start || last[k] < first[k]) return null;
    }
    return [first, last];
  }
}

/** The next float32 below one. @param {number} value */
function before(value) {
  const number = new Float32Array([value]), bits = new Int32Array(number.buffer);
  if (value === 0) bits[0] = 0x80000001 | 0;
  else bits[0] += value > 0 ? -1 : 1;
  return number[0];
}

const norm = (/** @type {ArrayLike<number>} */ p) => Math.max(Math.abs(p[0]), Math.abs(p[1]), Math.abs(p[2]), 1);

/** Scene point -> contracted space, (-2, 2) per axis (mip-NeRF 360, eq. 10, with the max norm).
 * @param {ArrayLike<number>} p @param {(v: number) => number} [round] after every operation
 * @returns {Vec3} */
export function contract(p, round = (v) => v) {
  const n = norm(p), factor = round(round(2 - round(1 / n)) / n);
  return [round(p[0] * factor), round(p[1] * factor), round(p[2] * factor)];
}

/** Inverse of `contract`; the border goes to `limit`.
 * @param {ArrayLike<number>} p @param {number} [limit]
 * @returns {Vec3} */
export function uncontract(p, limit = 1e4) {
  const n = norm(p), factor = 1 / Math.max(2 - n, 1 / limit) / n;
  return [p[0] * factor, p[1] * factor, p[2] * factor];
}

/** A box of contracted space -> the box around it in scene space.
 * @param {Box} box @param {number} [limit]
 * @returns {Box} */
export function uncontractBox([lower, upper], limit = 1e4) {
  const clip = (/** @type {number} */ n) => Math.min(Math.max(n, 1), 2 - 1 / limit);
  return scaledBox([lower, upper], (n) => 1 / (clip(n) * (2 - clip(n))));
}

/** A box of scene space -> the box around it in contracted space. @param {Box} box @returns {Box} */
export function contractBox(box) {
  return scaledBox(box, (n) => (2 - 1 / Math.max(n, 1)) / Math.max(n, 1));
}

/** Around a box whose points are scaled by a factor of their max norm: that of its nearest and its farthest one bound it.
 * @param {Box} box @param {(norm: number) => number} factor @returns {Box} */
function scaledBox([lower, upper], factor) {
  const nearest = Math.max(...AXES.map((k) => Math.max(Math.max(lower[k], 0), -Math.min(upper[k], 0))));
  const farthest = Math.max(...lower.map(Math.abs), ...upper.map(Math.abs));
  const [a, b] = [factor(nearest), factor(farthest)];
  const ends = AXES.map((k) => [lower[k] * a, upper[k] * a, lower[k] * b, upper[k] * b]);
  return [ends.map((e) => Math.min(...e)), ends.map((e) => Math.max(...e))];
}

/** Where the cells of a scene are: from scene points to unit coordinates, places and cells, in float32. */
export class Frame {
  /** @param {Grid} grid @param {boolean} contraction @param {number[]} box [] or lower and upper corner of unit space */
  constructor(grid, contraction, box) {
    const size = grid.cellSize;
    this.grid = grid;
    this.contraction = contraction;
    const lower = box.length ? box.slice(0, 3) : grid.lower, upper = box.length ? box.slice(3) : grid.upper;
    /** The cells within the box. */
    this.origin = box.length ? new Grid(AXES.map((k) => even((upper[k] - lower[k]) / size[k])), lower, upper) : grid;
    /** Cells per axis that the grid has before those. */
    this.shift = AXES.map((k) => even((this.origin.lower[k] - grid.lower[k]) / size[k]));
  }

  /** Scene point -> unit coordinates, [0, 1] inside the box. @param {ArrayLike<number>} point @returns {Vec3} */
  toUnit(point) {
    const p = [f32(point[0]), f32(point[1]), f32(point[2])], domain = this.contraction ? contract(p, f32) : p;
    const { lower, upper } = this.origin;
    const [x, y, z] = AXES.map((k) => f32(f32(domain[k] - f32(lower[k])) / f32(f32(upper[k]) - f32(lower[k]))));
    return [x, y, z];
  }

  /** Unit coordinates -> scene point. @param {ArrayLike<number>} unit @returns {Vec3} */
  fromUnit(unit) {
    const { lower, upper } = this.origin;
    const [x, y, z] = AXES.map((k) => lower[k] + unit[k] * (upper[k] - lower[k]));
    return this.contraction ? uncontract([x, y, z]) : [x, y, z];
  }

  /** Cell that owns a scene point, -1 outside the domain. @param {ArrayLike<number>} point @returns {number} */
  locate(point) {
    const unit = this.toUnit(point);
    const index = AXES.map((k) => {
      const place = f32(unit[k] * this.origin.counts[k]);
      const atEnd = f32(place + this.shift[k]) === this.grid.counts[k];
      return atEnd ? this.grid.counts[k] - 1 : Math.floor(place) + this.shift[k];
    });
    return this.grid.holding(index);
  }

  /** Scene-space box around a cell; of contracted space it is around a curved one. @param {number} cell @returns {Box} */
  sceneBox(cell) {
    const box = this.grid.box(cell);
    return this.contraction ? uncontractBox(box) : box;
  }
}

/** Nearest whole number, as Python rounds. @param {number} value */
function even(value) {
  const low = Math.floor(value), rest = value - low;
  return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
}
