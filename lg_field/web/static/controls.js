// @ts-check
/** Mouse, touch and keys: what they do to the camera, to handles, and where was clicked. */

import { add, dot } from "./camera.js";

/** @typedef {import("./screen.js").Screen} Screen */
/** @typedef {import("./shapes.js").Handle} Handle */
/** @typedef {{handles: () => Handle[], dragged: () => void, dropped: () => void, clicked: (x: number, y: number) => void, flies: () => boolean}} Tools */

/** Pixels that a press may move and still be a click; from a handle's middle to where it can be taken. */
const CLICK = 4, NEAR = 16;
/** Radians a pixel turns; a wheel's step zooms; a key held for a second moves by so many distances. */
const TURN = 0.006, WHEEL = 0.0012, FLY = 0.9;
/** Keys that move: right, up, back. */
const KEYS = /** @type {Record<string, number[]>} */ ({ KeyW: [0, 0, -1], KeyS: [0, 0, 1], KeyA: [-1, 0, 0], KeyD: [1, 0, 0],
  KeyE: [0, 1, 0], KeyQ: [0, -1, 0], ArrowUp: [0, 0, -1], ArrowDown: [0, 0, 1], ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0] });

/** Keys that roll, and which way. */
const ROLLS = /** @type {Record<string, number>} */ ({ KeyZ: 1, KeyC: -1 });

export class Controls {
  /** @param {Screen} screen @param {Tools} tools */
  constructor(screen, tools) {
    this.screen = screen;
    this.tools = tools;
    /** Where fingers and buttons are down. @type {Map<number, {x: number, y: number}>} */ this.down = new Map();
    this.held = new Set();
    this.way = 0;
    /** @type {Handle | null} */ this.handle = null;
    const { canvas } = screen;
    const on = (/** @type {string} */ kind, /** @type {(event: any) => void} */ act, to = /** @type {EventTarget} */ (canvas)) =>
      to.addEventListener(kind, act, { passive: false });
    on("pointerdown", (event) => this._press(event));
    on("pointermove", (event) => this._move(event));
    for (const kind of ["pointerup", "pointercancel"]) on(kind, (event) => this._release(event));
    on("wheel", (event) => this._wheel(event));
    on("contextmenu", (event) => event.preventDefault());
    on("keydown", (event) => this._key(event, true), globalThis);
    on("keyup", (event) => this._key(event, false), globalThis);
    on("blur", () => this.held.clear(), globalThis);
  }

  /** @param {PointerEvent} event */
  _press(event) {
    this.screen.canvas.setPointerCapture(event.pointerId);
    this.screen.canvas.focus();
    this.down.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    if (this.down.size > 1) return void (this.handle = null);
    this.way = 0;
    this.start = { x: event.offsetX, y: event.offsetY };
    this.handle = event.button === 0 ? this._handleAt(event.offsetX, event.offsetY) : null;
  }

  /** @param {PointerEvent} event */
  _move(event) {
    const before = this.down.get(event.pointerId);
    if (!before) return void (this.screen.canvas.style.cursor = this._handleAt(event.offsetX, event.offsetY) ? "grab" : "");
    const now = { x: event.offsetX, y: event.offsetY }, dx = now.x - before.x, dy = now.y - before.y;
    this.way += Math.abs(dx) + Math.abs(dy);
    if (this.down.size === 2) this._pinch(event.pointerId, now);
    else if (this.handle) this._drag(now);
    else this._turn(event, dx, dy);
    this.down.set(event.pointerId, now);
    if (!this.handle) this.screen.change(true);
  }

  /** @param {PointerEvent} event */
  _release(event) {
    const single = this.down.size === 1;
    this.down.delete(event.pointerId);
    if (!single || event.type !== "pointerup") return;
    if (this.handle) this.tools.dropped();
    else if (this.way <= CLICK && event.button === 0) this.tools.clicked(...this._place(event.offsetX, event.offsetY));
    this.handle = null;
  }

  /** @param {number} x @param {number} y @returns {[number, number]} parts of the canvas */
  _place(x, y) { return [x / this.screen.canvas.clientWidth, y / this.screen.canvas.clientHeight]; }

