// @ts-check
/** The visitor's camera: turns around a point, or flies. Axes are OpenGL's: right, up, back. */

/** @typedef {import("./types.js").Matrix4} Matrix4 */
/** @typedef {import("./render.js").Camera} Camera */

export const add = (/** @type {number[]} */ a, /** @type {number[]} */ b, s = 1) => a.map((v, k) => v + s * b[k]);
export const dot = (/** @type {number[]} */ a, /** @type {number[]} */ b) => a.reduce((sum, v, k) => sum + v * b[k], 0);
export const length = (/** @type {number[]} */ a) => Math.sqrt(dot(a, a));
export const cross = (/** @type {number[]} */ a, /** @type {number[]} */ b) =>
  [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
export const unit = (/** @type {number[]} */ a) => {
  const n = length(a);
  return n > 1e-12 ? a.map((v) => v / n) : [0, 0, 1];
};
/** A vector turned around an axis. @param {number[]} v @param {number[]} axis unit vector @param {number} angle */
function turned(v, axis, angle) {
  const c = Math.cos(angle), s = Math.sin(angle), along = dot(v, axis) * (1 - c), x = cross(axis, v);
  return v.map((value, k) => value * c + x[k] * s + axis[k] * along);
}

/** Closest to straight up or down that it looks: cosine. */
const STEEPEST = 0.998;

export class Orbit {
  /** @param {number[]} up of the scene */
  constructor(up) {
    this.up = unit(up);
    this.eye = [3, 0, 0];
    this.target = [0, 0, 0];
    /** Focal length in lengths of a picture's shorter side: it shows as much across as down where that is its width. */
    this.focal = 1;
    /** How far its right is turned towards its up, radians. */
    this.roll = 0;
  }

  /** Look from a camera to scene, at what is in its middle at a distance. @param {Matrix4} m @param {number} focal @param {number} distance */
  take(m, focal, distance) {
    this.eye = [m[0][3], m[1][3], m[2][3]];
    this.target = add(this.eye, [m[0][2], m[1][2], m[2][2]], -Math.max(1e-3, distance));
    this.focal = focal;
    const [right, up] = this.level, side = [m[0][0], m[1][0], m[2][0]];
    this.roll = Math.atan2(dot(side, up), dot(side, right));
  }

  get distance() {
    return length(add(this.eye, this.target, -1));
  }

  /** Right, up and back. @returns {number[][]} */
  get axes() {
    const [right, up, back] = this.level, c = Math.cos(this.roll), s = Math.sin(this.roll);
    if (Math.abs(s) < 1e-9 && c > 0) return [right, up, back];
    return [add(right.map((v) => c * v), up, s), add(up.map((v) => c * v), right, -s), back];
  }

  /** A drag over the picture, as it would be without roll. @param {number} across @param {number} over */
  _levelled(across, over) {
    const c = Math.cos(this.roll), s = Math.sin(this.roll);
    return [across * c + over * s, over * c - across * s];
  }

  /** The same without roll. @returns {number[][]} */
  get level() {
    const back = unit(add(this.eye, this.target, -1));
    let right = cross(this.up, back);
    if (length(right) < 1e-6) right = cross(Math.abs(this.up[0]) < 0.9 ? [1, 0, 0] : [0, 1, 0], back);
    right = unit(right);
    return [right, cross(back, right), back];
  }

  /** Camera to scene, by rows. @returns {number[][]} */
  get toScene() {
    const [right, up, back] = this.axes;
    return [...[0, 1, 2].map((k) => [right[k], up[k], back[k], this.eye[k]]), [0, 0, 0, 1]];
  }

  /** Focal length in heights of a picture. @param {number} aspect its width over its height */
  focalIn(aspect) { return this.focal * Math.min(1, aspect); }

  /** The camera of a picture. @param {number} aspect its width over its height @returns {Camera} */
  camera(aspect) { return { toScene: this.toScene, focal: this.focalIn(aspect) }; }

  /** Turn around the target. @param {number} across radians @param {number} over radians */
  turn(across, over) {
    [across, over] = this._levelled(across, over);
    const [right] = this.level, away = add(this.eye, this.target, -1);
    const tilted = turned(away, right, -over), steep = Math.abs(dot(unit(tilted), this.up));
    this.eye = add(this.target, turned(steep < STEEPEST ? tilted : away, this.up, -across));
  }

  /** Look around from where it is. @param {number} across radians @param {number} over radians */
  look(across, over) {
    [across, over] = this._levelled(across, over);
    const [right] = this.level, ahead = add(this.target, this.eye, -1);
    const tilted = turned(ahead, right, -over), steep = Math.abs(dot(unit(tilted), this.up));
    this.target = add(this.eye, turned(steep < STEEPEST ? tilted : ahead, this.up, -across));
  }

  /** Move along right, up and back, scene units. @param {number[]} steps */
  move(steps) {
    const axes = this.axes, by = axes.reduce((sum, axis, k) => add(sum, axis, steps[k]), [0, 0, 0]);
    this.eye = add(this.eye, by);
    this.target = add(this.target, by);
  }

  /** Come nearer by a factor. @param {number} factor */
  zoom(factor) {
    const away = add(this.eye, this.target, -1), far = Math.min(1e4, Math.max(1e-3, length(away) * factor));
    this.eye = add(this.target, unit(away), far);
  }

  /** Unit vector through a place of a picture. @param {number} x 0 to 1, to the right @param {number} y 0 to 1, down
   * @param {number} aspect width over height */
  ray(x, y, aspect) {
    const [right, up, back] = this.axes, f = this.focalIn(aspect);
    return unit(add(add(right.map((v) => (v * (x - 0.5) * aspect) / f), up, (0.5 - y) / f), back, -1));
  }

  /** Where a scene point is in the picture: x, y in 0 to 1, and how far ahead; null behind. @param {number[]} p @param {number} aspect */
  project(p, aspect) {
    const v = add(p, this.eye, -1), [right, up, back] = this.axes, ahead = -dot(v, back), f = this.focalIn(aspect);
    if (ahead < 1e-6) return null;
    return [0.5 + (dot(v, right) * f) / aspect / ahead, 0.5 - (dot(v, up) * f) / ahead, ahead];
  }
}

/** A camera that shows all of a box, from the direction in which an orbit of `lg-field render` begins. In a picture that is
 * narrower than high that orbit stands farther away, with the same angle over the height; this camera stands where it does
 * in any picture, with the same angle over the shorter side. @param {Orbit} orbit
 * @param {{low: number[], high: number[]}} box @param {Matrix4 | null} first the scene's own camera */
export function frameBox(orbit, box, first) {
  const middle = box.low.map((v, k) => (v + box.high[k]) / 2), radius = length(add(box.high, box.low, -1)) / 2 || 1;
  const far = radius / Math.sin(Math.atan(0.5 / orbit.focal));
  const start = first ? add([first[0][3], first[1][3], first[2][3]], middle, -1) : [1, 0, 0];
  let back = unit(length(start) > 1e-6 ? start : [1, 0, 0]);
  if (!first) back = unit(add(add(back, orbit.up, -dot(back, orbit.up)), orbit.up, Math.tan(Math.PI / 9)));
  orbit.roll = 0;
  orbit.target = middle;
  orbit.eye = add(middle, back, far);
}
