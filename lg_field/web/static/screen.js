// @ts-check
/** The canvas: what is drawn when. While something moves, a quick picture; once it rests, the exact one. */

import { POINT } from "./wire.js";
import { resourceText } from "./loader.js";

/** @typedef {import("./render.js").Renderer} Renderer */
/** @typedef {import("./render.js").Picture} Picture */
/** @typedef {import("./camera.js").Orbit} Orbit */

/** How long a picture may take while something moves, milliseconds; its smallest part of the canvas's width. */
const MOVING_MS = 70, SMALLEST = 0.08;
/** How long nothing moves before the exact picture begins, milliseconds. */
const REST_MS = 180;
/** Part of a line's opacity behind what is seen. */
const HIDDEN = 0.25;

export class Screen {
  /** @param {HTMLCanvasElement} canvas @param {GPUDevice} device @param {Renderer} renderer @param {Orbit} orbit */
  constructor(canvas, device, renderer, orbit) {
    this.canvas = canvas;
    this.device = device;
    this.renderer = renderer;
    this.orbit = orbit;
    this.output = "rgb";
    /** "auto": quick while moving, exact at rest; "fast", "exact": always. */
    this.quality = "auto";
    /** Numbers of lines over the picture. @type {Float32Array} */ this.lines = new Float32Array();
    /** Milliseconds a pixel takes, by way. */ this.cost = { fast: 1e-4, exact: 1e-3 };
    /** @type {Picture | null} */ this.picture = null;
    this.moved = 0;
    this.dirty = true;
    this.sharp = false;
    this.stopped = false;
    /** @type {() => void} */ this.wake = () => {};
    /** Called with what was drawn. @type {(picture: Picture, sharp: boolean) => void} */ this.onPicture = () => {};
    this.context = /** @type {GPUCanvasContext} */ (canvas.getContext("webgpu"));
    this.format = navigator.gpu.getPreferredCanvasFormat();
    // made by `take`
    /** @type {GPUBindGroupLayout} */ this.layout = /** @type {any} */ (null);
    /** @type {GPURenderPipeline} */ this.whole = /** @type {any} */ (null);
    /** @type {GPURenderPipeline} */ this.wires = /** @type {any} */ (null);
    /** @type {GPUBuffer} */ this.show = /** @type {any} */ (null);
    /** @type {GPUBuffer | undefined} */ this.buffer = undefined;
  }

  /** @param {HTMLCanvasElement} canvas @param {GPUDevice} device @param {Renderer} renderer @param {Orbit} orbit */
  static async create(canvas, device, renderer, orbit) {
    const made = new Screen(canvas, device, renderer, orbit);
    await made.take(device, renderer);
    return made;
  }

