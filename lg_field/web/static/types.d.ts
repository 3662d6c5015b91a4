// Types that the page's modules share. Nothing here runs.

/** What a scene is read from. `url` is relative to the page, `ranges` what is known to be read of it at once; `bytes` is a
 * whole file in memory. */
export type Source = { url: string; ranges?: [number, number][] } | { bytes: Uint8Array; name?: string };

export type Vec3 = [number, number, number];
/** By rows, as in the file. */
export type Matrix4 = number[][];

/** One tensor of the file. */
export interface Entry {
  /** "F64" | "F32" | "F16" | "BF16" | "I64" | "U8" */
  dtype: string;
  shape: number[];
  /** First byte, counted from the start of the file. */
  start: number;
  /** Bytes in all. */
  bytes: number;
  /** Bytes of one line along the first axis. */
  rowBytes: number;
}

/** `RadianceSizes` of the file, older files' missing entries filled in. */
export interface Sizes {
  network: "local-global" | "per-partition" | "global";
  local_width: number;
  global_width: number;
  hidden_layers: number;
  activation: string;
  w0: number;
  merge: "concat" | "add";
  local_frequencies: number;
  global_frequencies: number;
  grid_nodes: number;
  grid_features: number;
  global_reads_grid: boolean;
  hash_levels: number;
  hash_features: number;
  hash_base_res: number;
  log2_hashmap_size: number;
  color_features: number;
  color_width: number;
  appearance_features: number;
  occupancy_voxels: number;
  contraction: boolean;
  density_bias: number;
  contracted_density: boolean;
  /** [] or lower and upper corner of the box that unit coordinates refer to. */
  frame: number[];
}

/** What the file says of its scene (`lg_field.radiance.scene.Scene`). */
export interface SceneInfo {
  scene_to_world: Matrix4;
  background: Vec3;
  near: number;
  far: number;
  step: number;
  /** Camera to scene (OpenGL axes), null without one. */
  camera: Matrix4 | null;
  /** Focal length in picture heights. */
  focal: number;
  up: Vec3;
  viewpoints: Vec3[];
}

/** Rows that arrived: their numbers, and their values as float32, one line a row, in that order. */
export interface Rows {
  /** (n,) row numbers (0..numRows-1), as in `field.cells`. */
  rows: Int32Array;
  /** (n * K) weights of the cells' sub-networks. */
  local: Float32Array;
  /** (n * R^3 F) feature grids. */
  features: Float32Array;
}

/** A camera of the site's data. */
export interface SiteCamera {
  name: string;
  /** Camera to scene, by rows. */
  camera: Matrix4;
  /** Focal length in heights of a picture, in widths of one that is narrower than high. */
  focal: number;
}

/** What `lg-field publish` writes into the page, as JSON in the element with the id "site". */
export interface Site {
  title: string;
  description: string;
  /** Address of the field file, relative to the page; of a one-file page its name. */
  field: string;
  /** Bytes of the field file. */
  bytes: number;
  /** What a page reads of it before any rows: from a byte to before another one. */
  ranges: [number, number][];
  /** A still picture beside the page, for browsers without WebGPU; null without one. Use `resourceUrl(still)`. */
  still: string | null;
  /** First camera; null = the scene's own. */
  camera: SiteCamera | null;
  /** Preset views. */
  views: SiteCamera[];
  /** Camera path: cameras one after the other, `seconds` in all; null without one. */
  path: { seconds: number; cameras: SiteCamera[] } | null;
}
