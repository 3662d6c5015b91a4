// @ts-check
/** A scene file open for reading by ranges: header and shared part at once, rows when they are asked for. */

import { commas, headerLength, readHeader } from "./container.js";
import { FieldError } from "./errors.js";
import { MemoryFile, RangeFile, joined } from "./fetching.js";
import { parse, plain } from "./json.js";
import { bit, floats, integers, unpackBits } from "./numbers.js";
import { planned } from "./plan.js";
import { KEY, checkDescription, checkTensors, hashLines } from "./schema.js";
import { FINE, SCALE, layoutOf, restored } from "./small.js";
import { Frame, Grid, regionFromDict } from "./space.js";

export { FieldError };

/** @typedef {import("./types.js").Source} Source */
/** @typedef {import("./types.js").Rows} Rows */
/** @typedef {import("./types.js").Sizes} Sizes */
/** @typedef {import("./types.js").SceneInfo} SceneInfo */
/** @typedef {import("./types.js").Entry} Entry */
/** @typedef {import("./schema.js").Description} Description */
/** @typedef {import("./container.js").Header} Header */
/** @typedef {import("./space.js").Region} Region */
/** @typedef {RangeFile | MemoryFile} File */
/** A call that waits for rows. @typedef {{wanted: Set<number>, onRows?: (rows: Rows) => void}} Reader */

/** Tensors with a line for each row that are read at once; the others when rows are asked for. */
const AT_ONCE = ["cells", "occupied"];
const ROWS = ["features", "local"];
/** What of a file is read by rows: their weights, and what whole numbers have beside their first bytes; not the scales.
 * @param {Map<string, Entry>} entries */
const byRow = (entries) => ROWS.flatMap((name) => [name, name + FINE]).filter((name) => entries.has(name));
/** Parts that are read at once may take this many bytes; the table of the shared part's grid, too. */
const LARGEST_PART = 2 ** 30;
/** Ranges at most this far apart are one request. */
const NEAR = 1 << 16;

/** A scene file. Made by `openField`. */
export class Field {
  /** @param {File} file @param {Header} header @param {Description} description @param {Region | null} region
   * @param {Map<string, Uint8Array>} parts what was read at once */
  constructor(file, header, description, region, parts) {
    const grid = plain(description.grid);
    this.file = file;
    /** Name for messages. */
    this.name = file.name;
    /** The description as it lies in the file, checked. */
    this.description = description;
    /** Sizes and wiring of the networks. @type {Sizes} */
    this.sizes = plain(description.config);
    /** What the file says of its scene. @type {SceneInfo} */
    this.scene = { viewpoints: [], ...plain(description.description) };
    /** Cells. */
    this.grid = new Grid(grid.counts, grid.lower, grid.upper);
    /** Where the cells are, and which one owns a scene point. */
    this.frame = new Frame(this.grid, this.sizes.contraction, this.sizes.frame);
    /** Exact region that queries are masked with, null = none. */
    this.region = region;
    this.entries = header.entries;
    /** Names of the tensors that rows are read of. */
    this.byRow = byRow(header.entries);
    this.parts = parts;
    /** (P,) sorted numbers of the kept cells. */
    this.cells = this.#cells();
    /** (P, ceil(r^3 / 8)) bits of occupied voxels as in the file: first voxel in the highest bit. */
    this.occupied = /** @type {Uint8Array} */ (parts.get("occupied"));
    /** (lines,) 1 for the lines of the hash table that are in the file; null: all are. */
    this.keptLines = this.#keptLines();
    /** Shared tensors by their names in the file, float32; of a hash table all lines, zeros where they are not kept.
     * @type {Map<string, Float32Array>} */
    this.shared = this.#shared();
    /** Bytes of rows that are here, by tensor and row. @type {Map<string, Map<number, Uint8Array>>} */
    this.here = new Map(this.byRow.map((name) => [name, new Map()]));
    /** Requests in flight, by "tensor row". @type {Map<string, Promise<Uint8Array>>} */
    this.coming = new Map();
    /** @type {Set<Reader>} */
    this.readers = new Set();
  }

  get numRows() {
    return this.cells.length;
  }

