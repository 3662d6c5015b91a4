// @ts-check
/** What the description of a scene file may say, and which tensors follow from it. */

import { commas } from "./container.js";
import { FieldError } from "./errors.js";
import { Float, plain } from "./json.js";
import { beside, layoutOf } from "./small.js";

/** @typedef {import("./types.js").Sizes} Sizes */
/** @typedef {import("./types.js").Entry} Entry */
/** @typedef {import("./types.js").SceneInfo} SceneInfo */

export const KEY = "lg_field";
const ENTRIES = ["config", "description", "format", "grid", "history", "network", "region", "version"];
const MAX_CELLS = 1 << 24;
const LARGEST = 1 << 16;
const HARMONICS = 9;

/** `RadianceSizes` in its order: entries, and what those mean that a file lacks. */
export const SIZES = /** @type {[string, any][]} */ ([
  ["network", "local-global"], ["local_width", 16], ["global_width", 64], ["hidden_layers", 1], ["activation", "relu"],
  ["w0", new Float(10)], ["merge", "concat"], ["local_frequencies", 2], ["global_frequencies", 6], ["grid_nodes", 9],
  ["grid_features", 4], ["global_reads_grid", false], ["hash_levels", 0], ["hash_features", 2], ["hash_base_res", 16],
  ["log2_hashmap_size", 13], ["color_features", 15], ["color_width", 32], ["appearance_features", 0],
  ["occupancy_voxels", 8], ["contraction", false], ["density_bias", new Float(-3)], ["frame", []],
]);
/** @type {Record<string, [number, number]>} */
const RANGES = {
  color_features: [1, LARGEST], hash_features: [1, 8], hash_base_res: [2, LARGEST], log2_hashmap_size: [3, 24],
  occupancy_voxels: [2, 64], local_frequencies: [0, 24], global_frequencies: [0, 24], hidden_layers: [0, 64],
  hash_levels: [0, 16], grid_nodes: [0, 256],
};

/** @typedef {{config: Map<string, any>, grid: Map<string, any>, region: any, description: Map<string, any>,
 *   history: Map<string, any>}} Description as `json.parse` gives it, checked */

/** @param {boolean} fits @param {string} otherwise */
function need(fits, otherwise) {
  if (!fits) throw new FieldError(otherwise);
}

const isNumber = (/** @type {any} */ value) =>
  (value instanceof Float && Number.isFinite(value.value)) || typeof value === "number";
const isNumbers = (/** @type {any} */ value, /** @type {number} */ count) =>
  Array.isArray(value) && value.length === count && value.every(isNumber);

/** Check a description; the region within is checked by who reads it.
 * @param {any} data of `json.parse` @param {string} name of the file
 * @returns {Description} with all entries of the configuration, in their order */
export function checkDescription(data, name) {
  const is = (/** @type {any} */ value) => value instanceof Map;
  const version = is(data) ? data.get("version") : undefined;
  need(is(data) && data.get("format") === "lg-field" && version === 1,
    `${name}: this page reads format "lg-field" version 1, not ${short(is(data) ? data.get("format") : data)} version ${short(version)}`);
  need([...data.keys()].sort().join() === ENTRIES.join(), `${name}: the description needs ${ENTRIES.join(", ")}`);
  const network = data.get("network");
  need(network === "radiance", `${name} is no scene: it holds a ${short(network)}; this page shows what \`lg-field pack\` writes`);
  for (const key of ["config", "grid", "history"]) need(is(data.get(key)), `${name}: ${key} must be an object`);
  need(is(data.get("description")), `${name} does not say where its scene is seen from: \`lg-field pack\` writes that`);
  checkGrid(data.get("grid"), name);
  return {
    config: checkedSizes(data.get("config"), name),
    grid: data.get("grid"),
    region: data.get("region"),
    description: checkedScene(data.get("description"), name),
    history: data.get("history"),
  };
}

const short = (/** @type {any} */ value) => JSON.stringify(plain(value) ?? null).slice(0, 80);

/** @param {Map<string, any>} grid @param {string} name */
function checkGrid(grid, name) {
  const [counts, lower, upper] = ["counts", "lower", "upper"].map((key) => grid.get(key));
  need(grid.size === 3 && isNumbers(counts, 3) && isNumbers(lower, 3) && isNumbers(upper, 3),
    `${name}: the grid needs counts, lower and upper of three axes`);
  need(counts.every((/** @type {any} */ c) => typeof c === "number" && c >= 1), `${name}: grid counts must be whole numbers of at least 1`);
  const cells = counts.reduce((/** @type {number} */ a, /** @type {number} */ b) => a * b, 1);
  need(cells <= MAX_CELLS, `${name}: the grid has ${commas(cells)} cells; a field file has at most ${commas(MAX_CELLS)}`);
  const [low, high] = [plain(lower), plain(upper)];
  need(low.every((/** @type {number} */ v, /** @type {number} */ k) => v < high[k]), `${name}: lower must be below upper on every axis of the grid`);
}

