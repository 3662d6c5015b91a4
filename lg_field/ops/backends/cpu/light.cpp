// Light along rays: weights of packed samples, and what rays see; and backward.
//
//   T_i = exp(-sum_{j < i} x_j) of the samples before on the ray, x = density * length; 0 where less than least_light
//   w_i = T_i (1 - exp(-x_i))     sums = sum_i w_i [rgb_i, 1, middle_i]
//   dL/dx_i = (T_i - w_i) g_i - sum_{j > i} w_j g_j,  g = dL/dw + dL/dsums . [rgb, 1, middle]
//
// A ray is one thread's: results do not depend on the number of threads, to the bit.

#include <cmath>
#include <utility>

#include "shares.h"

// Mirrored in light.py, which compares ABI and size: whoever changes a member counts ABI up, here and there.
constexpr int32_t LIGHT_ABI = 1;
struct LightTask {
    int64_t samples, rays;
    int32_t threads;
    float least_light;
    const int64_t* ray;  // (samples), sorted
    const float *starts, *ends, *density, *rgb;  // (samples), rgb (samples, 3)
    float *through, *weights, *sums;             // (samples), (samples), (rays, 5); backward reads the first two
    const float *dweights, *dsums;               // the first may be null
    float *ddensity, *drgb;                      // null: forward
};

namespace {

constexpr int RAYS = 64;  // in a share
constexpr int SUMS = 5;

void look(const LightTask& t, int64_t first, int64_t last, float* sums) {
    double passed = 0.0, seen[SUMS] = {};
    for (int64_t i = first; i < last; ++i) {
        float length = t.ends[i] - t.starts[i], x = t.density[i] * length, through = float(std::exp(-passed));
        if (!(through >= t.least_light)) through = 0.0f;
        float w = through > 0.0f ? through * -std::expm1(-x) : 0.0f;
        t.through[i] = through, t.weights[i] = w;
        passed += x;
        for (int c = 0; c < 3; ++c) seen[c] += double(w) * t.rgb[3 * i + c];
        seen[3] += w, seen[4] += double(w) * (0.5f * (t.starts[i] + t.ends[i]));
    }
    for (int c = 0; c < SUMS; ++c) sums[c] = float(seen[c]);
}

void look_back(const LightTask& t, int64_t first, int64_t last, const float* d) {
    double behind = 0.0;
    for (int64_t i = last - 1; i >= first; --i) {
        const float* rgb = t.rgb + 3 * i;
        float w = t.weights[i], length = t.ends[i] - t.starts[i], g = t.dweights ? t.dweights[i] : 0.0f;
        for (int c = 0; c < 3; ++c) g += d[c] * rgb[c], t.drgb[3 * i + c] = w * d[c];
        g += d[3] + d[4] * (0.5f * (t.starts[i] + t.ends[i]));
        t.ddensity[i] = float(double(t.through[i] - w) * g - behind) * length;
        behind += double(w) * g;
    }
}

}  // namespace

extern "C" int32_t lg_field_light_abi() { return LIGHT_ABI; }
extern "C" int64_t lg_field_light_size() { return sizeof(LightTask); }

extern "C" void lg_field_light(const LightTask* t) {
    in_shares((t->rays + RAYS - 1) / RAYS, t->threads, [&](int64_t share) {
        const int64_t *end = t->ray + t->samples, *at = std::lower_bound(t->ray, end, share * RAYS);
        for (int64_t ray = share * RAYS; ray < std::min((share + 1) * RAYS, t->rays); ++ray) {
            const int64_t* first = at;
            while (at < end && *at == ray) ++at;
            if (t->ddensity) look_back(*t, first - t->ray, at - t->ray, t->dsums + SUMS * ray);
            else look(*t, first - t->ray, at - t->ray, t->sums + SUMS * ray);
        }
    });
}
