// Density and colour of samples from what the chain says of them, sorted by row; and backward.
//
//   density = exp(min(o_0 + bias, 12))     rgb_c = sigmoid(sum_s o_{1 + 9 c + s} Y_s(direction of the sample's ray))
//   dependence = mean over c and s > 0 of o_{1 + 9 c + s}^2
//
// With `unit`, densities are per length of contracted space and made those per length of the scene's: times (2 - |c|)^2
// beyond the unit cube, |.| the max norm. Backward multiplies gradients with the density that came out, whichever it is.
//
// Y are the real spherical harmonics of degrees 0, 1, 2. Samples are independent of each other. They are shaded in
// tiles (products.h): of the chain, or of memory.

#include "harmonics.h"
#include "products.h"
#include "shares.h"

// Mirrored in shade.py, which compares ABI and size: whoever changes a member counts ABI up, here and there.
constexpr int32_t SHADE_ABI = 4;
struct ShadeTask {
    int64_t points;  // that have a row
    int32_t threads;
    float bias;
    const float *out, *directions;  // (points, 28) sorted by row, (rays, 3)
    const int64_t *order, *rays;    // (points): number of the sample; (samples): its ray
    float *density, *rgb, *dependence;  // (samples), (samples, 3), (samples); backward reads the first two
    const float *ddensity, *drgb, *ddependence;
    float* dout;  // (points, 28)
    const float* unit;  // (samples, 3), null: densities stay as they are
    float lower[3], size[3];  // of the box of unit coordinates
};

namespace {

constexpr int WIDTH = 1 + COLORS * HARMONICS;
constexpr float HIGHEST = 12.0f;

// As many samples as a vector has lanes, the last one in the place of those that are missing.
struct Some {
    int64_t at[LANES];
    int count;
    Vec y[HARMONICS];
    Some(const ShadeTask& t, int64_t first, int most) : count(std::min(most, LANES)) {
        Vec d[3];
        for (int i = 0; i < LANES; ++i) {
            at[i] = t.order[first + std::min(i, count - 1)];
            const float* of_ray = t.directions + 3 * t.rays[at[i]];
            for (int a = 0; a < 3; ++a) d[a][i] = of_ray[a];
        }
        harmonics(d[0], d[1], d[2], y);
    }
    Vec read(const float* values, int stride = 1, int offset = 0) const {
        Vec result;
        for (int i = 0; i < LANES; ++i) result[i] = values[at[i] * stride + offset];
        return result;
    }
    void write(Vec from, float* values, int stride = 1, int offset = 0) const {
        for (int i = 0; i < count; ++i) values[at[i] * stride + offset] = from[i];
    }
};

// How much longer contracted space is than the scene at a sample.
inline float rate_at(const ShadeTask& t, int64_t at) {
    float most = 1.0f;
    for (int a = 0; a < 3; ++a) most = std::max(most, std::fabs(t.lower[a] + t.unit[3 * at + a] * t.size[a]));
    float rate = 2.0f - std::min(most, 2.0f);
    return rate * rate;
}

// Of lines o of TILE.
void shade(const ShadeTask& t, const Some& some, const float* o) {
    Vec density = exponential(at_most(load(o) + t.bias, HIGHEST));
    for (int i = 0; t.unit && i < some.count; ++i) density[i] *= rate_at(t, some.at[i]);
    some.write(density, t.density);
    Vec squares = {};
    for (int c = 0; c < COLORS; ++c) {
        const float* f = o + (1 + c * HARMONICS) * TILE;
        Vec sum = load(f) * some.y[0];
        for (int s = 1; s < HARMONICS; ++s) {
            Vec value = load(f + s * TILE);
            sum += value * some.y[s], squares += value * value;
        }
        some.write(1.0f / (1.0f + exponential(-sum)), t.rgb, COLORS, c);
    }
    some.write(squares * (1.0f / (COLORS * (HARMONICS - 1))), t.dependence);
}

void shade_back(const ShadeTask& t, const Some& some, const float* o, float* d) {
    IntVec there;
    for (int i = 0; i < LANES; ++i) there[i] = i < some.count ? -1 : 0;
    auto put = [&](float* to, Vec value) { store(to, (Vec)((IntVec)value & there)); };
    Vec of_square = some.read(t.ddependence) * (2.0f / (COLORS * (HARMONICS - 1)));
    IntVec learns = load(o) + t.bias <= HIGHEST;
    put(d, (Vec)((IntVec)(some.read(t.ddensity) * some.read(t.density)) & learns));
    for (int c = 0; c < COLORS; ++c) {
        Vec rgb = some.read(t.rgb, COLORS, c), of_sum = some.read(t.drgb, COLORS, c) * rgb * (1.0f - rgb);
        int first = 1 + c * HARMONICS;
        put(d + first * TILE, of_sum * some.y[0]);
        for (int s = 1; s < HARMONICS; ++s) {
            int line = (first + s) * TILE;
            put(d + line, of_sum * some.y[s] + of_square * load(o + line));
        }
    }
}

// Points [first, first + count): backward if there is `dy`.
void shade_tile(const ShadeTask& t, int64_t first, int count, const float* y, float* dy) {
    for (int i = 0; i < count; i += LANES) {
        Some some(t, first + i, count - i);
        if (dy) shade_back(t, some, y + i, dy + i);
        else shade(t, some, y + i);
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

// `TakeTile` of products.h,
extern "C" void lg_field_shade_take(const void* task, int64_t first, int count, const float* y) {
    shade_tile(*static_cast<const ShadeTask*>(task), first, count, y, nullptr);
}

// and `AnswerTile`.
extern "C" void lg_field_shade_answer(const void* task, int64_t first, int count, const float* y, float* dy) {
    shade_tile(*static_cast<const ShadeTask*>(task), first, count, y, dy);
}

// The first of the same, which finds densities only: of the first of any number of outputs.
extern "C" void lg_field_shade_density(const void* task, int64_t first, int count, const float* y) {
    const auto& t = *static_cast<const ShadeTask*>(task);
    for (int i = 0; i < count; i += LANES) {
        Vec density = exponential(at_most(load(y + i) + t.bias, HIGHEST));
        for (int k = 0; k < std::min(LANES, count - i); ++k) {
            int64_t at = t.order[first + i + k];
            t.density[at] = t.unit ? density[k] * rate_at(t, at) : density[k];
        }
    }
}

extern "C" void lg_field_shade(const ShadeTask* t) {
    in_shares((t->points + TILE - 1) / TILE, t->threads, [&](int64_t share) {
        alignas(64) float y[WIDTH * TILE], dy[WIDTH * TILE];
        int64_t first = share * TILE;
        int count = int(std::min<int64_t>(TILE, t->points - first));
        gather(t->out + first * WIDTH, nullptr, y, WIDTH, count);
        shade_tile(*t, first, count, y, t->dout ? dy : nullptr);
        if (t->dout) scatter(dy, t->dout + first * WIDTH, WIDTH, count);
    });
}