  /** Bytes fetched so far. */
  get bytesFetched() {
    return this.file.bytesFetched;
  }

  /** Bytes of the file. */
  get bytesTotal() {
    return this.file.size;
  }

  /** Requests made so far. */
  get requests() {
    return this.file.requests;
  }

  /** The row of a cell, -1 if it has none. @param {number} cell @returns {number} */
  rowOfCell(cell) {
    let low = 0, high = this.cells.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.cells[middle] < cell) low = middle + 1;
      else high = middle;
    }
    return this.cells[low] === cell ? low : -1;
  }

  /** Whether a voxel of a row's cell holds something. @param {number} row @param {number} voxel 0 to r^3 - 1 */
  isOccupied(row, voxel) {
    const bytes = this.occupied.length / this.cells.length;
    return bit(this.occupied, row * bytes * 8 + voxel) === 1;
  }

  /** An entry of the file's header. @param {string} name @returns {Entry} */
  entry(name) {
    const entry = this.entries.get(name);
    if (!entry) throw new FieldError(`${this.name} has no ${name}`);
    return entry;
  }

  /**
   * Fetch rows, those named first before others; neighbours share requests, about a dozen are in flight. Rows that are
   * here already come from memory, those that another call has asked for are not asked for again.
   * @param {ArrayLike<number>} rows row numbers, the most wanted first
   * @param {(rows: Rows) => void} [onRows] called as they arrive, in portions
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<void>} when all are here; rejects with a FieldError, or as the signal says when it aborts: no further
   *   request is made then, and what those in flight bring is kept
   */
  async rows(rows, onRows, { signal } = {}) {
    const order = Array.from(rows), odd = order.find((row) => !(Number.isInteger(row) && row >= 0 && row < this.numRows));
    if (odd !== undefined) throw new FieldError(`there is no row ${odd}: the scene has ${this.numRows}`);
    signal?.throwIfAborted();
    /** @type {Reader} */
    const reader = { wanted: new Set(order), onRows };
    this.readers.add(reader);
    try {
      this.#tell(order, [reader]);
      while (reader.wanted.size) await whileWanted(this.#fetch(order.filter((row) => reader.wanted.has(row)), signal), signal);
    } finally {
      this.readers.delete(reader);
    }
  }

  /** Fetch rows that are not here; wait for those that are on their way. @param {number[]} rows
   * @param {AbortSignal} [signal] */
  async #fetch(rows, signal) {
    const keys = (/** @type {number} */ row) => this.byRow.filter((name) => !this.#has(name, row)).map((name) => `${name} ${row}`);
    const isHere = (/** @type {string} */ name, /** @type {number} */ row) => this.#has(name, row) || this.coming.has(`${name} ${row}`);
    const others = new Set(rows.flatMap(keys).map((key) => this.coming.get(key))), ending = new AbortController();
    const tensors = this.byRow.map((name) => ({ name, rowBytes: this.entry(name).rowBytes })), end = () => ending.abort();
    signal?.addEventListener("abort", end);
    try {
      for (const group of planned(rows, tensors, isHere)) await Promise.all(group.map((one) => this.#request(one, ending.signal)));
      await Promise.allSettled(others);
    } finally {
      end();
      signal?.removeEventListener("abort", end);
    }
  }

  /** Make a request, unless what it brings is here, or on its way, when its turn comes.
   * @param {import("./plan.js").Request} request @param {AbortSignal} signal */
  async #request({ name, first, last }, signal) {
    const { start, rowBytes } = this.entry(name), rows = Array.from({ length: last - first }, (_, k) => first + k);
    const begins = () => {
      if (rows.every((row) => this.#has(name, row) || this.coming.has(`${name} ${row}`))) return false;
      for (const row of rows) this.coming.set(`${name} ${row}`, read);
      return true;
    };
    /** @type {Promise<Uint8Array>} */
    const read = Promise.resolve().then(() => this.file.read(start + first * rowBytes, start + last * rowBytes, signal, begins));
    try {
      const bytes = await read;
      if (bytes.length) rows.forEach((row, k) => this.here.get(name)?.set(row, bytes.subarray(k * rowBytes, (k + 1) * rowBytes)));
    } finally {
      for (const row of rows) if (this.coming.get(`${name} ${row}`) === read) this.coming.delete(`${name} ${row}`);
    }
    this.#tell(rows, [...this.readers]);
  }

  /** Give rows that are here to those that want them. @param {number[]} rows @param {Reader[]} readers */
  #tell(rows, readers) {
    const here = rows.filter((row) => this.byRow.every((name) => this.#has(name, row)));
    for (const { wanted, onRows } of readers) {
      const come = here.filter((row) => wanted.delete(row));
      this.#deliver(come, onRows);
    }
  }

  /** Let go of rows in memory; they would be fetched again. @param {ArrayLike<number>} rows */
  forget(rows) {
    for (const kept of this.here.values()) for (const row of Array.from(rows)) kept.delete(row);
  }

  /** Bytes of a tensor's line for a row that is here. @param {string} name @param {number} row @returns {Uint8Array} */
  lineOf(name, row) {
    const { rowBytes } = this.entry(name), line = this.here.get(name)?.get(row) ??
      (this.parts.get(name) ?? new Uint8Array()).subarray(row * rowBytes, (row + 1) * rowBytes);
    if (line.length !== rowBytes) throw new FieldError(`row ${row} of ${this.name} was not fetched`);
    return line;
  }

  /** Whether a row's line of a tensor is here. @param {string} name @param {number} row */
  #has(name, row) {
    return this.entry(name).rowBytes === 0 || this.here.get(name)?.has(row) === true;
  }

  /** @param {number[]} rows @param {(rows: Rows) => void} [onRows] */
  #deliver(rows, onRows) {
    if (!rows.length || !onRows) return;
    const [features, local] = ROWS.map((name) => this.#values(name, (part) => joined(rows.map((row) => this.lineOf(part, row)))));
    onRows({ rows: Int32Array.from(rows), features, local });
  }

  /** Values of a tensor. @param {string} name @param {(name: string) => Uint8Array} bytes of it, or of what it needs beside it */
  #values(name, bytes) {
    const { dtype, shape } = this.entry(name), layout = dtype === "I8" ? layoutOf(name, shape, this.sizes) : null;
    if (!layout) return floats(bytes(name), dtype, `${this.name}: ${name}`);
    const fine = this.entries.has(name + FINE) ? bytes(name + FINE) : undefined;
    return restored({ first: bytes(name), scale: bytes(name + SCALE), fine }, layout, `${this.name}: ${name}`);
  }

  #cells() {
    const cells = integers(/** @type {Uint8Array} */ (this.parts.get("cells")), `${this.name}: cells`), most = this.grid.numCells;
    const fits = cells.length > 0 && cells.every((cell, k) => cell < most && (k === 0 || cell > cells[k - 1]));
    if (!fits) throw new FieldError(`${this.name}: cells must be sorted, distinct and in 0..${most - 1}`);
    return cells;
  }

  #keptLines() {
    const bits = this.parts.get("hash_table_kept");
    if (!bits) return null;
    const kept = unpackBits(bits, hashLines(this.sizes)), count = kept.reduce((sum, one) => sum + one, 0);
    if (count === kept.length || count !== this.entry("hash_table").shape[0]) {
      throw new FieldError(`${this.name}: hash_table_kept does not fit hash_table`);
    }
    return kept;
  }

  #shared() {
    const shared = new Map();
    for (const name of this.parts.keys()) {
      const of = [SCALE, FINE].map((end) => name.endsWith(end) && name.slice(0, -end.length)).find(Boolean);
      if (AT_ONCE.includes(name) || name === "hash_table_kept" || (of && this.entries.has(of))) continue;
      const values = this.#values(name, (part) => /** @type {Uint8Array} */ (this.parts.get(part)));
      shared.set(name, name === "hash_table" && this.keptLines ? spread(values, this.keptLines, this.sizes.hash_features) : values);
    }
    return shared;
  }
}

