// What bricks say of a place: the networks' outputs, looked up between nodes.

@group(1) @binding(0) var<storage, read> brick_of: array<u32>;  // of each slot's voxels, 1 more than its brick; 0: none yet
@group(1) @binding(1) var<storage, read> shared_weights: array<vec4f>;
@group(1) @binding(2) var atlas: texture_3d<f32>;
@group(1) @binding(3) var between: sampler;

fn outputs_in(place: Place) -> Outputs {
  var out: Outputs;
  out[0] = vec4f(-1e4);
  let r = u32(VOXELS);
  let brick = brick_of[place.slot * r * r * r + place.voxel];
  if (brick == 0u) { return out; }
  let voxel = vec3f(vec3u(place.voxel / (r * r), place.voxel / r % r, place.voxel % r));
  let inner = clamp(place.local * f32(VOXELS) - voxel, vec3f(0.0), vec3f(1.0));
  let texel = vec3f(brick_corner(brick - 1u)) + 0.5 + inner * f32(SIDE - 1u);
  let size = vec3f(textureDimensions(atlas));
  out[0] = textureSampleLevel(atlas, between, texel / size, 0.0);
  if (exp(min(out[0].x + DENSITY_BIAS, 12.0)) * view.background.w < 1e-5 && !CONTRACTED) { return out; }
  for (var k = 1u; k < OUT; k++) {
    out[k] = textureSampleLevel(atlas, between, (texel + vec3f(0.0, 0.0, f32(k * LAYER))) / size, 0.0);
  }
  return out;
}
