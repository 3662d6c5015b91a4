// @ts-check
/** What is kept and what is selected of a scene's rows, with undo and redo. Nothing of the page, nothing of the card. */

import { and, not } from "./space.js";

/** @typedef {import("./field.js").Field} Field */
/** @typedef {import("./space.js").Region} Region */
/** @typedef {import("./crop.js").Keep} Keep */
/** One step of an edit: rows that are still there, those of them that are selected, the shapes that were kept (without
 * the file's own region), and whether single cells were taken away.
 * @typedef {{kept: Uint8Array, selected: Uint8Array, shape: Region | null, byCells: boolean}} State */

export const NOTHING_SELECTED = "Nothing is selected: click on cells first.";
export const NOTHING_KEPT = "Nothing would be kept.";

export class Edit {
  /** @param {Field} field */
  constructor(field) {
    this.field = field;
    /** @type {State[]} */
    this.steps = [{ kept: new Uint8Array(field.numRows).fill(1), selected: new Uint8Array(field.numRows), shape: null, byCells: false }];
    this.at = 0;
    /** Called after every change. @type {() => void} */
    this.onChange = () => {};
  }

  get state() { return this.steps[this.at]; }
  get canUndo() { return this.at > 0; }
  get canRedo() { return this.at < this.steps.length - 1; }
  get numKept() { return count(this.state.kept); }
  get numSelected() { return count(this.state.selected); }
  get cropped() { return this.state.shape !== null || this.numKept < this.field.numRows; }

  /** The exact region that is shown. @returns {Region | null} */
  get region() { return this.masked(this.state.shape); }

  /** A shape within the file's own region. @param {Region | null} shape @returns {Region | null} */
  masked(shape) {
    const own = this.field.region;
    return own && shape ? and(own, shape) : shape ?? own;
  }

  /** What is kept, for a crop of the file; null: all of it. @returns {Keep | null} */
  get keep() {
    const { kept, shape, byCells } = this.state;
    if (!this.cropped) return null;
    const cells = this.field.cells.filter((_, row) => kept[row]);
    return shape ? { region: shape, ...(byCells ? { within: cells } : {}) } : { cells };
  }

  /** Rows in a shape, as a mask. @param {Region} shape @returns {Uint8Array} */
  rowsIn(shape) {
    return Uint8Array.from(shape.touched(this.field.grid, this.field.cells, this.field.sizes.contraction));
  }

  /** @param {number} step of undo (-1) or redo (1) */
  go(step) {
    this.at = Math.min(this.steps.length - 1, Math.max(0, this.at + step));
    this.onChange();
  }

  /** Take another state, which can be undone. @param {Partial<State>} change */
  _push(change) {
    this.steps = [...this.steps.slice(0, this.at + 1), { ...this.state, ...change }];
    this.at += 1;
    this.onChange();
  }

  /** Select another set of rows. @param {(row: number) => boolean | number} of */
  _select(of) {
    this._push({ selected: Uint8Array.from(this.state.kept, (kept, row) => (kept && of(row) ? 1 : 0)) });
  }

  /** @param {number} row */
  toggle(row) { this._select((k) => (k === row) !== (this.state.selected[k] === 1)); }
  clear() { this._select(() => false); }
  invert() { this._select((row) => !this.state.selected[row]); }
  /** Select the cells of a shape, too. @param {Region} shape */
  selectIn(shape) {
    const inside = this.rowsIn(shape);
    this._select((row) => inside[row] || this.state.selected[row]);
  }

  /** Select neighbours across faces, too. */
  grow() {
    const near = this._beside(this.state.selected);
    this._select((row) => near[row] || this.state.selected[row]);
  }

  /** Let go of cells beside kept ones that are not selected. */
  shrink() {
    const { kept, selected } = this.state, near = this._beside(Uint8Array.from(kept, (k, row) => (k && !selected[row] ? 1 : 0)));
    this._select((row) => selected[row] && !near[row]);
  }

  /** Rows beside those of a mask. @param {Uint8Array} mask */
  _beside(mask) {
    const { grid, cells } = this.field, found = new Uint8Array(mask.length);
    for (let row = 0; row < mask.length; row++) {
      if (!mask[row]) continue;
      const index = grid.unravel(cells[row]);
      for (let k = 0; k < 6; k++) {
        const next = index.map((v, axis) => v + (axis === k >> 1 ? 2 * (k & 1) - 1 : 0));
        if (next.some((v, axis) => v < 0 || v >= grid.counts[axis])) continue;
        const beside = this.field.rowOfCell(grid.ravel(next));
        if (beside >= 0) found[beside] = 1;
      }
    }
    return found;
  }

  /** Keep the selected cells only, or remove them. @param {boolean} remove */
  cropSelected(remove) {
    if (!this.numSelected) throw new Error(NOTHING_SELECTED);
    const { kept, selected } = this.state;
    const left = Uint8Array.from(kept, (k, row) => (k && (selected[row] === 1) !== remove ? 1 : 0));
    if (!count(left)) throw new Error(NOTHING_KEPT);
    this._push({ kept: left, selected: new Uint8Array(kept.length), byCells: true });
  }

  /** Keep what is in a shape, or remove it. @param {Region} shape @param {boolean} remove */
  cropShape(shape, remove) {
    const wanted = remove ? not(shape) : shape, inside = this.rowsIn(wanted), { state } = this;
    const kept = Uint8Array.from(state.kept, (k, row) => k && inside[row]);
    if (!count(kept)) throw new Error(NOTHING_KEPT);
    const selected = Uint8Array.from(state.selected, (s, row) => s && kept[row]);
    this._push({ kept, selected, shape: state.shape ? and(state.shape, wanted) : wanted });
  }

  /** Take what a link says. @param {Region | null} shape @param {number[] | null} cells */
  restore(shape, cells) {
    const inside = shape ? this.rowsIn(shape) : null, named = cells && new Set(cells);
    const kept = Uint8Array.from(this.field.cells, (cell, row) => ((!inside || inside[row]) && (!named || named.has(cell)) ? 1 : 0));
    if (!count(kept)) throw new Error("the link keeps nothing of this scene");
    this._push({ kept, selected: new Uint8Array(kept.length), shape, byCells: named !== null });
  }

  /** Everything again, which can be undone. */
  reset() {
    const all = this.steps[0];
    this._push({ ...all });
  }
}

/** @param {Uint8Array} mask */
const count = (mask) => mask.reduce((sum, one) => sum + one, 0);
