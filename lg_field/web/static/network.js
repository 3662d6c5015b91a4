// @ts-check
/** The networks of a scene as a program of the graphics card: how weights lie there, and the WGSL of the chain.
 *
 * Vectors are of four numbers: every layer's inputs and outputs are padded to whole vectors with zeros. A layer's block
 * of weights is, for each output vector and each input vector, four vectors: what each of the four inputs gives.
 * What an activation multiplies its phase with is folded into weights and biases. */

/** @typedef {import("./types.js").Sizes} Sizes */
/** @typedef {{name: string, size: number, fanIn: number[], fanOut: number, rate: number}} Layer */

export const HARMONICS = 9;
const COMPONENTS = ["x", "y", "z", "w"];
/** Activation -> the factor s of a layer's output in its phase, and f in WGSL. */
const ACTIVATIONS = /** @type {Record<string, {rate: (w0: number) => number, wgsl: string}>} */ ({
  relu: { rate: () => 1, wgsl: "fn act(p: vec4f) -> vec4f { return max(p, vec4f(0.0)); }" },
  sine: { rate: (w0) => w0, wgsl: "fn act(p: vec4f) -> vec4f { return sines(p * 0.31830988618379067); }" },
  gauss: { rate: (w0) => w0 / 3, wgsl: "fn act(p: vec4f) -> vec4f { return exp(-p * p); }" },
});
/** Widths that the page's programs hold in registers. */
const WIDEST = { local_width: 128, global_width: 256, color_width: 128, color_features: 63, grid_features: 64 };

export const quads = (/** @type {number} */ n) => Math.ceil(n / 4);
/** Component i of an array of vectors in WGSL. @param {string} name @param {number} i */
const at = (name, i) => `${name}[${i >> 2}].${COMPONENTS[i & 3]}`;

/** Factor of an activated layer's output in its phase; 1 for an activation that is not known here. @param {Sizes} sizes */
export const rateOf = ({ activation, w0 }) => ACTIVATIONS[activation]?.rate(w0) ?? 1;

/** Why a scene cannot be drawn here, in one line; null if it can. @param {Sizes} sizes @returns {string | null} */
export function whyNot(sizes) {
  if (!(sizes.activation in ACTIVATIONS)) {
    return `this page does not draw scenes with the activation "${sizes.activation}": it knows ${Object.keys(ACTIVATIONS).join(", ")}`;
  }
  for (const [name, most] of Object.entries(WIDEST)) {
    const value = /** @type {any} */ (sizes)[name];
    if (value > most) return `this page does not draw scenes with ${name} ${value}: it draws up to ${most}`;
  }
  return null;
}

/** The chain's wiring and where its numbers lie. */
export class Network {
  /** @param {Sizes} sizes */
  constructor(sizes) {
    this.sizes = sizes;
    const rows = sizes.network !== "global", shared = sizes.network !== "per-partition";
    this.local = rows ? sizes.local_width : 0;
    this.global = shared ? sizes.global_width : 0;
    this.depth = sizes.hidden_layers + 1;
    this.outputs = 1 + sizes.color_features;
    this.merges = this.local > 0 && this.global > 0;
    this.head = this.global > 0;
    this.gridIn = sizes.grid_nodes ? sizes.grid_features : 0;
    this.hasGrid = rows && this.gridIn > 0;
    this.levels = shared ? sizes.hash_levels : 0;
    this.localIn = this.gridIn + 3 + 6 * sizes.local_frequencies;
    const gridInGlobal = sizes.global_reads_grid && rows ? this.gridIn : 0;
    this.gridInGlobal = gridInGlobal;
    this.globalIn = gridInGlobal + 3 + 6 * sizes.global_frequencies + this.levels * sizes.hash_features;
    this.rate = rateOf(sizes);
    this.rowLayers = this._rowLayers();
    this.sharedLayers = this._sharedLayers();
    /** Vectors of a row's weights, and of its grid. */
    this.rowQuads = this.local ? this.rowLayers.reduce((sum, layer) => sum + layer.size, 0) : 0;
    this.nodeQuads = this.hasGrid ? quads(sizes.grid_features) : 0;
    this.gridQuads = this.nodeQuads * sizes.grid_nodes ** 3;
  }

