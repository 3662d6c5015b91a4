// Light along rays: weights of packed samples, and what rays see; and backward.
//
//   T_i = exp(-sum_{j < i} x_j) of the samples before on the ray, x = density * length; 0 where less than least_light
//   w_i = T_i (1 - exp(-x_i))     sums = sum_i w_i [rgb_i, 1, middle_i]
//   dL/dx_i = (T_i - w_i) g_i - sum_{j > i} w_j g_j,  g = dL/dw + dL/dsums . [rgb, 1, middle]
//
// Samples nearer to their camera than `until` learn less from light: their gradients above are multiplied by the square
// of their middle's part of it. Beside light, a sample's opacity is 1 - exp(-x), and it is seen if T is not 0: what else
// is said of it (`said`) counts only then.
//
// A ray is one thread's: results do not depend on the number of threads, to the bit.

#include <cmath>
#include <utility>

#include "shares.h"

// Mirrored in light.py, which compares ABI and size: whoever changes a member counts ABI up, here and there.
constexpr int32_t LIGHT_ABI = 2;
struct LightTask {
    int64_t samples, rays;
    int32_t threads;
    float least_light, until;  // until: 0: all gradients are whole
    const int64_t* ray;  // (samples), sorted
    const float *starts, *ends, *density, *rgb;  // (samples), rgb (samples, 3)
    float *through, *weights, *sums;             // (samples), (samples), (rays, 5); backward reads the first two
    const float *dweights, *dsums;               // the first may be null; the second is in the forward pass
    float *ddensity, *drgb;
    const float *said, *dopacity, *dseen;  // (samples), all of these may be null
    float *opacity, *seen, *dsaid;         // backward reads the first of these, if its gradient is there
};

namespace {

constexpr int RAYS = 64;  // in a share
constexpr int SUMS = 5;

void look(const LightTask& t, int64_t first, int64_t last, float* sums) {
    double passed = 0.0, seen[SUMS] = {};
    for (int64_t i = first; i < last; ++i) {
        float length = t.ends[i] - t.starts[i], x = t.density[i] * length, through = float(std::exp(-passed));
        if (!(through >= t.least_light)) through = 0.0f;
        float absorbed = t.opacity || through > 0.0f ? -std::expm1(-x) : 0.0f, w = through * absorbed;
        t.through[i] = through, t.weights[i] = w;
        if (t.opacity) t.opacity[i] = absorbed;
        if (t.seen) t.seen[i] = through > 0.0f || t.least_light <= 0.0f ? t.said[i] : 0.0f;
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
        float ends = t.starts[i] + t.ends[i], part = t.until > 0.0f ? std::min(ends * (0.5f / t.until), 1.0f) : 1.0f;
        part *= part;
        for (int c = 0; c < 3; ++c) g += d[c] * rgb[c], t.drgb[3 * i + c] = w * d[c] * part;
        g += d[3] + d[4] * (0.5f * ends);
        t.ddensity[i] = float(double(t.through[i] - w) * g - behind) * length * part;
        if (t.dopacity) t.ddensity[i] += t.dopacity[i] * (1.0f - t.opacity[i]) * length;
        if (t.dsaid) t.dsaid[i] = t.dseen && (t.through[i] > 0.0f || t.least_light <= 0.0f) ? t.dseen[i] : 0.0f;
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
            if (t->dsums) look_back(*t, first - t->ray, at - t->ray, t->dsums + SUMS * ray);
            else look(*t, first - t->ray, at - t->ray, t->sums + SUMS * ray);
        }
    });
}
