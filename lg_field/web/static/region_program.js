// @ts-check
/** Regions as programs of the graphics card: steps that push or join truths, see `in_region` of march.wgsl. */

/** @typedef {import("./space.js").Region} Region */

/** Numbers of a step: five vectors. */
const STEP = 20;
const BOX = 1, SPHERE = 2, HALF_SPACE = 3, TURNED = 4, VOXELS = 5, NOT = 6, AND = 7, OR = 8;
/** Truths that can wait to be joined. */
const DEEPEST = 30;

/** @typedef {{steps: number[][], bits: {step: number[], dense: Uint8Array}[], depth: number, deepest: number}} Program */

/** @param {Program} program @param {number} op @param {ArrayLike<number>} a @param {...ArrayLike<number>} rest */
function push(program, op, a, ...rest) {
  const step = new Array(STEP).fill(0);
  [a, ...rest].forEach((values, k) => Array.from(values).forEach((v, i) => (step[4 * k + i] = v)));
  step[3] = op;
  program.steps.push(step);
  program.depth += op < NOT ? 1 : op === NOT ? 0 : -1;
  program.deepest = Math.max(program.deepest, program.depth);
  return step;
}

/** Kind of region -> what it adds to a program. */
const KINDS = /** @type {Record<string, (region: any, program: Program) => void>} */ ({
  box: (r, p) => void push(p, BOX, r.lower, r.upper),
  sphere: (r, p) => void push(p, SPHERE, r.center, [r.radius]),
  half_space: (r, p) => void push(p, HALF_SPACE, r.normal, [r.offset]),
  oriented_box: (r, p) => void push(p, TURNED, r.center, r.size.map((/** @type {number} */ v) => v / 2), ...r.rotation),
  voxels: (r, p) => {
    const { counts, lower, upper } = r.lattice;
    const size = [0, 1, 2].map((k) => (upper[k] - lower[k]) / counts[k]);
    const step = push(p, VOXELS, counts, [...lower, r.contracted ? 1 : 0], [...size, 0]);
    p.bits.push({ step, dense: r.dense });
  },
  complement: (r, p) => {
    add(r.part, p);
    push(p, NOT, []);
  },
  intersection: (r, p) => joined(r.parts, AND, p),
  union: (r, p) => joined(r.parts, OR, p),
});

/** @param {any[]} parts @param {number} op @param {Program} program */
function joined(parts, op, program) {
  parts.forEach((part, k) => {
    add(part, program);
    if (k) push(program, op, []);
  });
}

/** @param {any} region @param {Program} program */
function add(region, program) {
  const kind = KINDS[region.kind];
  if (!kind) throw new Error(`this page does not draw regions of type ${region.kind}`);
  kind(region, program);
}

/** A region as numbers for the card; null: everything. A voxel set's bits follow the steps, 16 in each number.
 * @param {Region | null} region @returns {Float32Array} */
export function regionProgram(region) {
  /** @type {Program} */ const program = { steps: [], bits: [], depth: 0, deepest: 0 };
  if (region) add(region, program);
  if (program.deepest > DEEPEST) throw new Error(`this page draws regions of up to ${DEEPEST} nested parts`);
  let size = 4 + STEP * program.steps.length;
  for (const { step, dense } of program.bits) {
    step[11] = size / 4;
    size += 4 * Math.ceil(dense.length / 64);
  }
  const numbers = new Float32Array(size);
  numbers[0] = program.steps.length;
  program.steps.forEach((step, k) => numbers.set(step, 4 + STEP * k));
  for (const { step, dense } of program.bits) {
    for (let n = 0; n < dense.length; n++) if (dense[n]) numbers[4 * step[11] + (n >> 4)] += 2 ** (15 - (n & 15));
  }
  return numbers;
}