  /** @param {string} name @param {number[]} fanIn @param {number} fanOut @param {number} rate @returns {Layer} */
  _layer(name, fanIn, fanOut, rate) {
    const inputs = fanIn.reduce((sum, n) => sum + quads(n), 0);
    return { name, fanIn, fanOut, rate, size: quads(fanOut) * (1 + 4 * inputs) };
  }

  _rowLayers() {
    const h = this.local, layers = [];
    if (!h) return [];
    for (let k = 0; k < this.depth; k++) layers.push(this._layer(`row_${k}`, [k ? h : this.localIn], h, this.rate));
    return [...layers, this._layer("row_out", [h], this.outputs, 1)];
  }

  _sharedLayers() {
    const { local: h, global: g, rate } = this, layers = [], width = this.sizes.color_width;
    for (let k = 0; g && k < this.depth; k++) layers.push(this._layer(`global_${k}`, [k ? g : this.globalIn], g, rate));
    if (this.merges && this.sizes.merge === "concat") layers.push(this._layer("merge", [h, g], h, rate));
    for (let k = 0; this.merges && this.sizes.merge === "add" && k < this.depth; k++) {
      layers.push(this._layer(`merge_${k}`, [g], h, rate));
    }
    if (this.head) layers.push(this._layer("head", [g], this.outputs, 1));
    if (width) layers.push(this._layer("color_0", [this.outputs, HARMONICS], width, 1), this._layer("color_2", [width], 3, 1));
    return layers;
  }

  /** All shared weights as they lie on the card. @param {Map<string, Float32Array>} tensors @returns {Float32Array} */
  packShared(tensors) {
    const layers = this.sharedLayers, packed = new Float32Array(4 * Math.max(1, layers.reduce((sum, l) => sum + l.size, 0)));
    let place = 0;
    for (const layer of layers) {
      const [weight, bias] = this._sharedTensors(layer, tensors);
      packLayer(layer, weight, bias, packed, place);
      place += 4 * layer.size;
    }
    return packed;
  }

  /** (fan_in, fan_out) weights and biases of a shared layer. @param {Layer} layer @param {Map<string, Float32Array>} tensors
   * @returns {[Float32Array, Float32Array]} */
  _sharedTensors(layer, tensors) {
    const [kind, number] = layer.name.split("_");
    const tail = number === undefined ? "" : `_${number}`;
    const names = kind === "color" ? [`color.${number}.weight`, `color.${number}.bias`]
      : [`shared.${kind}_weight${tail}`, `shared.${kind}_bias${tail}`];
    const [weight, bias] = names.map((name) => {
      const values = tensors.get(name);
      if (!values) throw new Error(`the scene file has no tensor ${name}`);
      return values;
    });
    return [kind === "color" ? this._transposed(layer, weight) : weight, bias];
  }

  /** A colour layer's (out, in) weights as (in, out); of the first one an input of zeros stands for the density, and the
   * inputs of the appearance, whose average is zero, are left out. @param {Layer} layer @param {Float32Array} weight */
  _transposed(layer, weight) {
    const first = layer.name === "color_0", fanIn = layer.fanIn.reduce((a, b) => a + b), out = layer.fanOut;
    const given = weight.length / out, turned = new Float32Array(fanIn * out);
    for (let i = first ? 1 : 0; i < fanIn; i++) {
      for (let o = 0; o < out; o++) turned[i * out + o] = weight[o * given + i - (first ? 1 : 0)];
    }
    return turned;
  }

  /** Write a row's weights as they lie on the card. @param {Float32Array} row @param {Float32Array} packed @param {number} place */
  packRow(row, packed, place) {
    let from = 0;
    for (const layer of this.rowLayers) {
      const weights = layer.fanIn[0] * layer.fanOut;
      packLayer(layer, row.subarray(from, from + weights), row.subarray(from + weights), packed, place);
      from += weights + layer.fanOut;
      place += 4 * layer.size;
    }
  }

