// @ts-check
/** Regions made of regions, sets of voxels, and how regions are joined and read. */

import { FieldError } from "./errors.js";
import { Float } from "./json.js";
import { unpackBits } from "./numbers.js";
import { AxisBox, HalfSpace, MAX_NESTING, OrientedBox, Region, Sphere } from "./regions.js";
import { Grid, contract, contractBox } from "./grid.js";

/** @typedef {import("./grid.js").Box} Box */

/** A lattice of more voxels is not read here. */
const MAX_VOXELS = 1 << 25;
/** Boxes that reach less than this part of a voxel into the next one do not touch it. */
const EDGE = 1e-6;
const AXES = [0, 1, 2];

/** @param {Region[]} parts @returns {number} */
function nested(parts) {
  const levels = 1 + Math.max(...parts.map((part) => part.nesting));
  if (levels > MAX_NESTING) throw new FieldError(`regions may be at most ${MAX_NESTING} levels deep: keep whole cells to drop the old ones`);
  return levels;
}

/** Points outside a region. */
class Complement extends Region {
  /** @param {Region} part */
  constructor(part) {
    super();
    this.kind = "complement";
    this.part = part;
    this.nesting = nested([part]);
  }

  /** @param {ArrayLike<number>} p */
  contains(p) {
    return !this.part.contains(p);
  }

  /** @param {Box} box */
  touches(box) {
    return !this.part.covers(box);
  }

  /** @param {Box} box */
  covers(box) {
    return !this.part.touches(box);
  }

  /** @param {Grid} lattice @param {boolean} contracted */
  voxels(lattice, contracted) {
    return this.part.voxels(lattice, contracted)?.map((inside) => 1 - inside) ?? null;
  }

  typed() {
    return new Map(/** @type {[string, any][]} */ ([["type", this.kind], ["part", this.part.typed()]]));
  }
}

/** A region given in other units: the points p with `p * scale + offset` in it. */
class Scaled extends Region {
  /** @param {Region} part @param {number[]} scale positive @param {number[]} offset */
  constructor(part, scale, offset) {
    super();
    const numbers = [...scale, ...offset];
    if (numbers.length !== 6 || !numbers.every(Number.isFinite) || !scale.every((s) => s > 0)) {
      throw new FieldError(`scales must be positive and offsets finite, got ${scale} and ${offset}`);
    }
    this.kind = "scaled";
    this.part = part;
    this.scale = scale;
    this.offset = offset;
    this.nesting = nested([part]);
  }

