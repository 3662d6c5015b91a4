// @ts-check
/** Pictures of a scene on the graphics card: traced ray by ray, shown on a canvas. */

import { Bricks } from "./brick.js";
import { filled, storage } from "./gpu.js";
import { Network, whyNot } from "./network.js";
import { boundsOf, frameOf } from "./occupancy.js";
import { paced } from "./pace.js";
import { resourceText } from "./loader.js";
import { regionProgram } from "./region_program.js";
import { Table, slotWords } from "./table.js";

/** @typedef {import("./field.js").Field} Field */
/** A camera: to scene (OpenGL axes, by rows), focal length in picture heights. @typedef {{toScene: number[][], focal: number}} Camera */
/** @typedef {{width: number, height: number, output?: string, exact?: boolean, tint?: boolean, leastLight?: number,
 *   signal?: AbortSignal}} How */
/** A traced picture: red, green, blue, opacity of each pixel, then depths. @typedef {{buffer: GPUBuffer, width: number,
 *   height: number, camera: Camera, exact: boolean, output: string}} Picture */

/** Where rays end: part of the light that still gets through. */
export const LEAST_LIGHT = 1e-3;
/** Contracted scenes: distance up to which steps are equal. */
const LINEAR = 2;
/** Rays of a dispatch at first, at least and at most. */
const FIRST_RAYS = 4096, LEAST_RAYS = 1024, MOST_RAYS = 1 << 21;
const GROUP = 64;
/** What `march.wgsl` calls the outputs; depth needs nothing of its own. */
const OUTPUTS = /** @type {Record<string, number>} */ ({ rgb: 0, depth: 0, accumulation: 0, cells: 1, density: 2 });

