// @ts-check
/** The fast way: outputs of the networks at nodes in every occupied voxel, asked once and kept in an atlas that rays
 * look up. */

import { storage } from "./gpu.js";
import { quads } from "./network.js";
import { voxelsOf } from "./occupancy.js";
import { paced } from "./pace.js";

/** @typedef {import("./render.js").Renderer} Renderer */
/** @typedef {{side: number, bricks: number[], layer: number, capacity: number}} Shape */

/** What the atlas may take, bytes; nodes per axis of a brick, at most and at least. */
const BUDGET = 256e6, MOST = 5, LEAST = 2;
/** Nodes per axis for each change of what the networks read along a voxel. */
const NODES_PER_CHANGE = 2;
/** Bricks of a dispatch at first and at least; how long to go on before a picture, milliseconds. */
const FIRST_BRICKS = 64, LEAST_BRICKS = 16, AT_A_TIME_MS = 150;

export class Bricks {
  /** @param {Renderer} renderer @param {string} head WGSL constants @param {string} exact WGSL that asks the networks */
  constructor(renderer, head, exact) {
    this.renderer = renderer;
    this.head = head;
    this.exact = exact;
    this.outs = quads(renderer.network.outputs);
    this.version = -1;
    /** First brick of each row, -1 without. */
    this.firstOf = new Int32Array(renderer.field.numRows).fill(-1);
    /** Bricks to be made: cell, slot, voxel, brick of each. @type {number[]} */
    this.pending = [];
    this.next = 0;
    this.used = 0;
    this.size = FIRST_BRICKS;
    /** @type {Shape} */ this.shape = { side: 0, bricks: [0, 0, 0], layer: 0, capacity: 0 };
    const { device } = renderer;
    this.part = device.createBuffer({ size: 16, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
    this.sampler = device.createSampler({ magFilter: "linear", minFilter: "linear" });
    const visibility = GPUShaderStage.COMPUTE;
    const buffer = (/** @type {number} */ binding, /** @type {GPUBufferBindingType} */ type) => ({ binding, visibility, buffer: { type } });
    this.looked = device.createBindGroupLayout({
      entries: [buffer(0, "read-only-storage"), buffer(1, "read-only-storage"),
        { binding: 2, visibility, texture: { viewDimension: "3d" } }, { binding: 3, visibility, sampler: {} }],
    });
    this.wanted = device.createBindGroupLayout({ entries: [buffer(0, "uniform"), buffer(1, "read-only-storage")] });
    this.stored = device.createBindGroupLayout({
      entries: [{ binding: 0, visibility, storageTexture: { format: "rgba16float", viewDimension: "3d", access: "write-only" } }],
    });
    // made with the atlas
    /** @type {GPUComputePipeline} */ this.march = /** @type {any} */ (null);
    /** @type {GPUComputePipeline} */ this.bake = /** @type {any} */ (null);
  }

  /** Whether every loaded row is in the atlas. */
  get complete() {
    return this.version === this.renderer.table.version && this.next >= this.pending.length / 4;
  }

  /** What rays look up, after some more bricks were made. @param {AbortSignal} [signal] @returns {Promise<GPUBindGroup | null>} */
  async ready(signal) {
    if (this.version !== this.renderer.table.version) await this._follow();
    const end = performance.now() + AT_A_TIME_MS;
    while (!this.complete && performance.now() < end && !signal?.aborted) await this._bakeSome();
    return signal?.aborted ? null : this.group ?? null;
  }

  /** Follow the table: forget rows that went, want those that came. @returns {Promise<void>} */
  async _follow() {
    const { renderer } = this, { table, field } = renderer, { version } = table;
    const counts = new Map(table.kept.map((row) => [row, voxelsOf(field, row).length]));
    const total = [...counts.values()].reduce((a, b) => a + b, 0);
    const missing = table.kept.filter((row) => this.firstOf[row] < 0).reduce((sum, row) => sum + (counts.get(row) ?? 0), 0);
    const shape = shapeOf(renderer, this.outs, total);
    const wasteful = this.shape.capacity > 2 * shape.capacity || this.used + missing > this.shape.capacity;
    if (!this.atlas || wasteful || shape.side > this.shape.side) await this._newAtlas(shape);
    if (version !== table.version) return this._follow(); // it changed meanwhile
    this._number(table.kept, counts);
    this.version = version;
  }

  /** Give rows their bricks, and say which voxel has which. @param {number[]} rows @param {Map<number, number>} counts */
  _number(rows, counts) {
    const { table, field } = this.renderer, volume = field.sizes.occupancy_voxels ** 3;
    const index = new Uint32Array(Math.max(1, table.count) * volume), waiting = new Set();
    for (let k = this.next; k < this.pending.length / 4; k++) waiting.add(this.pending[4 * k]);
    this.pending = [];
    this.next = 0;
    for (let row = 0; row < field.numRows; row++) if (table.slots[row] < 0) this.firstOf[row] = -1;
    for (const row of rows) {
      if (!table.loaded[row]) continue;
      const fresh = this.firstOf[row] < 0;
      if (fresh) {
        this.firstOf[row] = this.used;
        this.used += counts.get(row) ?? 0;
      }
      const slot = table.slots[row], make = fresh || waiting.has(field.cells[row]);
      voxelsOf(field, row).forEach((voxel, k) => {
        index[slot * volume + voxel] = this.firstOf[row] + k + 1;
        if (make) this.pending.push(field.cells[row], slot, voxel, this.firstOf[row] + k);
      });
    }
    this._write(index);
  }

  /** @param {Uint32Array} index */
  _write(index) {
    const { device, shared } = this.renderer;
    for (const old of [this.brickOf, this.list]) old?.destroy();
    this.brickOf = storage(device, index.byteLength, "the voxels' bricks");
    device.queue.writeBuffer(this.brickOf, 0, index);
    const pending = new Uint32Array(this.pending);
    this.list = storage(device, pending.byteLength, "the bricks");
    device.queue.writeBuffer(this.list, 0, pending);
    const resources = [{ buffer: this.brickOf }, { buffer: shared }, this.view, this.sampler];
    this.group = device.createBindGroup({
      layout: this.looked,
      entries: /** @type {GPUBindGroupEntry[]} */ (resources.map((resource, binding) => ({ binding, resource }))),
    });
  }

  /** An atlas of another shape, empty. @param {Shape} shape */
  async _newAtlas(shape) {
    const { device } = this.renderer, { side, bricks, layer } = shape;
    this.atlas?.destroy();
    this.atlas = device.createTexture({
      size: [bricks[0] * side, bricks[1] * side, layer * this.outs], dimension: "3d", format: "rgba16float",
      usage: GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.TEXTURE_BINDING,
    });
    this.view = this.atlas.createView();
    this.firstOf.fill(-1);
    this.pending = [];
    this.used = this.next = 0;
    await this._programs(shape);
    this.shape = shape;
  }

  /** Programs for an atlas of this shape. @param {Shape} shape */
  async _programs({ side, bricks, layer }) {
    const { renderer } = this, { sources, network } = renderer;
    const where = `
const SIDE: u32 = ${side}u;
const LAYER: u32 = ${layer}u;
fn brick_corner(brick: u32) -> vec3u {
  return SIDE * vec3u(brick % ${bricks[0]}u, brick / ${bricks[0]}u % ${bricks[1]}u, brick / ${bricks[0] * bricks[1]}u);
}
`;
    const march = this.head + where + sources["fast.wgsl"] + network.shadeWgsl() + sources["march.wgsl"];
    this.march = await renderer._pipeline("march", march, [renderer.seen, this.looked]);
    // the part of exact.wgsl that knows places is not needed where there are none
    const asking = this.exact.replace(/^fn outputs_in.*$/m, "");
    this.bake = await renderer._pipeline("bake", asking + where + sources["bake.wgsl"], [this.wanted, renderer.asked, this.stored]);
  }

  /** One dispatch. */
  async _bakeSome() {
    const { renderer } = this, { device } = renderer, { side } = this.shape, begin = performance.now();
    const count = Math.min(this.size, this.pending.length / 4 - this.next), version = renderer.table.version;
    device.queue.writeBuffer(this.part, 0, new Uint32Array([this.next, count, 0, 0]));
    const group = (/** @type {any} */ layout, /** @type {any[]} */ resources) =>
      device.createBindGroup({ layout, entries: resources.map((resource, binding) => ({ binding, resource })) });
    const encoder = device.createCommandEncoder(), pass = encoder.beginComputePass();
    pass.setPipeline(this.bake);
    pass.setBindGroup(0, group(this.wanted, [{ buffer: this.part }, { buffer: this.list }]));
    pass.setBindGroup(1, renderer._askedOf());
    pass.setBindGroup(2, group(this.stored, [this.view]));
    pass.dispatchWorkgroups(Math.ceil((count * side ** 3) / 64));
    pass.end();
    device.queue.submit([encoder.finish()]);
    this.next += count;
    await device.queue.onSubmittedWorkDone();
    if (version !== renderer.table.version) await this._follow();
    const most = Math.floor((65535 * 64) / side ** 3);
    if (count === this.size) this.size = paced(count, performance.now() - begin, LEAST_BRICKS, most);
  }

  destroy() {
    this.atlas?.destroy();
    for (const buffer of [this.part, this.brickOf, this.list]) buffer?.destroy();
  }
}

/** The shape of an atlas for so many bricks: as fine as the networks' grids want it and the budget allows.
 * @param {Renderer} renderer @param {number} outs vectors of a node @param {number} count @returns {Shape} */
function shapeOf(renderer, outs, count) {
  const { sizes, grid } = renderer.field, r = sizes.occupancy_voxels, finest = sizes.hash_base_res * 2 ** (sizes.hash_levels - 1);
  const changes = Math.max((sizes.grid_nodes || 1) - 1, sizes.hash_levels ? finest / Math.min(...grid.counts) : 0, 1) / r;
  const most = renderer.device.limits.maxTextureDimension3D;
  let side = Math.min(MOST, Math.max(LEAST + 1, 1 + Math.ceil(NODES_PER_CHANGE * changes)));
  while (side > LEAST && count * side ** 3 * outs * 8 > BUDGET) side -= 1;
  const deep = Math.max(1, Math.min(Math.floor(most / (outs * side)), Math.ceil(Math.cbrt(count))));
  const wide = Math.max(1, Math.ceil(Math.sqrt(count / deep))), high = Math.max(1, Math.ceil(count / (deep * wide)));
  if (wide * side > most) throw new Error(`this scene has ${count.toLocaleString()} occupied voxels, more than the fast picture takes: keep fewer cells`);
  return { side, bricks: [wide, high, deep], layer: deep * side, capacity: wide * high * deep };
}