  /** @param {PointerEvent} event @param {number} dx @param {number} dy */
  _turn(event, dx, dy) {
    const { orbit } = this.screen, pans = event.buttons & 6 || event.shiftKey || event.ctrlKey || event.metaKey;
    if (pans) this._pan(dx, dy);
    else if (this.tools.flies()) orbit.look(-TURN * dx, -TURN * dy);
    else orbit.turn(TURN * dx, TURN * dy);
  }

  /** @param {number} dx @param {number} dy */
  _pan(dx, dy) {
    const { orbit, canvas, aspect } = this.screen, scale = orbit.distance / orbit.focalIn(aspect) / canvas.clientHeight;
    orbit.move([-dx * scale, dy * scale, 0]);
  }

  /** Two fingers: apart zooms, together along pans. @param {number} id @param {{x: number, y: number}} now */
  _pinch(id, now) {
    const before = [...this.down.values()], after = [...this.down.entries()].map(([k, p]) => (k === id ? now : p));
    const apart = (/** @type {{x: number, y: number}[]} */ p) => Math.max(10, Math.hypot(p[0].x - p[1].x, p[0].y - p[1].y));
    this.screen.orbit.zoom(apart(before) / apart(after));
    this._pan((after[0].x + after[1].x - before[0].x - before[1].x) / 2, (after[0].y + after[1].y - before[0].y - before[1].y) / 2);
  }

  /** @param {WheelEvent} event */
  _wheel(event) {
    event.preventDefault();
    const steps = event.deltaY * (event.deltaMode === 1 ? 30 : 1), { orbit } = this.screen;
    if (this.tools.flies()) orbit.move([0, 0, orbit.distance * WHEEL * steps]);
    else orbit.zoom(Math.exp(WHEEL * steps));
    this.screen.change(true);
  }

  /** @param {KeyboardEvent} event @param {boolean} down */
  _key(event, down) {
    if (!down) return void this.held.delete(event.code);
    if (!(event.code in KEYS || event.code in ROLLS) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
    event.preventDefault();
    const first = this.held.size === 0;
    this.held.add(event.code);
    if (first) this._fly(performance.now());
  }

  /** Move as long as keys are held. @param {number} before */
  _fly(before) {
    requestAnimationFrame((now) => {
      if (!this.held.size) return;
      const seconds = Math.min(0.1, Math.max(0, now - before) / 1000), by = FLY * this.screen.orbit.distance * seconds, steps = [0, 0, 0];
      for (const key of this.held) (KEYS[key] ?? []).forEach((v, k) => (steps[k] += v * by));
      for (const key of this.held) this.screen.orbit.roll += (ROLLS[key] ?? 0) * seconds;
      this.screen.orbit.move(steps);
      this.screen.change(true);
      this._fly(now);
    });
  }

  /** @param {number} x pixels @param {number} y @returns {Handle | null} */
  _handleAt(x, y) {
    const { orbit, canvas, aspect } = this.screen;
    let best = null, nearest = NEAR;
    for (const handle of this.tools.handles()) {
      const at = orbit.project(handle.at, aspect);
      const away = at ? Math.hypot(at[0] * canvas.clientWidth - x, at[1] * canvas.clientHeight - y) : Infinity;
      if (away < nearest) [best, nearest] = [handle, away];
    }
    return best;
  }

  /** @param {{x: number, y: number}} now */
  _drag(now) {
    const { orbit, aspect } = this.screen, { handle, start } = this;
    if (!handle || !start) return;
    const ray = (/** @type {{x: number, y: number}} */ p) => orbit.ray(...this._place(p.x, p.y), aspect);
    if (handle.along) handle.to(along(handle, orbit.eye, ray(now)) - along(handle, orbit.eye, ray(start)), [0, 0, 0]);
    else {
      const ahead = orbit.axes[2].map((v) => -v), far = dot(add(handle.at, orbit.eye, -1), ahead);
      const on = (/** @type {number[]} */ d) => d.map((v) => (v * far) / dot(d, ahead));
      handle.to(0, add(on(ray(now)), on(ray(start)), -1));
    }
    this.tools.dragged();
  }
}

/** How far along a handle's line the point is that is nearest to a ray. @param {Handle} handle @param {number[]} eye @param {number[]} d */
function along(handle, eye, d) {
  const a = /** @type {number[]} */ (handle.along), w = add(handle.at, eye, -1), b = dot(a, d);
  return (b * dot(d, w) - dot(a, w)) / Math.max(1e-4, 1 - b * b);
}