  /** Draw on this card from now on. @param {GPUDevice} device @param {Renderer} renderer */
  async take(device, renderer) {
    const module = device.createShaderModule({ code: await resourceText("present.wgsl") });
    const visibility = GPUShaderStage.FRAGMENT | GPUShaderStage.VERTEX;
    this.context.configure({ device, format: this.format, alphaMode: "opaque" });
    this.layout = device.createBindGroupLayout({ entries: [
      { binding: 0, visibility, buffer: { type: "uniform" } }, { binding: 1, visibility, buffer: { type: "read-only-storage" } }] });
    const layout = device.createPipelineLayout({ bindGroupLayouts: [this.layout] }), targets = [{ format: this.format }];
    this.whole = await device.createRenderPipelineAsync({ layout, vertex: { module, entryPoint: "whole" },
      fragment: { module, entryPoint: "shown", targets } });
    /** @type {GPUBlendComponent} */ const over = { srcFactor: "one", dstFactor: "one-minus-src-alpha", operation: "add" };
    this.wires = await device.createRenderPipelineAsync({ layout, primitive: { topology: "line-list" },
      vertex: { module, entryPoint: "line", buffers: [{ arrayStride: 4 * POINT, attributes: [
        { shaderLocation: 0, offset: 0, format: "float32x3" }, { shaderLocation: 1, offset: 12, format: "float32x4" }] }] },
      fragment: { module, entryPoint: "drawn", targets: [{ format: this.format, blend: { color: over, alpha: over } }] } });
    this.show = device.createBuffer({ size: 80, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
    Object.assign(this, { device, renderer, picture: null, buffer: undefined, stopped: false, sharp: false, dirty: true });
  }

  get aspect() { return this.canvas.width / this.canvas.height; }

  /** Something else is to be seen. @param {boolean} moving whether the visitor moves something */
  change(moving = false) {
    if (moving) this.moved = performance.now();
    this.dirty = true;
    document.body.dataset.picture = "old";
    this.abort?.abort();
    this.wake();
  }

  /** Other lines over the same picture. @param {number[]} lines */
  draw(lines) {
    this.lines = new Float32Array(lines);
    if (this.picture) this.present(this.picture);
  }

  stop() {
    this.stopped = true;
    this.abort?.abort();
    this.wake();
  }

  /** Draw until stopped. */
  async run() {
    while (!this.stopped) {
      if (this.dirty) await this._quick();
      else if (!this.sharp) await this._rest();
      else if (this.quality !== "exact" && !this.renderer.bricks.complete) await this._prepare();
      else await new Promise((resolve) => (this.wake = () => resolve(undefined)));
    }
  }

  /** Canvas as large as it is shown, with the last picture on it: another size clears it. */
  fit() {
    const ratio = Math.min(2, globalThis.devicePixelRatio || 1), { canvas } = this;
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio)), height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width === width && canvas.height === height) return;
    Object.assign(canvas, { width, height });
    if (this.picture) this.present(this.picture);
  }

  /** A quick picture of what is there now. */
  async _quick() {
    this.dirty = this.sharp = false;
    this.fit();
    const exact = this.quality === "exact" || !this.renderer.bricks.complete, way = exact ? "exact" : "fast";
    const { width, height } = this.canvas, part = Math.sqrt(MOVING_MS / (this.cost[way] * width * height));
    const scale = Math.min(1, Math.max(SMALLEST, part));
    const picture = await this._trace(Math.ceil(width * scale), Math.ceil(height * scale), exact, true);
    if (!picture) return;
    this._take(picture, scale >= 1 && exact);
    await new Promise((resolve) => requestAnimationFrame(resolve));
  }

  /** The best picture, once nothing moves. */
  async _rest() {
    const rest = this.moved + REST_MS - performance.now();
    if (rest > 0) {
      await new Promise((resolve) => {
        setTimeout(resolve, rest);
        this.wake = () => resolve(undefined);
      });
      return;
    }
    const picture = await this._trace(this.canvas.width, this.canvas.height, this.quality !== "fast", false);
    if (picture) this._take(picture, this.quality !== "fast" || this.renderer.bricks.complete);
  }

  /** Some more bricks, while nothing else is to be done. */
  async _prepare() {
    this.abort = new AbortController();
    await this.renderer.bricks.ready(this.abort.signal);
    await new Promise((resolve) => setTimeout(resolve, 0));
  }

  /** @param {number} width @param {number} height @param {boolean} exact @param {boolean} quick drawn to its end, so that
   * something is seen while the visitor moves, or cells come, all the time */
  async _trace(width, height, exact, quick) {
    this.abort = new AbortController();
    const begin = performance.now();
    const picture = await this.renderer.trace(this.orbit.camera(this.aspect), { width, height, exact, output: this.output, tint: true,
      signal: quick ? undefined : this.abort.signal });
    if (picture) this.cost[exact ? "exact" : "fast"] = (performance.now() - begin) / (width * height);
    return picture;
  }

  /** @param {Picture} picture @param {boolean} sharp unless something else is to be seen by now */
  _take(picture, sharp) {
    if (this.stopped) return;
    this.picture?.buffer.destroy();
    this.picture = picture;
    this.sharp = sharp && !this.dirty;
    this.present(picture);
    this.onPicture(picture, this.sharp);
  }

  /** Put a picture on the canvas. @param {Picture} picture @param {boolean} [wires] */
  present(picture, wires = true) {
    const { device } = this, [right, up, back] = this.orbit.axes, { low, high } = this.renderer.bounds;
    const far = Math.hypot(...low.map((v, k) => Math.max(Math.abs(v - this.orbit.eye[k]), Math.abs(high[k] - this.orbit.eye[k]))));
    const near = Math.hypot(...low.map((v, k) => Math.max(0, v - this.orbit.eye[k], this.orbit.eye[k] - high[k])));
    const depths = picture.output === "depth" ? 1 : 0;
    device.queue.writeBuffer(this.show, 0, new Float32Array([...right, picture.width, ...up, picture.height, ...back, this.orbit.focalIn(this.aspect),
      ...this.orbit.eye, this.aspect, near, Math.min(far, near + 20), depths, HIDDEN]));
    const group = device.createBindGroup({ layout: this.layout,
      entries: [{ binding: 0, resource: { buffer: this.show } }, { binding: 1, resource: { buffer: picture.buffer } }] });
    const encoder = device.createCommandEncoder(), view = this.context.getCurrentTexture().createView();
    const pass = encoder.beginRenderPass({ colorAttachments: [{ view, loadOp: "clear", storeOp: "store" }] });
    pass.setBindGroup(0, group);
    pass.setPipeline(this.whole);
    pass.draw(3);
    if (wires && this.lines.length) {
      pass.setPipeline(this.wires);
      pass.setVertexBuffer(0, this._lineBuffer());
      pass.draw(this.lines.length / POINT);
    }
    pass.end();
    device.queue.submit([encoder.finish()]);
  }

  _lineBuffer() {
    if (!this.buffer || this.buffer.size < this.lines.byteLength) {
      this.buffer?.destroy();
      this.buffer = this.device.createBuffer({ size: 2 * this.lines.byteLength, usage: GPUBufferUsage.VERTEX | GPUBufferUsage.COPY_DST });
    }
    this.device.queue.writeBuffer(this.buffer, 0, this.lines);
    return this.buffer;
  }

  /** The picture as a PNG, without lines. @returns {Promise<Blob>} */
  async screenshot() {
    const { picture } = this;
    if (!picture) throw new Error("there is no picture yet");
    this.present(picture, false);
    const blob = await new Promise((resolve) => this.canvas.toBlob(resolve, "image/png"));
    this.present(picture);
    if (!blob) throw new Error("the browser gave no picture");
    return blob;
  }

  /** Row of the cell that is seen at a place of the canvas, -1 where nothing is. @param {number} x 0 to 1 @param {number} y */
  async rowAt(x, y) {
    const { renderer, orbit } = this, d = orbit.ray(x, y, this.aspect), side = orbit.axes[0];
    const toScene = [0, 1, 2].map((k) => [side[k], 0, -d[k], orbit.eye[k]]);
    const picture = await renderer.trace({ toScene: [...toScene, [0, 0, 0, 1]], focal: 1 }, { width: 1, height: 1 });
    if (!picture) return -1;
    const { rgba, depth } = await renderer.read(picture);
    picture.buffer.destroy();
    if (rgba[3] < 0.02) return -1;
    for (let k = 0; k < 21; k++) {  // the mean distance may lie a little beside what is seen
      const t = depth[0] + (k % 2 ? 1 : -1) * Math.ceil(k / 2) * renderer.field.scene.step;
      const row = renderer.field.rowOfCell(renderer.field.frame.locate(orbit.eye.map((v, a) => v + t * d[a])));
      if (row >= 0 && renderer.table.loaded[row]) return row;
    }
    return -1;
  }
}