/** @param {Map<string, any>} config @param {string} name @returns {Map<string, any>} */
function checkedSizes(config, name) {
  const known = new Map(SIZES);
  for (const key of config.keys()) need(known.has(key), `${name} was written by a newer lg-field: its networks have ${short(key)}`);
  const sizes = new Map(SIZES.map(([key, older]) => [key, config.has(key) ? config.get(key) : older]));
  for (const [key, older] of SIZES) {
    const value = sizes.get(key);
    if (typeof older === "number") {
      const [least, most] = RANGES[key] ?? [0, LARGEST];
      need(typeof value === "number" && value >= least && value <= most,
        `${name}: ${key} must be a whole number of ${least} to ${commas(most)}, got ${short(value)}`);
    } else if (older instanceof Float) need(isNumber(value), `${name}: ${key} must be a finite number, got ${short(value)}`);
    else need(typeof value === typeof older, `${name}: ${key} makes no sense: ${short(value)}`);
  }
  checkChoices(/** @type {Sizes} */ (plain(sizes)), name);
  sizes.set("frame", sizes.get("frame").map(asFloat));
  return sizes;
}

/** @param {Sizes} sizes @param {string} name */
function checkChoices(sizes, name) {
  need(["local-global", "per-partition", "global"].includes(sizes.network), `${name}: unknown network ${short(sizes.network)}`);
  need(["concat", "add"].includes(sizes.merge), `${name}: unknown merge ${short(sizes.merge)}`);
  const { frame } = sizes;
  need(Array.isArray(frame) && (frame.length === 0 || (frame.length === 6 && frame.every(Number.isFinite))),
    `${name}: frame must be a lower and an upper corner, six numbers`);
  need([0, 1, 2].every((k) => !frame.length || frame[k] < frame[k + 3]), `${name}: frame must be a lower corner, then an upper one`);
  need(sizes.occupancy_voxels % 2 === 0 && sizes.grid_nodes !== 1 && [1, 2, 4, 8].includes(sizes.hash_features),
    `${name}: occupancy_voxels must be even, grid_nodes not 1, hash_features 1, 2, 4 or 8`);
  need(!sizes.grid_nodes || sizes.grid_features > 0, `${name}: grid_features must be at least 1 where there is a grid`);
  need(sizes.color_width > 0 || (sizes.color_features === 3 * HARMONICS && !sizes.appearance_features),
    `${name}: color_width 0 needs 27 color_features and no appearance_features`);
  need(sizes.hash_base_res * 2 ** sizes.hash_levels <= 2 ** 20, `${name}: the finest of the hash_levels must be below 2^20 nodes`);
  const { local, global } = widths(sizes);
  need(local + global > 0, `${name}: local_width and global_width are both 0`);
}

/** A number as a float. @param {any} value @returns {Float} */
export const asFloat = (value) => (value instanceof Float ? value : new Float(Number(value)));

/** A scene's description with every number a float, in the order that Python writes.
 * @param {Map<string, any>} data @param {string} name @returns {Map<string, any>} */
function checkedScene(data, name) {
  const wrong = `${name}: bad scene description`;
  const number = (/** @type {any} */ v) => (need(isNumber(v), wrong), asFloat(v));
  const numbers = (/** @type {any} */ v, /** @type {number} */ count) => (need(isNumbers(v, count), wrong), v.map(asFloat));
  const matrix = (/** @type {any} */ v) => (need(Array.isArray(v) && v.length === 4, wrong), v.map((/** @type {any} */ row) => numbers(row, 4)));
  /** @type {[string, (value: any) => any][]} */
  const parts = [
    ["scene_to_world", matrix], ["background", (v) => numbers(v, 3)], ["near", number], ["far", number], ["step", number],
    ["camera", (v) => (v === null ? null : matrix(v))], ["focal", number], ["up", (v) => numbers(v, 3)],
  ];
  const scene = new Map(parts.map(([key, read]) => (need(data.has(key), `${wrong}: it lacks ${key}`), [key, read(data.get(key))])));
  const viewpoints = data.get("viewpoints") ?? [];
  need(Array.isArray(viewpoints), wrong);
  if (viewpoints.length) scene.set("viewpoints", viewpoints.map((/** @type {any} */ v) => numbers(v, 3)));
  need([...data.keys()].every((key) => key === "viewpoints" || scene.has(key)), `${wrong}: unknown entries`);
  for (const key of ["near", "step", "focal"]) need(scene.get(key).value > 0, `${wrong}: ${key} must be positive`);
  return scene;
}

/** Widths of the local and the global part, 0 for one that is not there.
 * @param {Sizes} sizes */
function widths(sizes) {
  return {
    local: sizes.network === "global" ? 0 : sizes.local_width,
    global: sizes.network === "per-partition" ? 0 : sizes.global_width,
  };
}

