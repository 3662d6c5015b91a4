// Rays through the occupied voxels of kept cells: one ray an invocation, front to back, until nothing more can be seen.
//
// Steps are those of `lg-field render`: step k begins at s = near + k * step in marching coordinates (distance; in
// contracted scenes beyond `linear` disparity) and counts if its middle lies in an occupied voxel of a kept cell.
// Lengths are scene units. `outputs_at` and `shade` come from the scene's networks, or from bricks made of them.

struct View {
  right: vec4f,       // axes of the camera in scene space; w: width, height in pixels, focal length in pixels
  up: vec4f,
  back: vec4f,
  eye: vec4f,         // w: part of the light at which a ray ends
  low: vec4f,         // box around what is occupied; w: near
  high: vec4f,        // w: far
  background: vec4f,  // w: length of a step
  part: vec4u,        // first ray of this dispatch, rays of it, what is shown (0 colour, 1 cells, 2 density), 1: selected cells are tinted
}

struct Place {
  unit: vec3f,
  local: vec3f,    // in its cell
  slot: u32,       // of its cell's row
  kept: bool,      // in an occupied voxel of a row, and in the region
  nothing: bool,   // its whole cell has no row
  cell: vec3i,     // of its voxel
  voxel: u32,      // in the cell
}

@group(0) @binding(0) var<uniform> view: View;
@group(0) @binding(1) var<storage, read> slot_of_cell: array<i32>;  // -1: no row here
@group(0) @binding(2) var<storage, read> slots: array<u32>;         // of each: colour and flags, then bits of voxels
@group(0) @binding(3) var<storage, read> region: array<vec4f>;      // steps of the region's program
@group(0) @binding(4) var<storage, read_write> picture: array<f32>;  // of each pixel red, green, blue, opacity; then depths

fn place_of(position: vec3f) -> Place {
  var x = position;
  if (CONTRACTED) {
    let norm = max(max(abs(x.x), abs(x.y)), max(abs(x.z), 1.0));
    x = x * ((2.0 - 1.0 / norm) / norm);
  }
  let unit = (x - BOX_LOW) / BOX_SIZE;
  let place = unit * vec3f(BOX_CELLS) + vec3f(SHIFT);
  let size = COUNTS * VOXELS;
  let voxel = vec3i(clamp(place * f32(VOXELS), vec3f(0.0), vec3f(size - 1)));
  let owner = voxel / VOXELS;
  let inside = CONTRACTED || (all(place >= vec3f(0.0)) && all(place <= vec3f(COUNTS)));
  var found = Place(unit, vec3f(0.0), 0u, false, false, owner, 0u);
  let slot = slot_of_cell[(owner.x * COUNTS.y + owner.y) * COUNTS.z + owner.z];
  if (slot < 0 || !inside) {
    found.nothing = inside;
    return found;
  }
  let inner = voxel - owner * VOXELS;
  let bit = u32((inner.x * VOXELS + inner.y) * VOXELS + inner.z);
  let word = slots[u32(slot) * SLOT_WORDS + 1u + (bit >> 5u)];
  if (((word >> (bit & 31u)) & 1u) == 0u) { return found; }
  var index = vec3i(floor(unit * vec3f(BOX_CELLS))) + SHIFT;  // the cell that owns the point
  index = select(index, COUNTS - 1, unit * vec3f(BOX_CELLS) + vec3f(SHIFT) == vec3f(COUNTS));
  if (any(index < vec3i(0)) || any(index >= COUNTS)) { return found; }
  let row = slot_of_cell[(index.x * COUNTS.y + index.y) * COUNTS.z + index.z];
  if (row < 0) { return found; }
  found.kept = in_region(position);
  found.voxel = bit;
  found.slot = u32(row);
  found.local = unit * vec3f(BOX_CELLS) - vec3f(index - SHIFT);
  return found;
}

fn in_region(p: vec3f) -> bool {
  var stack = 1u;
  for (var k = 0u; k < u32(region[0].x); k++) {
    let at = 1u + 5u * k;
    let op = u32(region[at].w);
    let a = region[at].xyz;
    let b = region[at + 1u];
    if (op == 1u) { stack = (stack << 1u) | u32(all(p >= a) && all(p < b.xyz)); }
    else if (op == 2u) { stack = (stack << 1u) | u32(length(p - a) <= b.x); }
    else if (op == 3u) { stack = (stack << 1u) | u32(dot(p, a) + b.x >= 0.0); }
    else if (op == 4u) {
      let inner = abs(mat3x3f(region[at + 2u].xyz, region[at + 3u].xyz, region[at + 4u].xyz) * (p - a));
      stack = (stack << 1u) | u32(all(inner <= b.xyz));
    }
    else if (op == 5u) { stack = (stack << 1u) | u32(in_voxels(p, a, b, region[at + 2u])); }
    else if (op == 6u) { stack = stack ^ 1u; }
    else if (op == 7u) { stack = (stack >> 1u) & (stack | 4294967294u); }
    else { stack = (stack >> 1u) | (stack & 1u); }
  }
  return (stack & 1u) == 1u;
}

