// @ts-check
/** Links: camera and crop in the part of the address behind "#", which never leaves the browser. The camera, `w=`, is that
 * of no picture: windows of any shape take it as theirs. Links with `v=` are read, too: their focal length is in heights of
 * the picture of the window that opens them. */

/** @typedef {import("./camera.js").Orbit} Orbit */
/** @typedef {{orbit?: {eye: number[], target: number[], focal: number, roll: number}, shape?: any, cells?: number[] | null}} Shared */

const short = (/** @type {number} */ v) => Number(v.toPrecision(7));

/** @param {Orbit} orbit @param {import("./edit.js").Edit} edit @returns {string} */
export function hashOf(orbit, edit) {
  const { shape, byCells } = edit.state, parts = [`w=${[...orbit.eye, ...orbit.target, orbit.focal, ...(Math.abs(orbit.roll) > 1e-6 ? [orbit.roll] : [])].map(short).join(",")}`];
  if (shape) parts.push(`r=${encodeURIComponent(JSON.stringify(shape.toDict()))}`);
  if (byCells) parts.push(`c=${runs(edit.field.cells.filter((_, row) => edit.state.kept[row]))}`);
  return parts.join("&");
}

/** What a link says. An Error of one line where it makes no sense. @param {string} hash
 * @param {number} aspect width over height of the picture that shows it @returns {Shared} */
export function readHash(hash, aspect) {
  /** @type {Shared} */ const said = {};
  for (const part of hash.replace(/^#/, "").split("&").filter(Boolean)) {
    const [name, text] = [part.slice(0, 1), part.slice(2)];
    try {
      if (name === "w") said.orbit = viewOf(text);
      else if (name === "v") said.orbit = viewOf(text, Math.min(1, aspect));
      else if (name === "r") said.shape = JSON.parse(decodeURIComponent(text));
      else if (name === "c") said.cells = cellsOf(text);
    } catch {
      throw new Error("the link is damaged: its view or crop cannot be read");
    }
  }
  return said;
}

/** @param {string} text @param {number} unit shorter side of the picture, in lengths of what the focal length is in */
function viewOf(text, unit = 1) {
  const v = text.split(",").map(Number);
  if (![7, 8].includes(v.length) || !v.every(Number.isFinite) || v[6] <= 0) throw new Error();
  return { eye: v.slice(0, 3), target: v.slice(3, 6), focal: v[6] / unit, roll: v[7] ?? 0 };
}

/** Sorted numbers as ranges: 3-5.9 @param {ArrayLike<number>} cells */
function runs(cells) {
  const parts = [];
  for (let k = 0; k < cells.length; k++) {
    const first = cells[k];
    while (k + 1 < cells.length && cells[k + 1] === cells[k] + 1) k++;
    parts.push(cells[k] === first ? `${first}` : `${first}-${cells[k]}`);
  }
  return parts.join(".");
}

/** @param {string} text */
function cellsOf(text) {
  return text.split(".").flatMap((run) => {
    const [first, last = first] = run.split("-").map(Number);
    if (!(Number.isInteger(first) && first >= 0 && Number.isInteger(last) && last >= first && last - first < 1 << 24)) throw new Error();
    return Array.from({ length: last - first + 1 }, (_, k) => first + k);
  });
}
