// sin(pi t) for any t, to about 1e-7 of the whole: what a card's own sine does not promise far from zero.
fn sines(t: vec4f) -> vec4f {
  let r = t - 2.0 * round(0.5 * t);
  let x = select(r, sign(r) - r, abs(r) > vec4f(0.5));
  let q = x * x;
  return x * (3.14159265358979 + q * (-5.16771278004997 + q * (2.55016403987734 + q * (-0.599264529320792
    + q * (0.0821458866111282 + q * -0.00737043094571435)))));
}

fn sines3(t: vec3f) -> vec3f { return sines(vec4f(t, 0.0)).xyz; }
fn relu(x: vec4f) -> vec4f { return max(x, vec4f(0.0)); }
