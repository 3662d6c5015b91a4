// Points that a training step asks about beside its samples: near the border of a cell that is nearest to some of the
// samples, on either side, and anywhere; which rows own them; and how far the two sides of a border disagree.

#include <cstring>

#include "voxels.h"

// Mirrored in beside.py, which compares ABI and size: whoever changes a member counts ABI up, here and there.
constexpr int32_t BESIDE_ABI = 2;
struct BesideTask {
    MarchTask march;  // where voxels are
    int64_t border, free, first, every;  // points; samples first, first + every, ... are near the borders
    int64_t voxels;  // of a row
    float aside, reach, linear, limit;  // of a cell: how far the sides are from a border, how near samples must be;
                                        // scene units: distance from which steps grow, and the farthest point
    const float *unit, *anywhere;  // (samples, 3), (free, 3)
    const int64_t *ray, *places;   // (samples); line of a row's voxels of each voxel, -1: no row has it
    float *located, *asked, *lengths;  // (2 border + free, 3) twice, (2 border + free)
    uint8_t* near;                     // (border)
    int64_t *rays, *rows;              // (2 border + free)
};

namespace {

int64_t row_of(const BesideTask& t, const float* unit) {
    const MarchTask& m = t.march;
    int64_t index = 0;
    for (int a = 0; a < 3; ++a) {
        int32_t size = m.counts[a] * m.per_axis;
        float place = unit[a] * m.cells[a] + m.shift[a];
        if (!(place >= 0.0f && place <= float(m.counts[a]))) return -1;
        index = index * size + int32_t(std::min(place * m.per_axis, float(size - 1)));
    }
    return t.places[index] < 0 ? -1 : t.places[index] / t.voxels;
}

// Length at a point of a marching step that is 1 long near the origin.
float length_at(const BesideTask& t, const float* unit) {
    const MarchTask& m = t.march;
    if (!m.contraction) return 1.0f;
    float x[3], most = 1.0f, squares = 0.0f;
    for (int a = 0; a < 3; ++a) {
        x[a] = m.lower[a] + unit[a] * (m.upper[a] - m.lower[a]);
        most = std::max(most, std::fabs(x[a]));
    }
    float scale = 1.0f / std::max(2.0f - most, 1.0f / t.limit) / most;
    for (int a = 0; a < 3; ++a) squares += x[a] * scale * (x[a] * scale);
    float steps = std::max(std::sqrt(squares) / t.linear, 1.0f);
    return steps * steps;
}

void on_border(const BesideTask& t, int64_t i) {
    const MarchTask& m = t.march;
    int64_t sample = t.first + i * t.every;
    float place[3], whole[3], nearest = 2.0f;
    int axis = 0;
    for (int a = 0; a < 3; ++a) {
        place[a] = t.unit[3 * sample + a] * m.cells[a] + m.shift[a], whole[a] = std::nearbyint(place[a]);
        float away = std::fabs(place[a] - whole[a]);
        if (away < nearest) nearest = away, axis = a;
    }
    t.near[i] = nearest < t.reach;
    for (int side = 0; side < 3; ++side) {  // before, after, on it
        float unit[3], moved = side == 2 ? 0.0f : side ? t.aside : -t.aside;
        for (int a = 0; a < 3; ++a) unit[a] = ((a == axis ? whole[a] + moved : place[a]) - m.shift[a]) / m.cells[a];
        for (int to = 0; to < 2; ++to) {
            if (side == 2) std::copy_n(unit, 3, t.asked + 3 * (i + to * t.border));
            else if (side == to) std::copy_n(unit, 3, t.located + 3 * (i + to * t.border));
        }
    }
    t.rays[i] = t.rays[i + t.border] = t.ray[sample];
}

}  // namespace

extern "C" int32_t lg_field_beside_abi() { return BESIDE_ABI; }
extern "C" int64_t lg_field_beside_size() { return sizeof(BesideTask); }

extern "C" void lg_field_beside(const BesideTask* t) {
    int64_t count = 2 * t->border + t->free;
    for (int64_t i = 0; i < t->border; ++i) on_border(*t, i);
    for (float* to : {t->located, t->asked}) std::copy_n(t->anywhere, 3 * t->free, to + 6 * t->border);
    for (int64_t i = 2 * t->border; i < count; ++i) t->rays[i] = 0;
    for (int64_t i = 0; i < count; ++i)
        t->rows[i] = row_of(*t, t->located + 3 * i), t->lengths[i] = length_at(*t, t->asked + 3 * i);
}

// What the two sides of borders say of the points on them: the mean squared difference of opacities and of the colours
// that those show, and its gradients.
//
//   t = exp(-density length) - 1     loss = sum ((c t - c' t')^2, (t - t')^2) / max(1, 4 n), over the n points that count
extern "C" double lg_field_beside_disagreement(int64_t border, const uint8_t* counts, const float* lengths,
                                               const float* density, const float* rgb, float* ddensity, float* drgb) {
    int64_t n = 0;
    double loss = 0.0;
    for (int64_t i = 0; i < border; ++i) n += counts[i] != 0;
    double scale = 1.0 / std::max<double>(1.0, 4.0 * double(n));
    std::fill_n(ddensity, 2 * border, 0.0f), std::fill_n(drgb, 6 * border, 0.0f);
    for (int64_t i = 0; i < border; ++i) {
        if (!counts[i]) continue;
        int64_t sides[2] = {i, i + border};
        float t[2], dt[2] = {};
        for (int k = 0; k < 2; ++k) t[k] = std::expm1(-density[sides[k]] * lengths[sides[k]]);
        for (int c = 0; c < 4; ++c) {
            float color[2] = {1.0f, 1.0f};
            for (int k = 0; k < 2 && c < 3; ++k) color[k] = rgb[3 * sides[k] + c];
            float apart = color[0] * t[0] - color[1] * t[1];
            loss += double(apart) * apart * scale;
            float d[2] = {float(2.0 * scale) * apart, float(-2.0 * scale) * apart};
            for (int k = 0; k < 2; ++k) {
                dt[k] += d[k] * color[k];
                if (c < 3) drgb[3 * sides[k] + c] = d[k] * t[k];
            }
        }
        for (int k = 0; k < 2; ++k) ddensity[sides[k]] = -dt[k] * lengths[sides[k]] * (t[k] + 1.0f);
    }
    return loss;
}