  /** Write a row's grid. @param {Float32Array} grid @param {Float32Array} packed @param {number} place */
  packGrid(grid, packed, place) {
    const features = this.sizes.grid_features, width = 4 * this.nodeQuads;
    if (features === width) return packed.set(grid, place);
    for (let node = 0; node < grid.length / features; node++) {
      for (let f = 0; f < features; f++) packed[place + node * width + f] = grid[node * features + f];
    }
  }

  /** WGSL of `outputs_at`, what the networks say of a point, and `shade`. */
  wgsl() {
    const s = this.sizes;
    return `
const OUT: u32 = ${quads(this.outputs)}u;
const DENSITY_BIAS: f32 = ${s.density_bias.toExponential()};
const ROW_QUADS: u32 = ${this.rowQuads}u;
const GRID_QUADS: u32 = ${this.gridQuads}u;
const NODE_QUADS: u32 = ${Math.max(1, this.nodeQuads)}u;
const NODES: u32 = ${Math.max(2, s.grid_nodes)}u;
alias Outputs = array<vec4f, OUT>;
${ACTIVATIONS[s.activation].wgsl}
`;
  }

  /** WGSL of \`outputs_at\`: asks the networks. */
  chainWgsl() {
    const lines = ["fn outputs_at(unit: vec3f, local: vec3f, slot: u32) -> Outputs {"];
    if (this.hasGrid) lines.push("let grid = grid_at(local, slot);");
    const most = Math.max(this.local ? this.sizes.local_frequencies : 0, this.global ? this.sizes.global_frequencies : 0);
    for (let k = 0; k < most; k++) {
      lines.push(`let t${k} = unit * ${2 ** k}.0;`, `let s${k} = sines3(t${k});`, `let c${k} = sines3(t${k} + 0.5);`);
    }
    if (this.global) lines.push(...this._levelLines(), vectors("x_global", this._globalInputs()));
    if (this.local) lines.push("let base = slot * ROW_QUADS;", vectors("x_local", this._localInputs()));
    lines.push(...this._layerLines(), "}");
    return `${this.hasGrid ? GRID : ""}${this.levels ? this._levelWgsl() : ""}${lines.join("\n  ")}\n`;
  }

  _frequencies(/** @type {number} */ count) {
    const names = ["unit"];
    for (const wave of ["s", "c"]) for (let k = 0; k < count; k++) names.push(wave + k);
    return names.flatMap((name) => ["x", "y", "z"].map((axis) => `${name}.${axis}`));
  }

  _localInputs() {
    const grid = Array.from({ length: this.gridIn }, (_, i) => (this.hasGrid ? at("grid", i) : "0.0"));
    return [...grid, ...this._frequencies(this.sizes.local_frequencies)];
  }

  _globalInputs() {
    const grid = Array.from({ length: this.gridInGlobal }, (_, i) => at("grid", i)), levels = [];
    for (let level = 0; level < this.levels; level++) {
      for (let f = 0; f < this.sizes.hash_features; f++) levels.push(at(`level${level}`, f));
    }
    return [...grid, ...this._frequencies(this.sizes.global_frequencies), ...levels];
  }

  _levelLines() {
    const lines = [];
    let first = 0;
    for (let level = 0; level < this.levels; level++) {
      const resolution = this.sizes.hash_base_res * 2 ** level, nodes = resolution ** 3;
      const entries = Math.min(8 * Math.ceil(nodes / 8), 2 ** this.sizes.log2_hashmap_size);
      lines.push(`let level${level} = level_at(unit, ${resolution}u, ${entries}u, ${first}u, ${nodes <= entries});`);
      first += entries;
    }
    return lines;
  }

