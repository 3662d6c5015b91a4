// @ts-check
/** Crops: the rows that a region or cells keep, and the field file of them, byte for byte what `lg-field crop` writes. */

/** @typedef {import("./field.js").Field} Field */
/** @typedef {import("./space.js").Region} Region */
/** What to keep: a region or cells (numbers, without a mask); `invert` removes them instead.
 * @typedef {{region?: Region, cells?: ArrayLike<number>, invert?: boolean, snap?: boolean}} Keep */

/** Row numbers that a crop keeps, sorted; throws a FieldError if none would be, and the exact region of the result.
 * @param {Field} field @param {Keep} keep @returns {{rows: Int32Array, region: Region | null}} */
export function rowsToKeep(field, keep) { return { rows: new Int32Array(), region: null }; }

/** The field file of a crop; rows that are not here are fetched.
 * @param {Field} field @param {Keep} keep @param {{signal?: AbortSignal}} [options] @returns {Promise<Blob>} */
export async function cropFile(field, keep, options) { return new Blob([]); }

/** Text of a JSON file that `lg-field crop --region` reads: a region, or cells.
 * @param {Field} field @param {Keep} keep @returns {string} */
export function regionJson(field, keep) { return ""; }