  /** @param {ArrayLike<number>} p */
  #scaled(p) {
    return AXES.map((k) => p[k] * this.scale[k] + this.offset[k]);
  }

  /** @param {ArrayLike<number>} p */
  contains(p) {
    return this.part.contains(this.#scaled(p));
  }

  /** @param {Box} box */
  touches([low, high]) {
    return this.part.touches([this.#scaled(low), this.#scaled(high)]);
  }

  /** @param {Box} box */
  covers([low, high]) {
    return this.part.covers([this.#scaled(low), this.#scaled(high)]);
  }

  typed() {
    const numbers = (/** @type {number[]} */ values) => values.map((v) => new Float(v));
    return new Map(/** @type {[string, any][]} */ ([
      ["type", this.kind], ["part", this.part.typed()], ["scale", numbers(this.scale)], ["offset", numbers(this.offset)],
    ]));
  }
}

/** Points in all of several regions, or in any. */
class Joined extends Region {
  /** @param {"union" | "intersection"} kind @param {Region[]} parts */
  constructor(kind, parts) {
    super();
    if (!parts.length) throw new FieldError("a union or intersection needs at least one part");
    this.kind = kind;
    this.parts = parts;
    this.nesting = nested(parts);
    this.of = kind === "union" ? (/** @type {(part: Region) => boolean} */ test) => parts.some(test)
      : (/** @type {(part: Region) => boolean} */ test) => parts.every(test);
  }

  /** @param {string} kind @returns {Region[]} */
  partsOf(kind) {
    return kind === this.kind ? this.parts : [this];
  }

  /** @param {ArrayLike<number>} p */
  contains(p) {
    return this.of((part) => part.contains(p));
  }

  /** @param {Box} box */
  touches(box) {
    return this.of((part) => part.touches(box));
  }

  /** @param {Box} box */
  covers(box) {
    return this.of((part) => part.covers(box));
  }

  /** @param {Uint8Array[]} masks @returns {Uint8Array} */
  #over(masks) {
    const least = this.kind === "union" ? 1 : masks.length;
    return masks[0].map((_, k) => Number(masks.reduce((sum, mask) => sum + mask[k], 0) >= least));
  }

  /** @param {Grid} grid @param {ArrayLike<number>} cells @param {boolean} contraction */
  touched(grid, cells, contraction) {
    return this.#over(this.parts.map((part) => part.touched(grid, cells, contraction)));
  }

  /** @param {Grid} lattice @param {boolean} contracted */
  voxels(lattice, contracted) {
    const found = this.parts.map((part) => part.voxels(lattice, contracted));
    const whole = found.filter((mask) => mask !== null);
    return whole.length === found.length ? this.#over(whole) : null;
  }

  /** @param {Grid} lattice @param {boolean} contracted @returns {{mask: Uint8Array | null, rest: Region | null}} */
  splitVoxels(lattice, contracted) {
    if (this.kind === "union") return super.splitVoxels(lattice, contracted);
    const found = this.parts.map((part) => part.splitVoxels(lattice, contracted));
    const masks = found.flatMap(({ mask }) => (mask ? [mask] : [])), rest = found.flatMap((f) => (f.rest ? [f.rest] : []));
    /** @type {Region | null} */
    const left = rest.length > 1 ? new Joined("intersection", rest) : rest[0] ?? null;
    return { mask: masks.length ? this.#over(masks) : null, rest: left };
  }

  typed() {
    return new Map(/** @type {[string, any][]} */ ([["type", this.kind], ["parts", this.parts.map((part) => part.typed())]]));
  }
}

/** Some voxels of a lattice over a box, or over contracted space. */
export class VoxelSet extends Region {
  /** @param {Grid} lattice @param {boolean} contracted @param {string} text its bits as in JSON @param {Uint8Array} dense */
  constructor(lattice, contracted, text, dense) {
    super();
    this.kind = "voxels";
    this.lattice = lattice;
    this.contracted = contracted;
    this.text = text;
    this.dense = dense;
    /** How many of them lie before each node. @type {Int32Array | null} */
    this.sums = null;
  }

  /** @param {any} data of JSON @returns {Promise<VoxelSet>} */
  static async read(data) {
    const { counts, lower, upper, contracted, bits } = data;
    const lists = [counts, lower, upper].every((v) => Array.isArray(v) && v.length === 3 && v.every(Number.isFinite));
    if (!lists || !counts.every((/** @type {number} */ c) => Number.isInteger(c) && c > 0) || typeof contracted !== "boolean" || typeof bits !== "string") {
      throw new FieldError("a set of voxels needs counts, lower, upper, contracted and bits");
    }
    const lattice = new Grid(counts, lower, upper);
    if (lattice.numCells > MAX_VOXELS) throw new FieldError(`this page reads lattices of at most ${MAX_VOXELS} voxels, got ${counts}`);
    const packed = await inflated(bits, Math.ceil(lattice.numCells / 8));
    return new VoxelSet(lattice, contracted, bits, unpackBits(packed, lattice.numCells));
  }

  /** @param {ArrayLike<number>} p */
  contains(p) {
    const voxel = this.lattice.locate(this.contracted ? contract(p) : p);
    return voxel >= 0 && this.dense[voxel] === 1;
  }

  /** @param {Box} box */
  touches(box) {
    return this.#count(this.contracted ? contractBox(box) : box).found > 0;
  }

  /** @param {Box} box */
  covers(box) {
    const [low, high] = this.contracted ? contractBox(box) : box;
    const { found, of } = this.#count([low, high]);
    return found === of && AXES.every((k) => low[k] >= this.lattice.lower[k] && high[k] <= this.lattice.upper[k]);
  }

  /** @param {Grid} grid @param {ArrayLike<number>} cells @param {boolean} contraction */
  touched(grid, cells, contraction) {
    if (contraction !== this.contracted) return super.touched(grid, cells, contraction);
    return Uint8Array.from(cells, (cell) => Number(this.#count(grid.box(cell)).found > 0));
  }

  /** Of the voxels that a box of the lattice's domain touches, how many are of the set, and how many there are.
   * @param {Box} box */
  #count(box) {
    const { counts, lower, cellSize } = this.lattice, most = Math.max(...counts) + 1;
    const place = (/** @type {number} */ end, /** @type {number} */ k) => Math.min(Math.max((box[end][k] - lower[k]) / cellSize[k], -1), most);
    let first = AXES.map((k) => Math.floor(place(0, k) + EDGE));
    let last = AXES.map((k) => Math.max(Math.ceil(place(1, k) - EDGE), first[k] + 1));
    const apart = AXES.some((k) => last[k] <= 0 || first[k] >= counts[k]);
    first = first.map((v, k) => Math.min(Math.max(v, 0), counts[k]));
    last = last.map((v, k) => Math.min(Math.max(v, 0), counts[k]));
    const of = AXES.reduce((product, k) => product * (last[k] - first[k]), 1);
    if (apart) return { found: 0, of };
    const sums = (this.sums ??= summed(this.dense, counts));
    let found = 0;
    for (let n = 0; n < 8; n++) {
      const [x, y, z] = AXES.map((k) => ((n >> (2 - k)) & 1 ? last[k] : first[k]));
      const ends = ((n >> 2) & 1) + ((n >> 1) & 1) + (n & 1);
      found += (ends % 2 ? 1 : -1) * sums[(x * (counts[1] + 1) + y) * (counts[2] + 1) + z];
    }
    return { found, of };
  }

  /** @param {Grid} lattice @param {boolean} contracted */
  voxels(lattice, contracted) {
    const same = (/** @type {number[]} */ a, /** @type {number[]} */ b) => a.join() === b.join();
    const { counts, lower, upper } = this.lattice;
    const fits = same(counts, lattice.counts) && same(lower, lattice.lower) && same(upper, lattice.upper);
    return fits && contracted === this.contracted ? this.dense : null;
  }

  typed() {
    const { counts, lower, upper } = this.lattice, numbers = (/** @type {number[]} */ values) => values.map((v) => new Float(v));
    return new Map(/** @type {[string, any][]} */ ([
      ["type", this.kind], ["counts", counts], ["lower", numbers(lower)], ["upper", numbers(upper)],
      ["contracted", this.contracted], ["bits", this.text],
    ]));
  }
}

/** Bytes of base64 that zlib made, of a known number.
 * @param {string} text @param {number} size @returns {Promise<Uint8Array>} */
async function inflated(text, size) {
  const result = new Uint8Array(size);
  let done = 0;
  try {
    const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      if (done + piece.value.length > size) {
        await reader.cancel();
        throw new FieldError("too many");
      }
      result.set(piece.value, done);
      done += piece.value.length;
    }
  } catch {
    done = -1;
  }
  if (done !== size) throw new FieldError("the bits of a set of voxels are damaged, or not those of its voxels");
  return result;
}

/** (nx + 1, ny + 1, nz + 1) how many voxels lie before each node.
 * @param {Uint8Array} dense @param {number[]} counts @returns {Int32Array} */
function summed(dense, [nx, ny, nz]) {
  const sums = new Int32Array((nx + 1) * (ny + 1) * (nz + 1)), plane = (ny + 1) * (nz + 1), line = nz + 1;
  for (let x = 0, k = 0; x < nx; x++) {
    for (let y = 0; y < ny; y++) {
      for (let z = 0, row = 0; z < nz; z++, k++) {
        const node = ((x + 1) * (ny + 1) + y + 1) * line + z + 1;
        row += dense[k];
        sums[node] = row + sums[node - line] + sums[node - plane] - sums[node - plane - line];
      }
    }
  }
  return sums;
}

/** The half-open box `[lower, upper)`. @param {number[]} lower @param {number[]} upper @returns {Region} */
export const box = (lower, upper) => new AxisBox(lower, upper);
/** @param {number[]} center @param {number} radius @returns {Region} */
export const sphere = (center, radius) => new Sphere(center, radius);

/** Points in both. @param {Region} a @param {Region} b @returns {Region} */
export function and(a, b) {
  if (!(a instanceof AxisBox && b instanceof AxisBox)) return new Joined("intersection", [...a.partsOf("intersection"), ...b.partsOf("intersection")]);
  const lower = AXES.map((k) => Math.max(a.lower[k], b.lower[k])), upper = AXES.map((k) => Math.min(a.upper[k], b.upper[k]));
  if (!AXES.every((k) => lower[k] < upper[k])) throw new FieldError("the boxes do not overlap: nothing would be kept");
  return new AxisBox(lower, upper);
}

/** Points in either. @param {Region} a @param {Region} b @returns {Region} */
export const or = (a, b) => new Joined("union", [...a.partsOf("union"), ...b.partsOf("union")]);

/** Points outside. @param {Region} a @returns {Region} */
export const not = (a) => (a instanceof Complement ? a.part : new Complement(a));

/** How each kind is read of JSON. @type {Record<string, (data: any, levels: number) => Region | Promise<Region>>} */
const KINDS = {
  box: (data) => new AxisBox(data.lower, data.upper),
  oriented_box: (data) => new OrientedBox(data.center, data.rotation, data.size),
  complement: async (data, levels) => new Complement(await regionFromDict(data.part, levels)),
  scaled: async (data, levels) => new Scaled(await regionFromDict(data.part, levels), data.scale ?? [], data.offset ?? []),
  union: async (data, levels) => new Joined("union", await partsFrom(data, levels)),
  intersection: async (data, levels) => new Joined("intersection", await partsFrom(data, levels)),
  half_space: (data) => new HalfSpace(data.normal, data.offset),
  sphere: (data) => new Sphere(data.center, data.radius),
  voxels: (data) => VoxelSet.read(data),
};

/** @param {any} data @param {number} levels */
function partsFrom(data, levels) {
  if (!Array.isArray(data.parts)) throw new FieldError("the parts of a region must be a list");
  return Promise.all(data.parts.map((/** @type {any} */ part) => regionFromDict(part, levels)));
}

/** A region of JSON from anyone.
 * @param {any} data @param {number} [levels] regions made of regions may be so deep
 * @returns {Promise<Region>} rejects with a FieldError of one line */
export async function regionFromDict(data, levels = MAX_NESTING) {
  const read = typeof data?.type === "string" && Object.hasOwn(KINDS, data.type) ? KINDS[data.type] : null;
  if (!read) throw new FieldError(`not a region: 'type' must be one of ${Object.keys(KINDS).join(", ")}, got ${JSON.stringify(data?.type ?? null).slice(0, 40)}`);
  if (levels < 1) throw new FieldError(`regions may be at most ${MAX_NESTING} levels deep`);
  try {
    return await read(data, levels - 1);
  } catch (error) {
    if (error instanceof FieldError) throw error;
    throw new FieldError(`a region of type ${data.type} makes no sense: ${JSON.stringify(data).slice(0, 80)}`);
  }
}