/** A promise that a signal gives up. @template T @param {Promise<T>} promise @param {AbortSignal} [signal] @returns {Promise<T>} */
function whileWanted(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
    if (signal.aborted) stop();
  });
}

/** Lines in their places, zeros between them.
 * @param {Float32Array} values @param {Uint8Array} kept @param {number} width of a line @returns {Float32Array} */
function spread(values, kept, width) {
  const all = new Float32Array(kept.length * width);
  for (let line = 0, at = 0; line < kept.length; line++) {
    if (kept[line]) all.set(values.subarray(at, (at += width)), line * width);
  }
  return all;
}

/**
 * Open a scene file: reads header, cells, occupancy and shared part.
 * @param {Source} source
 * @param {{onProgress?: (bytesFetched: number, bytesTotal: number) => void, onNotice?: (line: string) => void,
 *   signal?: AbortSignal, pause?: number}} [options] progress is told with every piece that comes, later, too; `pause`:
 *   milliseconds before a failed request is made again
 * @returns {Promise<Field>} rejects with a FieldError of one line
 */
export async function openField(source, options = {}) {
  const { onProgress, onNotice, signal, pause } = options;
  /** @type {File} */
  const file = "bytes" in source
    ? new MemoryFile(source.bytes, source.name ?? "the scene")
    : new RangeFile(source.url, { onBytes: () => onProgress?.(file.bytesFetched, file.size), onNotice, pause });
  await file.open("url" in source ? source.ranges : undefined);
  const length = headerLength(await file.read(0, Math.min(8, file.size)), file.size, file.name);
  const header = readHeader(await file.read(8, 8 + length), file.size, file.name);
  const text = header.metadata.get(KEY);
  if (text === undefined) throw new FieldError(`${file.name} is a safetensors file, but not a field file: it has no "${KEY}" metadata`);
  const description = checkDescription(parse(text, file.name), file.name);
  const region = description.region === null ? null : await regionFromDict(plain(description.region));
  checkParts(file, header, plain(description.config));
  const parts = await readParts(file, header.entries, signal);
  onProgress?.(file.bytesFetched, file.size);
  return new Field(file, header, description, region, parts);
}

