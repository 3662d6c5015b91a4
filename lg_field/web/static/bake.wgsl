// What the networks say at the nodes of bricks: a brick is an occupied voxel, SIDE nodes per axis with its borders.
// A node's outputs lie one layer of the atlas after the other, LAYER apart along z.

struct Part { first: u32, count: u32, ahead: vec2u }

@group(0) @binding(0) var<uniform> part: Part;
@group(0) @binding(1) var<storage, read> wanted: array<vec4u>;  // cell, slot, voxel in the cell, brick
@group(2) @binding(0) var made: texture_storage_3d<rgba16float, write>;

@compute @workgroup_size(64)
fn bake(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= part.count * SIDE * SIDE * SIDE) { return; }
  let brick = wanted[part.first + id.x / (SIDE * SIDE * SIDE)];
  let number = id.x % (SIDE * SIDE * SIDE);
  let node = vec3u(number / (SIDE * SIDE), number / SIDE % SIDE, number % SIDE);
  let r = u32(VOXELS);
  let voxel = vec3u(brick.z / (r * r), brick.z / r % r, brick.z % r);
  let local = (vec3f(voxel) + vec3f(node) / f32(SIDE - 1u)) / f32(r);
  let counts = vec3u(COUNTS);
  let cell = vec3i(vec3u(brick.x / (counts.y * counts.z), brick.x / counts.z % counts.y, brick.x % counts.z));
  let unit = (vec3f(cell - SHIFT) + local) / vec3f(BOX_CELLS);
  let outputs = outputs_at(unit, local, brick.y);
  let corner = brick_corner(brick.w) + node;
  for (var k = 0u; k < OUT; k++) {
    textureStore(made, corner + vec3u(0u, 0u, k * LAYER), clamp(outputs[k], vec4f(-6e4), vec4f(6e4)));
  }
}
