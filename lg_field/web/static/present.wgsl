// A traced picture on the canvas, and lines over it.

struct Show {
  right: vec4f,  // axes of the camera that looks now; w: width and height of the picture, focal length in heights
  up: vec4f,
  back: vec4f,
  eye: vec4f,    // w: width over height of the canvas
  depths: vec4f, // nearest and farthest distance that are told apart; 1: distances are shown; part of a line that is hidden
}

@group(0) @binding(0) var<uniform> show: Show;
@group(0) @binding(1) var<storage, read> picture: array<f32>;

struct Corner { @builtin(position) at: vec4f, @location(0) uv: vec2f }

@vertex fn whole(@builtin(vertex_index) k: u32) -> Corner {
  let uv = vec2f(f32((k << 1u) & 2u), f32(k & 2u));
  return Corner(vec4f(uv.x * 2.0 - 1.0, 1.0 - uv.y * 2.0, 0.0, 1.0), uv);
}

fn pixel_at(uv: vec2f) -> u32 {
  let size = vec2u(u32(show.right.w), u32(show.up.w));
  let p = min(vec2u(clamp(uv, vec2f(0.0), vec2f(1.0)) * vec2f(size)), size - 1u);
  return p.y * size.x + p.x;
}

fn depth_at(pixel: u32) -> f32 { return picture[4u * u32(show.right.w) * u32(show.up.w) + pixel]; }

// From near to far, dark blue to yellow.
fn ramp(x: f32) -> vec3f {
  let t = clamp(x, 0.0, 1.0) * 4.0;
  var a = vec3f(0.267, 0.004, 0.329);
  var b = vec3f(0.231, 0.322, 0.545);
  if (t > 3.0) { a = vec3f(0.365, 0.784, 0.388); b = vec3f(0.992, 0.906, 0.145); }
  else if (t > 2.0) { a = vec3f(0.129, 0.565, 0.553); b = vec3f(0.365, 0.784, 0.388); }
  else if (t > 1.0) { a = vec3f(0.231, 0.322, 0.545); b = vec3f(0.129, 0.565, 0.553); }
  return mix(a, b, t - min(floor(t), 3.0));
}

fn color_of(pixel: u32) -> vec3f {
  if (show.depths.z > 0.0) {
    if (picture[4u * pixel + 3u] <= 0.5) { return vec3f(0.0); }
    return ramp(1.0 - (depth_at(pixel) - show.depths.x) / max(show.depths.y - show.depths.x, 1e-6));
  }
  return vec3f(picture[4u * pixel], picture[4u * pixel + 1u], picture[4u * pixel + 2u]);
}

@fragment fn shown(in: Corner) -> @location(0) vec4f {
  // between pixels where the canvas has more of them than the picture
  let size = vec2f(show.right.w, show.up.w);
  let place = in.uv * size - 0.5;
  let low = floor(place);
  let part = clamp(place - low, vec2f(0.0), vec2f(1.0));
  let a = color_of(pixel_at((low + vec2f(0.5, 0.5)) / size));
  let b = color_of(pixel_at((low + vec2f(1.5, 0.5)) / size));
  let c = color_of(pixel_at((low + vec2f(0.5, 1.5)) / size));
  let d = color_of(pixel_at((low + vec2f(1.5, 1.5)) / size));
  return vec4f(mix(mix(a, b, part.x), mix(c, d, part.x), part.y), 1.0);
}

struct Point { @builtin(position) at: vec4f, @location(0) color: vec4f, @location(1) far: vec3f }

@vertex fn line(@location(0) p: vec3f, @location(1) color: vec4f) -> Point {
  let v = p - show.eye.xyz;
  let x = dot(v, show.right.xyz);
  let y = dot(v, show.up.xyz);
  let z = -dot(v, show.back.xyz);
  let f = 2.0 * show.back.w;
  // depth is not tested; what is behind the camera is cut off by z < 0
  return Point(vec4f(x * f / show.eye.w, y * f, z * 0.5, z), color, v);
}

@fragment fn drawn(in: Point) -> @location(0) vec4f {
  let v = in.far;
  let z = -dot(v, show.back.xyz);
  let f = show.back.w;
  let uv = vec2f(0.5 + dot(v, show.right.xyz) * f / show.eye.w / z, 0.5 - dot(v, show.up.xyz) * f / z);
  let hidden = length(v) > depth_at(pixel_at(uv));
  let alpha = in.color.w * select(1.0, show.depths.w, hidden);
  return vec4f(in.color.xyz * alpha, alpha);
}
