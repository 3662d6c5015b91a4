// Colours of surface points: the mean over the places that something is looked at from, as far as the surface faces them.
//
//   w_k = clamp(d_k . inward / grazing, 0, 1), d_k the direction from place k    c_k = colour seen along d_k
//   colour = s sum_k w_k c_k / sum_k w_k + (1 - s) mean_k c_k,  s = min(1, sum_k w_k)
//
// Points are independent of each other; they lie in the lanes of vectors.

#include "harmonics.h"
#include "shares.h"

// Mirrored in colors.py, which compares ABI and size: whoever changes a member counts ABI up, here and there.
constexpr int32_t COLORS_ABI = 1;
struct ColorsTask {
    int64_t points, places;
    int32_t threads;
    float grazing;
    const float *features, *at, *inward, *from;  // (points, 27), (points, 3) twice, (places, 3)
    float* rgb;  // (points, 3)
};

namespace {

constexpr int WIDTH = COLORS * HARMONICS;
constexpr int64_t POINTS = 512;  // in a share

// `n` numbers of up to LANES points, the last one in the place of those that are missing.
inline void read(const float* values, int n, int count, Vec* out) {
    for (int i = 0; i < LANES; ++i)
        for (int k = 0; k < n; ++k) out[k][i] = values[std::min(i, count - 1) * n + k];
}

void color(const ColorsTask& t, int64_t first, int count) {
    Vec features[WIDTH], at[3], inward[3], y[HARMONICS], seen[COLORS] = {}, every[COLORS] = {}, weight = {};
    read(t.features + first * WIDTH, WIDTH, count, features);
    read(t.at + first * 3, 3, count, at), read(t.inward + first * 3, 3, count, inward);
    for (int64_t k = 0; k < t.places; ++k) {
        Vec d[3], squares = {}, facing = {};
        for (int a = 0; a < 3; ++a) d[a] = at[a] - t.from[3 * k + a], squares += d[a] * d[a];
        Vec length = at_least(square_root(squares), 1e-12f);
        for (int a = 0; a < 3; ++a) d[a] /= length, facing += d[a] * inward[a];
        facing = at_least(at_most(facing / t.grazing, 1.0f), 0.0f);
        harmonics(d[0], d[1], d[2], y);
        weight += facing;
        for (int c = 0; c < COLORS; ++c) {
            Vec sum = {};
            for (int s = 0; s < HARMONICS; ++s) sum += features[c * HARMONICS + s] * y[s];
            Vec value = 1.0f / (1.0f + exponential(-sum));
            seen[c] += facing * value, every[c] += value;
        }
    }
    Vec known = at_most(weight, 1.0f);
    for (int c = 0; c < COLORS; ++c) {
        Vec rgb = known * seen[c] / at_least(weight, 1e-12f) + (1.0f - known) * every[c] / float(t.places);
        for (int i = 0; i < count; ++i) t.rgb[(first + i) * COLORS + c] = rgb[i];
    }
}

}  // namespace

extern "C" int32_t lg_field_colors_abi() { return COLORS_ABI; }
extern "C" int64_t lg_field_colors_size() { return sizeof(ColorsTask); }

extern "C" void lg_field_colors(const ColorsTask* t) {
    in_shares((t->points + POINTS - 1) / POINTS, t->threads, [&](int64_t share) {
        int64_t last = std::min((share + 1) * POINTS, t->points);
        for (int64_t i = share * POINTS; i < last; i += LANES) color(*t, i, int(std::min<int64_t>(LANES, last - i)));
    });
}