/** Entries of a level of the hash grid. @param {Sizes} sizes @param {number} level */
export function hashEntries(sizes, level) {
  const nodes = sizes.hash_base_res * 2 ** level;
  return Math.min(Math.ceil(nodes ** 3 / 8) * 8, 2 ** sizes.log2_hashmap_size);
}

/** Lines of the hash table, 0 without one. @param {Sizes} sizes */
export function hashLines(sizes) {
  let lines = 0;
  if (sizes.network !== "per-partition") for (let k = 0; k < sizes.hash_levels; k++) lines += hashEntries(sizes, k);
  return lines;
}

/** Name -> size of every tensor of a scene but the hash table's; of rows without their number.
 * @param {Sizes} sizes @returns {{rows: Map<string, number>, shared: Map<string, number[]>}} */
export function tensorsOf(sizes) {
  const { local: h, global: g } = widths(sizes), rowsThere = sizes.network !== "global";
  const grid = sizes.grid_nodes ? sizes.grid_features : 0, out = 1 + sizes.color_features;
  const encoded = (/** @type {number} */ frequencies) => 3 * (1 + 2 * frequencies);
  const localIn = encoded(sizes.local_frequencies) + grid;
  const globalIn = encoded(sizes.global_frequencies) + (sizes.global_reads_grid && rowsThere ? grid : 0) +
    sizes.hash_levels * sizes.hash_features;
  const row = h ? localIn * h + h + sizes.hidden_layers * (h * h + h) + h * out + out : 0;
  const rows = new Map([["local", row], ["features", rowsThere ? sizes.grid_nodes ** 3 * sizes.grid_features : 0]]);
  /** @type {Map<string, number[]>} */
  const shared = new Map();
  for (let k = 0; g && k <= sizes.hidden_layers; k++) {
    shared.set(`shared.global_weight_${k}`, [k ? g : globalIn, g]).set(`shared.global_bias_${k}`, [g]);
    if (h && sizes.merge === "add") shared.set(`shared.merge_weight_${k}`, [g, h]).set(`shared.merge_bias_${k}`, [h]);
  }
  if (g && h && sizes.merge === "concat") shared.set("shared.merge_weight", [h + g, h]).set("shared.merge_bias", [h]);
  if (g && (h === 0 || (rowsThere && sizes.network !== "per-partition"))) {
    shared.set("shared.head_weight", [g, out]).set("shared.head_bias", [out]);
  }
  if (sizes.color_width) {
    const colorIn = sizes.color_features + HARMONICS + sizes.appearance_features, width = sizes.color_width;
    shared.set("color.0.weight", [width, colorIn]).set("color.0.bias", [width]);
    shared.set("color.2.weight", [3, width]).set("color.2.bias", [3]);
  }
  return { rows, shared };
}

/** Check that a file's tensors are those of the scene that it describes.
 * @param {Sizes} sizes @param {Map<string, Entry>} entries @param {number} keptLines of the hash table
 * @param {string} name */
export function checkTensors(sizes, entries, keptLines, name) {
  const { rows, shared } = tensorsOf(sizes), count = entries.get("cells")?.shape[0] ?? 0;
  /** @type {Map<string, number[]>} */
  const wanted = new Map([["cells", [count]], ["occupied", [count, Math.ceil(sizes.occupancy_voxels ** 3 / 8)]]]);
  for (const [key, size] of rows) wanted.set(key, [count, size]);
  for (const [key, size] of shared) wanted.set(key, size);
  const lines = hashLines(sizes);
  if (lines) wanted.set("hash_table", [keptLines, sizes.hash_features]);
  if (entries.has("hash_table_kept")) wanted.set("hash_table_kept", [lines ? Math.ceil(lines / 8) : -1]);
  /** Types that must be so. @type {Map<string, string>} */
  const types = new Map([["cells", "I64"], ["occupied", "U8"], ["hash_table_kept", "U8"]]);
  for (const [key, size] of [...wanted]) {
    const layout = entries.get(key)?.dtype === "I8" && !types.has(key) ? layoutOf(key, size, sizes) : null;
    if (!layout) continue;
    types.set(key, "I8");
    for (const [end, { dtype, shape }] of beside(layout, size)) {
      wanted.set(key + end, shape);
      types.set(key + end, dtype);
    }
  }
  const odd = [...wanted.keys(), ...entries.keys()].filter((key) => !wanted.has(key) || !entries.has(key));
  need(odd.length === 0, `${name}: tensors do not fit the description: ${odd.slice(0, 5).join(", ").slice(0, 200)}`);
  for (const [key, size] of wanted) {
    const { dtype, shape } = /** @type {Entry} */ (entries.get(key));
    const type = types.get(key), fits = type ? dtype === type : ["F32", "F16", "BF16"].includes(dtype);
    need(fits && shape.join() === size.join(), `${name}: ${key} is ${dtype} [${shape}], the description needs [${size}]`);
  }
}
