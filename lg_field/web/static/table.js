// @ts-check
/** The rows of a scene on the graphics card: kept ones have a slot, and only they take memory. */

import { filled, storage } from "./gpu.js";
import { voxelsOf } from "./occupancy.js";

/** @typedef {import("./field.js").Field} Field */
/** @typedef {import("./network.js").Network} Network */
/** @typedef {import("./types.js").Rows} Rows */

export class Table {
  /** @param {GPUDevice} device @param {Field} field @param {Network} network */
  constructor(device, field, network) {
    this.device = device;
    this.field = field;
    this.network = network;
    this.words = slotWords(field.sizes.occupancy_voxels);
    /** Slot of each row, -1 without one; and whether its weights are there. */
    this.slots = new Int32Array(field.numRows).fill(-1);
    this.loaded = new Uint8Array(field.numRows);
    this.selected = new Uint8Array(field.numRows);
    this.count = 0;
    /** Counts up with every change of what is there. */
    this.version = 0;
    this.cells = new Int32Array(field.grid.numCells).fill(-1);
    this.slotOfCell = filled(device, this.cells, "the table of cells");
    this.bits = bitsOf(field, this.words);
    this.rows = this.grids = this.slotBits = storage(device, 16, "nothing");
    this.bytes = 0;
  }

  /** Keep these rows and free all others. @param {Uint8Array} mask (P,) @returns {number[]} rows that are not here yet */
  keep(mask) {
    const { device, network, field } = this, rows = [];
    for (let row = 0; row < mask.length; row++) if (mask[row]) rows.push(row);
    const sizes = { rows: 16 * network.rowQuads, grids: 16 * network.gridQuads, slotBits: 4 * this.words };
    const made = /** @type {Record<string, GPUBuffer>} */ ({});
    for (const [name, size] of Object.entries(sizes)) made[name] = storage(device, rows.length * size, "the kept cells' rows");
    const encoder = device.createCommandEncoder(), slots = new Int32Array(field.numRows).fill(-1);
    rows.forEach((row, slot) => {
      slots[row] = slot;
      if (!this.loaded[row]) return;
      for (const name of /** @type {("rows" | "grids")[]} */ (["rows", "grids"])) {
        const size = sizes[name];
        if (size) encoder.copyBufferToBuffer(this[name], this.slots[row] * size, made[name], slot * size, size);
      }
    });
    device.queue.submit([encoder.finish()]);
    for (const old of new Set([this.rows, this.grids, this.slotBits])) old.destroy();
    Object.assign(this, made);
    for (let row = 0; row < mask.length; row++) this.loaded[row] &= mask[row] ? 1 : 0;
    this.slots = slots;
    this.count = rows.length;
    this.bytes = rows.length * (sizes.rows + sizes.grids + sizes.slotBits);
    this._place();
    this._describe(rows);
    this.version += 1;
    return rows.filter((row) => !this.loaded[row]);
  }

  /** Take rows that arrived; those that are not kept are left out. @param {Rows} arrived @returns {number} how many were taken */
  load(arrived) {
    const { network, device } = this;
    /** @type {number[]} */ const taken = [];
    const widths = [arrived.local.length, arrived.features.length].map((n) => n / Math.max(1, arrived.rows.length));
    const row = new Float32Array(4 * network.rowQuads), grid = new Float32Array(4 * network.gridQuads);
    arrived.rows.forEach((number, k) => {
      const slot = this.slots[number];
      if (slot < 0 || this.loaded[number]) return;
      network.packRow(arrived.local.subarray(k * widths[0], (k + 1) * widths[0]), row, 0);
      if (network.hasGrid) network.packGrid(arrived.features.subarray(k * widths[1], (k + 1) * widths[1]), grid, 0);
      if (row.length) device.queue.writeBuffer(this.rows, slot * row.byteLength, row);
      if (grid.length) device.queue.writeBuffer(this.grids, slot * grid.byteLength, grid);
      this.loaded[number] = 1;
      taken.push(number);
    });
    if (taken.length) this._arrived(taken);
    return taken.length;
  }

  /** Say which rows are selected: they are tinted. @param {Uint8Array} mask (P,) */
  select(mask) {
    this.selected = mask;
    this._describe(this.kept);
  }

  /** Rows that have a slot. */
  get kept() {
    const rows = [];
    for (let row = 0; row < this.slots.length; row++) if (this.slots[row] >= 0) rows.push(row);
    return rows;
  }

  /** Write which cells are there. */
  _place() {
    this.cells.fill(-1);
    for (let row = 0; row < this.slots.length; row++) if (this.loaded[row]) this.cells[this.field.cells[row]] = this.slots[row];
    this.device.queue.writeBuffer(this.slotOfCell, 0, this.cells);
  }

  /** Write that cells have come. @param {number[]} rows */
  _arrived(rows) {
    const cells = rows.map((row) => this.field.cells[row]), first = cells.reduce((a, b) => Math.min(a, b)), last = cells.reduce((a, b) => Math.max(a, b));
    rows.forEach((row, k) => (this.cells[cells[k]] = this.slots[row]));
    this.device.queue.writeBuffer(this.slotOfCell, 4 * first, this.cells, first, last - first + 1);
    this.version += 1;
  }

  /** Write what the slots say of rows, in order. @param {number[]} rows */
  _describe(rows) {
    const said = new Uint32Array(rows.length * this.words);
    rows.forEach((row, k) => {
      said.set(this.bits.subarray(row * this.words, (row + 1) * this.words), k * this.words);
      if (this.selected[row]) said[k * this.words] |= 1 << 24;
    });
    if (rows.length) this.device.queue.writeBuffer(this.slotBits, 0, said);
  }

  destroy() {
    for (const buffer of new Set([this.slotOfCell, this.rows, this.grids, this.slotBits])) buffer.destroy();
  }
}

/** Words of a slot: its colour and flags, then a bit for each voxel. @param {number} perAxis */
export const slotWords = (perAxis) => 1 + Math.ceil(perAxis ** 3 / 32);

/** What a slot says of each row: colour of the cell, then bits of its voxels. @param {Field} field @param {number} words */
function bitsOf(field, words) {
  const said = new Uint32Array(field.numRows * words);
  for (let row = 0; row < field.numRows; row++) {
    said[row * words] = cellColor(field.cells[row]);
    for (const voxel of voxelsOf(field, row)) said[row * words + 1 + (voxel >> 5)] |= 1 << (voxel & 31);
  }
  return said;
}

/** The colour of a cell where cells are told apart, red in the lowest byte; as `distinct_colors` of Python.
 * @param {number} cell @returns {number} */
export function cellColor(cell) {
  const bytes = [2654435761n, 2246822519n, 3266489917n].map((factor) => {
    const x = BigInt(cell) * factor, y = BigInt.asUintN(32, (x ^ (x >> 15n)) * 2246822519n);
    return Number((y ^ (y >> 13n)) & 255n);
  });
  return bytes.reduce((sum, byte, k) => sum | (Math.round(255 * (0.15 + (0.85 * byte) / 255)) << (8 * k)), 0);
}
