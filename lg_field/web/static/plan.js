// @ts-check
/** Which requests fetch some lines of a file's tensors: neighbours in one, narrow gaps with them, the most wanted first. */

/** Part of the wanted bytes that may be fetched beside them, in gaps. */
export const WASTE = 0.18;
/** A gap of more bytes costs more than a request. */
const WIDEST_GAP = 1 << 17;
/** Bytes of a request: what is shown grows by these. Neighbours up to the least are not parted by which are wanted most. */
const LEAST_PIECE = 1 << 18;
const LARGEST_PIECE = 1 << 22;
/** About so many requests for everything that is wanted. */
const PIECES = 32;
/** The most wanted rows come before any others are asked for, so that they have the line for themselves: this part of
 * all bytes, at most so many. */
const FIRST_PART = 1 / 8, LARGEST_FIRST = 1 << 20;

/** @typedef {{name: string, first: number, last: number, rank: number, bytes: number}} Request lines `first` to before
 * `last` of the tensor called `name` */

/** Groups of requests, one after the other: each is planned when the one before is done.
 * @param {ArrayLike<number>} rows the most wanted first
 * @param {{name: string, rowBytes: number}[]} tensors
 * @param {(name: string, row: number) => boolean} [isHere] whether a row's line of a tensor need not be fetched
 * @returns {Generator<Request[]>} of each group the requests in the order in which they are to be made */
export function* planned(rows, tensors, isHere = () => false) {
  const order = [...new Set(Array.from(rows))], rowBytes = tensors.reduce((sum, tensor) => sum + tensor.rowBytes, 0);
  const count = Math.ceil(Math.min(order.length * FIRST_PART, LARGEST_FIRST / Math.max(1, rowBytes)));
  const first = leading(order, count, Math.max(1, Math.min(count, Math.floor(LEAST_PIECE / Math.max(1, rowBytes)))));
  for (const some of [order.filter((row) => first.has(row)), order.filter((row) => !first.has(row))]) yield group(some, tensors, isHere);
}

/** About so many of the most wanted rows, with their neighbours: few requests bring them, and few gaps are left.
 * @param {number[]} order the most wanted first @param {number} count @param {number} together neighbours at most
 * @returns {Set<number>} */
function leading(order, count, together) {
  const runs = new Map(), sorted = [...order].sort((a, b) => a - b);
  /** @type {number[]} */ let run = [];
  for (const [k, row] of sorted.entries()) {
    if (row !== sorted[k - 1] + 1 || run.length >= together) run = [];
    run.push(row);
    runs.set(row, run);
  }
  const first = new Set();
  for (const row of order) {
    if (first.size >= count) break;
    for (const neighbour of runs.get(row)) first.add(neighbour);
  }
  return first;
}

/** @param {number[]} rows the most wanted first @param {{name: string, rowBytes: number}[]} tensors
 * @param {(name: string, row: number) => boolean} isHere
 * @returns {Request[]} */
function group(rows, tensors, isHere) {
  const rank = new Map(rows.map((row, place) => [row, place])), sorted = [...rows].sort((a, b) => a - b);
  const lacking = tensors
    .filter(({ rowBytes }) => rowBytes > 0)
    .map((tensor) => ({ ...tensor, wanted: sorted.filter((row) => !isHere(tensor.name, row)) }));
  const total = lacking.reduce((sum, { wanted, rowBytes }) => sum + wanted.length * rowBytes, 0);
  const piece = Math.min(Math.max(total / PIECES, LEAST_PIECE), LARGEST_PIECE);
  const bridged = bridges(lacking, total * WASTE);
  return lacking.flatMap((tensor) => cut(tensor, rank, bridged, piece)).sort((a, b) => a.rank - b.rank);
}

/** Lines that are to be fetched of a tensor. @typedef {{name: string, rowBytes: number, wanted: number[]}} Lacking sorted */

/** The gaps that are fetched, too: the narrowest ones, as long as there are bytes left for them.
 * @param {Lacking[]} lacking @param {number} budget bytes
 * @returns {Set<string>} "tensor row", of the row after the gap */
function bridges(lacking, budget) {
  const gaps = [];
  for (const { name, rowBytes, wanted } of lacking) {
    for (let k = 1; k < wanted.length; k++) {
      const lines = wanted[k] - wanted[k - 1] - 1;
      if (lines) gaps.push({ key: `${name} ${wanted[k]}`, bytes: lines * rowBytes });
    }
  }
  const chosen = new Set();
  for (const { key, bytes } of gaps.sort((a, b) => a.bytes - b.bytes)) {
    if (bytes > WIDEST_GAP || (budget -= bytes) < 0) break;
    chosen.add(key);
  }
  return chosen;
}

/** @param {Lacking} tensor @param {Map<number, number>} rank
 * @param {Set<string>} bridged @param {number} piece bytes of a request, about
 * @returns {Request[]} */
function cut({ name, rowBytes, wanted }, rank, bridged, piece) {
  /** @type {Request[]} */
  const requests = [], most = Math.max(1, Math.floor(piece / rowBytes));
  for (const [k, row] of wanted.entries()) {
    const last = requests[requests.length - 1], place = rank.get(row) ?? 0;
    const goesOn = last && (row === wanted[k - 1] + 1 || bridged.has(`${name} ${row}`)) && row - last.first < most;
    if (goesOn) Object.assign(last, { last: row + 1, rank: Math.min(last.rank, place), bytes: (row + 1 - last.first) * rowBytes });
    else requests.push({ name, first: row, last: row + 1, rank: place, bytes: rowBytes });
  }
  return requests;
}