export class Renderer {
  /** @param {GPUDevice} device @param {Field} field @param {Record<string, string>} sources WGSL by name of file */
  constructor(device, field, sources) {
    this.device = device;
    this.field = field;
    this.sources = sources;
    this.network = new Network(field.sizes);
    this.table = new Table(device, field, this.network);
    this.view = device.createBuffer({ size: 128, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
    this.region = filled(device, regionProgram(field.region), "the region");
    this.shared = filled(device, this.network.packShared(field.shared), "the shared part");
    const entries = field.shared.get("hash_table");
    this.entries = filled(device, entries?.length ? entries : new Float32Array(4), "the shared part's grid");
    this.rays = { exact: FIRST_RAYS, fast: 4 * FIRST_RAYS };
    this.bounds = { low: [0, 0, 0], high: [0, 0, 0] };
    /** Counts up when buffers that a running trace reads are gone. */
    this.generation = 0;
    const { entry, read } = this._entries();
    this.seen = device.createBindGroupLayout({
      entries: [entry(0, "uniform"), entry(1, read), entry(2, read), entry(3, read), entry(4, "storage")],
    });
    this.asked = device.createBindGroupLayout({ entries: [0, 1, 2, 3].map((k) => entry(k, read)) });
    // made by `create`
    /** @type {GPUComputePipeline} */ this.exact = /** @type {any} */ (null);
    /** @type {Bricks} */ this.bricks = /** @type {any} */ (null);
  }

  /** A renderer of a scene; rejects with an error of one line where it cannot be drawn.
   * @param {GPUDevice} device @param {Field} field */
  static async create(device, field) {
    const reason = whyNot(field.sizes);
    if (reason) throw new Error(reason);
    const names = ["waves.wgsl", "exact.wgsl", "march.wgsl", "fast.wgsl", "bake.wgsl"];
    const sources = Object.fromEntries(await Promise.all(names.map(async (name) => [name, await resourceText(name)])));
    const made = new Renderer(device, field, sources), { network } = made, head = made._constants() + sources["waves.wgsl"] + network.wgsl();
    const exact = head + sources["exact.wgsl"] + network.chainWgsl();
    made.exact = await made._pipeline("march", exact + network.shadeWgsl() + sources["march.wgsl"], [made.seen, made.asked]);
    made.bricks = new Bricks(made, head, exact);
    return made;
  }

  _constants() {
    const { sizes, grid } = this.field, frame = frameOf(this.field), { lower, upper, counts } = frame.origin;
    const f = (/** @type {number[]} */ v) => `vec3f(${v.map((x) => Math.fround(x).toExponential()).join(", ")})`;
    const i = (/** @type {number[]} */ v) => `vec3i(${v.join(", ")})`;
    const size = lower.map((low, k) => Math.fround(Math.fround(upper[k]) - Math.fround(low)));
    return `
const BOX_LOW = ${f(lower)};
const BOX_SIZE = ${f(size)};
const BOX_CELLS = ${i(counts)};
const SHIFT = ${i(frame.shift)};
const COUNTS = ${i(grid.counts)};
const VOXELS: i32 = ${sizes.occupancy_voxels};
const SLOT_WORDS: u32 = ${slotWords(sizes.occupancy_voxels)}u;
const CONTRACTED = ${sizes.contraction};
const LINEAR: f32 = ${LINEAR}.0;
`;
  }

  _entries() {
    const visibility = GPUShaderStage.COMPUTE;
    const entry = (/** @type {number} */ binding, /** @type {GPUBufferBindingType} */ type) => ({ binding, visibility, buffer: { type } });
    return { entry, read: /** @type {GPUBufferBindingType} */ ("read-only-storage") };
  }

  /** @param {string} entryPoint @param {string} code @param {GPUBindGroupLayout[]} bindGroupLayouts */
  async _pipeline(entryPoint, code, bindGroupLayouts) {
    const { device } = this, layout = device.createPipelineLayout({ bindGroupLayouts });
    const module = device.createShaderModule({ code });
    const { messages } = await module.getCompilationInfo(), error = messages.find((m) => m.type === "error");
    if (error) throw new Error(`the graphics card's driver refuses "${entryPoint}" at ${error.lineNum}:${error.linePos}: ${error.message}`);
    return device.createComputePipelineAsync({ layout, compute: { module, entryPoint } });
  }

  /** Keep these rows, free the others. @param {Uint8Array} mask (P,) @returns {number[]} rows to be loaded */
  keep(mask) {
    const missing = this.table.keep(mask);
    this.generation += 1;
    this.bounds = boundsOf(this.field, this.table.kept);
    return missing;
  }

  /** Mask what is shown with a region; null: with none. @param {import("./space.js").Region | null} region */
  setRegion(region) {
    const numbers = regionProgram(region);
    if (numbers.byteLength > this.region.size) {
      this.region.destroy();
      this.generation += 1;
      this.region = filled(this.device, numbers, "the region");
    } else this.device.queue.writeBuffer(this.region, 0, /** @type {any} */ (numbers));
  }

  /** Trace a picture; null if it was aborted before its end. @param {Camera} camera @param {How} how
   * @returns {Promise<Picture | null>} */
  async trace(camera, how) {
    const { device } = this, { width, height } = how, exact = how.exact ?? true, output = how.output ?? "rgb";
    const ask = exact ? this._askedOf() : await this.bricks.ready(how.signal);
    if (!ask || how.signal?.aborted) return null;
    const buffer = storage(device, 20 * width * height, "the picture"), view = this._view(camera, how, OUTPUTS[output]);
    const seen = this._group(this.seen, [this.view, this.table.slotOfCell, this.table.slotBits, this.region, buffer]);
    const pipeline = exact ? this.exact : this.bricks.march;
    const done = await this._dispatch(pipeline, [seen, ask], view, width * height, exact ? "exact" : "fast", how.signal);
    if (done) return { buffer, width, height, camera, exact, output };
    buffer.destroy();
    return null;
  }

  /** @param {GPUComputePipeline} pipeline @param {GPUBindGroup[]} groups @param {ArrayBuffer} view @param {number} pixels
   * @param {"exact" | "fast"} kind @param {AbortSignal} [signal] */
  async _dispatch(pipeline, groups, view, pixels, kind, signal) {
    const { device, generation } = this, part = new Uint32Array(view, 112, 4);
    for (let first = 0; first < pixels; ) {
      const rays = Math.min(this.rays[kind], pixels - first), begin = performance.now();
      part[0] = first;
      part[1] = rays;
      device.queue.writeBuffer(this.view, 0, view);
      const encoder = device.createCommandEncoder(), pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      groups.forEach((group, k) => pass.setBindGroup(k, group));
      pass.dispatchWorkgroups(Math.ceil(rays / GROUP));
      pass.end();
      device.queue.submit([encoder.finish()]);
      await device.queue.onSubmittedWorkDone();
      if (rays === this.rays[kind]) this.rays[kind] = paced(rays, performance.now() - begin, LEAST_RAYS, MOST_RAYS);
      first += rays;
      if (signal?.aborted || generation !== this.generation) return false;
    }
    return true;
  }

  /** @param {Camera} camera @param {How} how @param {number} output */
  _view(camera, how, output) {
    const { scene } = this.field, m = camera.toScene, axis = (/** @type {number} */ k) => [m[0][k], m[1][k], m[2][k]];
    const numbers = new Float32Array(32);
    numbers.set([...axis(0), how.width, ...axis(1), how.height, ...axis(2), camera.focal * how.height]);
    numbers.set([...axis(3), how.leastLight ?? LEAST_LIGHT, ...this.bounds.low, scene.near, ...this.bounds.high, scene.far], 12);
    numbers.set([...scene.background, scene.step], 24);
    new Uint32Array(numbers.buffer, 112).set([0, 0, output, how.tint ? 1 : 0]);
    return numbers.buffer;
  }

  _askedOf() {
    return this._group(this.asked, [this.table.rows, this.table.grids, this.shared, this.entries]);
  }

  /** @param {GPUBindGroupLayout} layout @param {GPUBuffer[]} buffers */
  _group(layout, buffers) {
    const entries = buffers.map((buffer, binding) => ({ binding, resource: { buffer } }));
    return this.device.createBindGroup({ layout, entries });
  }

  /** A picture's numbers. @param {Picture} picture
   * @returns {Promise<{rgba: Float32Array, depth: Float32Array}>} (h w 4) and (h w) */
  async read(picture) {
    const { device } = this, size = picture.buffer.size, pixels = picture.width * picture.height;
    const copy = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(picture.buffer, 0, copy, 0, size);
    device.queue.submit([encoder.finish()]);
    await copy.mapAsync(GPUMapMode.READ);
    const numbers = new Float32Array(copy.getMappedRange().slice(0));
    copy.destroy();
    return { rgba: numbers.subarray(0, 4 * pixels), depth: numbers.subarray(4 * pixels, 5 * pixels) };
  }

  destroy() {
    this.table.destroy();
    this.bricks.destroy();
    for (const buffer of [this.view, this.region, this.shared, this.entries]) buffer.destroy();
  }
}