  _layerLines() {
    const lines = [], offsets = new Map();
    let place = 0;
    for (const layer of this.rowLayers) offsets.set(layer, `base + ${place}u`), place += layer.size;
    place = 0;
    for (const layer of this.sharedLayers) offsets.set(layer, `${place}u`), place += layer.size;
    const named = (/** @type {string} */ name) => /** @type {Layer} */ ([...offsets.keys()].find((l) => l.name === name));
    const dense = (/** @type {string} */ out, /** @type {string} */ name, /** @type {string[]} */ ins, /** @type {string} */ wrap = "act") =>
      denseWgsl(out, named(name), offsets.get(named(name)), name.startsWith("row") ? "rows" : "shared_weights", ins, wrap);
    let m = "x_local", g = "x_global";
    for (let k = 0; k < this.depth; k++) {
      if (this.global) lines.push(dense(`g${k}`, `global_${k}`, [g])), (g = `g${k}`);
      if (this.local) lines.push(dense(`l${k}`, `row_${k}`, [m])), (m = `l${k}`);
      if (this.merges && this.sizes.merge === "concat") lines.push(dense(`m${k}`, "merge", [m, g])), (m = `m${k}`);
      else if (this.merges) lines.push(dense(`m${k}`, `merge_${k}`, [g])), lines.push(added(`m${k}`, m, quads(this.local))), (m = `m${k}`);
    }
    if (this.local) lines.push(dense("out", "row_out", [m], ""));
    if (this.head) lines.push(dense("top", "head", [g], ""));
    if (this.local && this.head) lines.push(added("out", "top", quads(this.outputs)));
    return [...lines, `return ${this.local ? "out" : "top"};`];
  }

  _levelWgsl() {
    const f = this.sizes.hash_features, width = quads(f);
    const add = Array.from({ length: f }, (_, i) => `${at("sum", i)} += weight * table[line * ${f}u + ${i}u];`);
    return LEVEL.replaceAll("WIDTH", `${width}u`).replace("ADD", add.join(" "));
  }

  /** WGSL of `shade`: outputs and a direction -> colour. Reads the shared weights if there is a colour layer. */
  shadeWgsl() {
    const begin = "fn shade(out: Outputs, y: array<f32, 9>) -> vec3f {\n  var o = out;\n  ";
    if (!this.sizes.color_width) {
      const sums = [0, 1, 2].map((c) =>
        Array.from({ length: HARMONICS }, (_, s) => `${at("o", 1 + 9 * c + s)} * y[${s}]`).join(" + "));
      return `${begin}let sum = vec3f(${sums.join(",\n    ")});\n  return 1.0 / (1.0 + exp(-sum));\n}\n`;
    }
    const offsets = new Map();
    let place = 0;
    for (const layer of this.sharedLayers) offsets.set(layer.name, [layer, `${place}u`]), place += layer.size;
    const dense = (/** @type {string} */ out, /** @type {string} */ name, /** @type {string[]} */ ins, /** @type {string} */ wrap) =>
      denseWgsl(out, offsets.get(name)[0], offsets.get(name)[1], "shared_weights", ins, wrap);
    const harmonics = vectors("h", Array.from({ length: HARMONICS }, (_, s) => `y[${s}]`));
    return [begin + harmonics, dense("hidden", "color_0", ["o", "h"], "relu"), dense("seen", "color_2", ["hidden"], ""),
      "return 1.0 / (1.0 + exp(-seen[0].xyz));\n}\n"].join("\n  ");
  }
}

/** A layer's numbers as they lie on the card. @param {Layer} layer @param {Float32Array} weight (fan_in, fan_out)
 * @param {Float32Array} bias @param {Float32Array} packed @param {number} place */
function packLayer(layer, weight, bias, packed, place) {
  const { fanOut, rate } = layer, outs = quads(fanOut);
  for (let o = 0; o < fanOut; o++) packed[place + o] = rate * bias[o];
  let first = place + 4 * outs, row = 0;
  for (const count of layer.fanIn) {
    const ins = quads(count);
    for (let i = 0; i < count; i++) {
      for (let o = 0; o < fanOut; o++) {
        packed[first + 4 * (4 * ((o >> 2) * ins + (i >> 2)) + (i & 3)) + (o & 3)] = rate * weight[(row + i) * fanOut + o];
      }
    }
    first += 16 * outs * ins;
    row += count;
  }
}