/** Everything about the tensors that can be checked before they are read.
 * @param {File} file @param {Header} header @param {Sizes} sizes */
function checkParts(file, { entries }, sizes) {
  checkTensors(sizes, entries, keptLines(entries, sizes), file.name);
  const read = byRow(entries), sum = [...entries].reduce((bytes, [name, entry]) => bytes + (read.includes(name) ? 0 : entry.bytes), 0);
  if (sum > LARGEST_PART || hashLines(sizes) * sizes.hash_features * 4 > LARGEST_PART) {
    throw new FieldError(`${file.name}: its shared part of ${commas(sum)} bytes is more than a page can hold`);
  }
}

/** Lines of the hash table that a file says it has. @param {Map<string, Entry>} entries @param {Sizes} sizes */
function keptLines(entries, sizes) {
  return entries.has("hash_table_kept") ? entries.get("hash_table")?.shape[0] ?? 0 : hashLines(sizes);
}

/** Bytes of all tensors but the rows' weights, in few requests.
 * @param {File} file @param {Map<string, Entry>} entries @param {AbortSignal} [signal]
 * @returns {Promise<Map<string, Uint8Array>>} */
async function readParts(file, entries, signal) {
  const read = byRow(entries), wanted = [...entries].filter(([name]) => !read.includes(name)).sort(([, a], [, b]) => a.start - b.start);
  /** @type {{start: number, end: number, names: string[]}[]} */
  const ranges = [];
  for (const [name, { start, bytes }] of wanted) {
    const last = ranges[ranges.length - 1];
    if (last && start - last.end <= NEAR) {
      last.end = start + bytes;
      last.names.push(name);
    } else ranges.push({ start, end: start + bytes, names: [name] });
  }
  const found = new Map();
  await Promise.all(ranges.map(async ({ start, end, names }) => {
    const bytes = await file.read(start, end, signal);
    for (const name of names) {
      const entry = /** @type {Entry} */ (entries.get(name));
      found.set(name, bytes.subarray(entry.start - start, entry.start - start + entry.bytes));
    }
  }));
  return found;
}
