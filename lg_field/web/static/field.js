// @ts-check
/** A scene file open for reading by ranges: header and shared part at once, rows when they are asked for. */

/** @typedef {import("./types.js").Source} Source */
/** @typedef {import("./types.js").Rows} Rows */
/** @typedef {import("./types.js").Sizes} Sizes */
/** @typedef {import("./types.js").SceneInfo} SceneInfo */
/** @typedef {import("./types.js").Entry} Entry */

/** An error whose message is one line for the user: a damaged or hostile file, another kind, a lost connection. */
export class FieldError extends Error {}

export class Field {
  /** Name for messages. @type {string} */ name = "";
  /** Sizes and wiring of the networks. @type {Sizes} */ sizes;
  /** Cells: counts, lower, upper. @type {import("./space.js").Grid} */ grid;
  /** Exact region that queries are masked with, null = none. @type {import("./space.js").Region | null} */ region = null;
  /** @type {SceneInfo} */ scene;
  /** (P,) sorted numbers of the kept cells. @type {Int32Array} */ cells;
  /** (P * ceil(r^3 / 8)) bits of occupied voxels as in the file: first voxel in the highest bit. @type {Uint8Array} */
  occupied;
  /** Shared tensors by their names in the file ("shared.global_weight_0", "color.0.weight", "hash_table"), float32;
   * of a crop's hash table all lines (those that are not kept are zeros). @type {Map<string, Float32Array>} */ shared;
  /** @type {Map<string, Entry>} */ entries;
  /** Bytes fetched so far, and of the file in all. */ bytesFetched = 0;
  bytesTotal = 0;
  /** Requests made so far. */ requests = 0;
  /** Called after every piece that arrived, and for lines to show ("the host serves no ranges: ..."). */
  /** @type {(field: Field) => void} */ onProgress = () => {};
  /** @type {(line: string) => void} */ onNotice = () => {};

  get numRows() { return this.cells.length; }

  /**
   * Fetch rows, the first ones named first; neighbours share requests, about ten are in flight. Rows that are here
   * already come from memory.
   * @param {ArrayLike<number>} rows row numbers, the most wanted first
   * @param {(rows: Rows) => void} onRows called as they arrive, in portions
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<void>} when all are here; rejects with a FieldError, or an AbortError when aborted
   */
  async rows(rows, onRows, options) { throw new FieldError("not yet"); }

  /** Let go of rows in memory (they would be fetched again). @param {ArrayLike<number>} rows */
  forget(rows) {}

  /** The row of a cell, -1 if it has none. @param {number} cell @returns {number} */
  rowOfCell(cell) { return -1; }
}

/**
 * Open a scene file: reads header, cells, occupancy and shared part.
 * @param {Source} source
 * @param {{onProgress?: (bytesFetched: number, bytesTotal: number) => void, onNotice?: (line: string) => void,
 *   signal?: AbortSignal}} [options]
 * @returns {Promise<Field>}
 */
export async function openField(source, options) { throw new FieldError("not yet"); }