/** WGSL of a layer: `var out = wrap(W [ins] + b)`. @param {string} out @param {Layer} layer @param {string} offset
 * @param {string} buffer @param {string[]} ins @param {string} wrap */
function denseWgsl(out, layer, offset, buffer, ins, wrap) {
  const outs = quads(layer.fanOut), lines = [];
  let first = outs;
  lines.push(`var ${out}: array<vec4f, ${outs}>;`, `for (var j = 0u; j < ${outs}u; j++) {`);
  lines.push(`  var sum = ${buffer}[${offset} + j];`);
  ins.forEach((name, part) => {
    const count = quads(layer.fanIn[part]);
    lines.push(`  for (var i = 0u; i < ${count}u; i++) {`, `    let w = ${offset} + ${first}u + 4u * (j * ${count}u + i);`,
      `    sum += mat4x4f(${[0, 1, 2, 3].map((k) => `${buffer}[w + ${k}u]`).join(", ")}) * ${name}[i];`, "  }");
    first += 4 * outs * count;
  });
  lines.push(`  ${out}[j] = ${wrap}(sum);`, "}");
  return lines.join("\n  ");
}

/** WGSL of `name += other`. @param {string} name @param {string} other @param {number} count */
const added = (name, other, count) => `for (var j = 0u; j < ${count}u; j++) { ${name}[j] += ${other}[j]; }`;

/** WGSL of numbers as an array of vectors. @param {string} name @param {string[]} values */
function vectors(name, values) {
  const padded = [...values, ...Array(4 * quads(values.length) - values.length).fill("0.0")], rows = [];
  for (let i = 0; i < padded.length; i += 4) rows.push(`vec4f(${padded.slice(i, i + 4).join(", ")})`);
  return `var ${name} = array<vec4f, ${rows.length}>(${rows.join(",\n    ")});`;
}

const GRID = `
fn grid_at(local: vec3f, slot: u32) -> array<vec4f, NODE_QUADS> {
  let scaled = clamp(local, vec3f(0.0), vec3f(1.0)) * f32(NODES - 1u);
  let low = min(floor(scaled), vec3f(f32(NODES - 2u)));
  let part = scaled - low;
  let first = (u32(low.x) * NODES + u32(low.y)) * NODES + u32(low.z);
  var sum: array<vec4f, NODE_QUADS>;
  for (var c = 0u; c < 8u; c++) {
    let step = vec3u(c >> 2u, (c >> 1u) & 1u, c & 1u);
    let sides = select(1.0 - part, part, step == vec3u(1u));
    let line = slot * GRID_QUADS + (first + (step.x * NODES + step.y) * NODES + step.z) * NODE_QUADS;
    for (var f = 0u; f < NODE_QUADS; f++) { sum[f] += sides.x * sides.y * sides.z * grids[line + f]; }
  }
  return sum;
}
`;

const LEVEL = `
fn level_at(unit: vec3f, resolution: u32, entries: u32, first: u32, dense: bool) -> array<vec4f, WIDTH> {
  let scaled = clamp(unit, vec3f(0.0), vec3f(1.0)) * f32(resolution - 1u) + 0.5;
  let low = floor(scaled);
  let part = scaled - low;
  var sum: array<vec4f, WIDTH>;
  for (var c = 0u; c < 8u; c++) {
    let step = vec3u(c >> 2u, (c >> 1u) & 1u, c & 1u);
    let sides = select(1.0 - part, part, step == vec3u(1u));
    let node = vec3u(low) + step;
    let hashed = (node.x ^ (node.y * 2654435761u) ^ (node.z * 805459861u)) & (entries - 1u);
    let number = node.x + resolution * (node.y + resolution * node.z);
    let line = first + select(hashed, select(number, number - entries, number >= entries), dense);
    let weight = sides.x * sides.y * sides.z;
    ADD
  }
  return sum;
}
`;
