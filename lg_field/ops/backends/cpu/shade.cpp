// Density and colour of samples from what the chain says of them, sorted by row; and backward.
//
//   density = exp(min(o_0 + bias, 12))     rgb_c = sigmoid(sum_s o_{1 + 9 c + s} Y_s(direction of the sample's ray))
//   dependence = mean over c and s > 0 of o_{1 + 9 c + s}^2
//
// Y are the real spherical harmonics of degrees 0, 1, 2. Samples are independent of each other.

#include <cmath>

#include "shares.h"

// Mirrored in shade.py, which compares ABI and size: whoever changes a member counts ABI up, here and there.
constexpr int32_t SHADE_ABI = 2;
struct ShadeTask {
    int64_t points;  // that have a row
    int32_t threads;
    float bias;
    const float *out, *directions;  // (points, 28) sorted by row, (rays, 3)
    const int64_t *order, *rays;    // (points): number of the sample; (samples): its ray
    const int64_t* some;            // (points): line of `out` of each, null: the same; backward
    float *density, *rgb, *dependence;  // (samples), (samples, 3), (samples); backward reads the first two
    const float *ddensity, *drgb, *ddependence;
    float* dout;  // (points, 28)
};

namespace {

constexpr int HARMONICS = 9, COLORS = 3, WIDTH = 1 + COLORS * HARMONICS;
constexpr int POINTS = 2048;  // in a share
constexpr float HIGHEST = 12.0f;

void harmonics(const float* d, float* y) {
    float x = d[0], v = d[1], z = d[2];
    y[0] = 0.28209479177387814f;
    y[1] = 0.4886025119029199f * v;
    y[2] = 0.4886025119029199f * z;
    y[3] = 0.4886025119029199f * x;
    y[4] = 1.0925484305920792f * x * v;
    y[5] = 1.0925484305920792f * v * z;
    y[6] = 0.31539156525252005f * (3.0f * z * z - 1.0f);
    y[7] = 1.0925484305920792f * x * z;
    y[8] = 0.5462742152960396f * (x * x - v * v);
}

void shade_point(const ShadeTask& t, int64_t k) {
    int64_t at = t.order[k];
    const float* o = t.out + k * WIDTH;
    float y[HARMONICS], squares = 0.0f;
    harmonics(t.directions + 3 * t.rays[at], y);
    t.density[at] = std::exp(std::min(o[0] + t.bias, HIGHEST));
    for (int c = 0; c < COLORS; ++c) {
        const float* f = o + 1 + c * HARMONICS;
        float sum = f[0] * y[0];
        for (int s = 1; s < HARMONICS; ++s) sum += f[s] * y[s], squares += f[s] * f[s];
        t.rgb[at * COLORS + c] = 1.0f / (1.0f + std::exp(-sum));
    }
    t.dependence[at] = squares / (COLORS * (HARMONICS - 1));
}

void shade_point_back(const ShadeTask& t, int64_t k) {
    int64_t at = t.order[k];
    const float* o = t.out + (t.some ? t.some[k] : k) * WIDTH;
    float* d = t.dout + k * WIDTH;
    float y[HARMONICS], of_square = t.ddependence[at] * 2.0f / (COLORS * (HARMONICS - 1));
    harmonics(t.directions + 3 * t.rays[at], y);
    d[0] = o[0] + t.bias <= HIGHEST ? t.ddensity[at] * t.density[at] : 0.0f;
    for (int c = 0; c < COLORS; ++c) {
        float rgb = t.rgb[at * COLORS + c], of_sum = t.drgb[at * COLORS + c] * rgb * (1.0f - rgb);
        const float* f = o + 1 + c * HARMONICS;
        float* df = d + 1 + c * HARMONICS;
        df[0] = of_sum * y[0];
        for (int s = 1; s < HARMONICS; ++s) df[s] = of_sum * y[s] + of_square * f[s];
    }
}

}  // namespace

extern "C" int32_t lg_field_shade_abi() { return SHADE_ABI; }
extern "C" int64_t lg_field_shade_size() { return sizeof(ShadeTask); }

// Puts the numbers of the points whose samples have a gradient into `some`, and returns how many there are.
extern "C" int64_t lg_field_shade_alive(const ShadeTask* t, int64_t* some) {
    int64_t count = 0;
    for (int64_t k = 0; k < t->points; ++k) {
        int64_t at = t->order[k];
        const float* c = t->drgb + COLORS * at;
        some[count] = k;
        count += t->ddensity[at] != 0.0f || c[0] != 0.0f || c[1] != 0.0f || c[2] != 0.0f || t->ddependence[at] != 0.0f;
    }
    return count;
}

extern "C" void lg_field_shade(const ShadeTask* t) {
    in_shares((t->points + POINTS - 1) / POINTS, t->threads, [&](int64_t share) {
        for (int64_t k = share * POINTS; k < std::min((share + 1) * POINTS, t->points); ++k)
            t->dout ? shade_point_back(*t, k) : shade_point(*t, k);
    });
}