// A set of voxels: counts per axis, lower corner and whether they divide contracted space, size of a voxel and the
// place of their bits in the program, 16 in each number.
fn in_voxels(p: vec3f, counts: vec3f, lower: vec4f, size: vec4f) -> bool {
  var x = p;
  if (lower.w > 0.0) {
    let norm = max(max(abs(x.x), abs(x.y)), max(abs(x.z), 1.0));
    x = x * ((2.0 - 1.0 / norm) / norm);
  }
  let index = floor((x - lower.xyz) / size.xyz);
  if (any(index < vec3f(0.0)) || any(index >= counts)) { return false; }
  let number = (u32(index.x) * u32(counts.y) + u32(index.y)) * u32(counts.z) + u32(index.z);
  let word = u32(region[u32(size.w) + (number >> 6u)][(number >> 4u) & 3u]);
  return ((word >> (15u - (number & 15u))) & 1u) == 1u;
}

fn from_steps(s: f32) -> f32 {
  if (!CONTRACTED || s <= LINEAR) { return s; }
  return LINEAR / max(2.0 - s / LINEAR, 1e-4);
}

fn to_steps(t: f32) -> f32 {
  if (!CONTRACTED || t <= LINEAR) { return t; }
  return LINEAR * (2.0 - LINEAR / max(t, LINEAR));
}

fn harmonics(d: vec3f) -> array<f32, 9> {
  return array<f32, 9>(
    0.28209479177387814, 0.4886025119029199 * d.y, 0.4886025119029199 * d.z, 0.4886025119029199 * d.x,
    1.0925484305920792 * d.x * d.y, 1.0925484305920792 * d.y * d.z, 0.31539156525252005 * (3.0 * d.z * d.z - 1.0),
    1.0925484305920792 * d.x * d.z, 0.5462742152960396 * (d.x * d.x - d.y * d.y));
}

// Where a ray leaves a cell.
fn exit_of(cell: vec3i, o: vec3f, d: vec3f) -> f32 {
  let size = BOX_SIZE / vec3f(BOX_CELLS);
  let low = BOX_LOW + vec3f(cell - SHIFT) * size;
  let ends = (select(low, low + size, d > vec3f(0.0)) - o) / d;
  return min(ends.x, min(ends.y, ends.z));
}

@compute @workgroup_size(64)
fn march(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= view.part.y) { return; }
  let ray = view.part.x + id.x;
  let width = u32(view.right.w);
  let pixel = vec2f(f32(ray % width), f32(ray / width)) + 0.5 - 0.5 * vec2f(view.right.w, view.up.w);
  let d = normalize(view.right.xyz * (pixel.x / view.back.w) - view.up.xyz * (pixel.y / view.back.w) - view.back.xyz);
  let o = view.eye.xyz;
  var near = view.low.w;
  var far = view.high.w;
  if (!CONTRACTED) {
    let safe = select(d, vec3f(1e-9), abs(d) < vec3f(1e-9));
    let a = (view.low.xyz - o) / safe;
    let b = (view.high.xyz - o) / safe;
    let first = min(a, b);
    let last = max(a, b);
    near = max(near, max(max(first.x, max(first.y, first.z)), 0.0));
    far = min(far, min(last.x, min(last.y, last.z)));
  }
  near = to_steps(near);
  far = to_steps(far);
  let step = view.background.w;
  let y = harmonics(d);
  // the densest place may lie behind what can be seen
  let limit = select(-log(max(view.eye.w, 1e-30)), 1e30, view.part.z == 2u);
  var densest = 0.0;
  var passed = 0.0;
  var rgb = vec3f(0.0);
  var opacity = 0.0;
  var depth = 0.0;
  var k = 0;
  loop {
    let s = near + f32(k) * step;
    if (!(s + 0.5 * step < far) || passed >= limit) { break; }
    let begin = from_steps(max(s, 0.0));
    let end = from_steps(max(s, 0.0) + step);
    let place = place_of(o + d * (0.5 * (begin + end)));
    if (place.kept) {
      let outputs = outputs_in(place);
      let density = exp(min(outputs[0].x + DENSITY_BIAS, 12.0));
      let thickness = density * (end - begin);
      densest = max(densest, density);
      let weight = exp(-passed) * absorbed(thickness);
      if (view.part.z == 1u) {
        rgb += weight * unpack4x8unorm(slots[place.slot * SLOT_WORDS]).xyz;
      } else {
        rgb += weight * tinted(shade(outputs, y), place.slot);
      }
      opacity += weight;
      depth += weight * 0.5 * (begin + end);
      passed += thickness;
    } else if (!CONTRACTED && place.nothing) {
      let leaves = floor((exit_of(place.cell, o, d) - near) / step - 0.5);
      k = max(k, i32(min(leaves, 1e9)) - 1);
    }
    k += 1;
  }
  if (opacity > 1e-3) { depth = depth / max(opacity, 1e-6); } else { depth = view.high.w; }
  if (view.part.z == 2u) { rgb = vec3f(absorbed(densest * step)); }
  let behind = select(view.background.xyz * (1.0 - opacity), vec3f(0.0), view.part.z >= 1u);
  let seen = clamp(rgb + behind, vec3f(0.0), vec3f(1.0));
  picture[4u * ray] = seen.x;
  picture[4u * ray + 1u] = seen.y;
  picture[4u * ray + 2u] = seen.z;
  picture[4u * ray + 3u] = opacity;
  picture[4u * width * u32(view.up.w) + ray] = depth;
}

// 1 - exp(-x), also of small x.
fn absorbed(x: f32) -> f32 {
  return select(1.0 - exp(-x), x * (1.0 - 0.5 * x), x < 1e-3);
}

fn tinted(color: vec3f, slot: u32) -> vec3f {
  if (view.part.w == 0u || (slots[slot * SLOT_WORDS] >> 24u) == 0u) { return color; }
  return mix(color, vec3f(1.0, 0.55, 0.1), 0.55);
}
