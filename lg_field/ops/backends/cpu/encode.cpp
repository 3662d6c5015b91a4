// What the chain reads of points, in one pass: the grid of the point's row, frequencies of its position, the shared
// grid's levels; and backward, from gradients of that to those of both grids.
//
// A line of the local inputs is [grid; frequencies], one of the global inputs [grid, if it reads it; frequencies;
// level 0; level 1; ...]. Frequencies are [x; sin of phases; cos of phases], phase pi 2^k x, all axes of a k together.
//
// Backward, points are sorted by row, so that a share of rows writes lines of its own; of the shared grid every level
// is a share. Sums are in the order of the points: results do not depend on the number of threads, to the bit.

#include <cmath>
#include <cstring>
#include <type_traits>

#include "products.h"
#include "shares.h"

// Mirrored in encode.py, which compares ABI and size: whoever changes a member counts ABI up, here and there.
constexpr int32_t ENCODE_ABI = 2;
struct EncodeTask {
    int64_t points, rows;
    int32_t nodes, grid_features, local_frequencies, global_frequencies, grid_in_global;
    int32_t levels, level_features, log2_size, base_res, local_in, global_in, threads;
    float counts[3];            // cells per axis of the box of unit coordinates
    const float *unit, *corners;  // (points or more, 3), (rows, 3): lower corner of each row's cell, in cells
    const int64_t *offsets, *order;  // (rows + 1): points of each row; (points): line of `unit` of each, null: the same
    const float *grids, *table;  // (rows, nodes^3 grid_features), (entries, level_features)
    float *local_x, *global_x;  // (points, local_in), (points, global_in); null without a global part
    const float *dlocal_x, *dglobal_x;
    float *dgrids, *dtable;     // added to; null if not wanted
};

namespace {

constexpr int POINTS = 1024;  // in a share of the forward pass
constexpr int MOST_PHASES = 3 * 24;  // as encode.py has them
constexpr int MOST_FEATURES = 64;

float clamped(float x) { return x > 0.0f ? x < 1.0f ? x : 1.0f : 0.0f; }  // of NaN, too

// The two neighbours along each axis of a point among `nodes` of them per axis, and how far it is from the lower one.
struct Corners {
    int32_t low[3];
    float weights[8];
    void set(const float* place, int last) {
        float part[3];
        for (int a = 0; a < 3; ++a) {
            float low_a = std::min(std::floor(place[a]), float(last));
            low[a] = int32_t(low_a), part[a] = place[a] - low_a;
        }
        for (int c = 0; c < 8; ++c)
            weights[c] = (c & 4 ? part[0] : 1.0f - part[0]) * (c & 2 ? part[1] : 1.0f - part[1]) *
                         (c & 1 ? part[2] : 1.0f - part[2]);
    }
};

const float* unit_of(const EncodeTask& task, int64_t point) {
    return task.unit + 3 * (task.order ? task.order[point] : point);
}

// Lines of a row's grid.
struct Cell : Corners {
    int64_t lines[8];
    Cell(const EncodeTask& task, int64_t point, int64_t row) {
        const float *unit = unit_of(task, point), *corner = task.corners + 3 * row;
        float place[3];
        int n = task.nodes;
        for (int a = 0; a < 3; ++a) place[a] = clamped(unit[a] * task.counts[a] - corner[a]) * (n - 1);
        set(place, n - 2);
        int64_t first = ((row * n + low[0]) * n + low[1]) * n + low[2];
        for (int c = 0; c < 8; ++c) lines[c] = first + (c & 4 ? n * n : 0) + (c & 2 ? n : 0) + (c & 1);
    }
};

// Lines of a level of the shared grid.
struct Level {
    int64_t first;  // line
    int32_t resolution;
    uint32_t entries;
    bool dense;
    void place(const EncodeTask& task, int64_t point, Corners& corners, uint32_t (&lines)[8]) const {
        const float* unit = unit_of(task, point);
        float place[3];
        for (int a = 0; a < 3; ++a) place[a] = clamped(unit[a]) * (resolution - 1) + 0.5f;
        corners.set(place, resolution);
        uint32_t n = resolution, factors[3] = {1, dense ? n : 2654435761u, dense ? n * n : 805459861u}, at[3][2];
        for (int a = 0; a < 3; ++a)
            for (int s = 0; s < 2; ++s) at[a][s] = uint32_t(corners.low[a] + s) * factors[a];
        for (int c = 0; c < 8; ++c) {
            uint32_t x = at[0][c >> 2], y = at[1][c >> 1 & 1], z = at[2][c & 1], line = dense ? x + y + z : x ^ y ^ z;
            lines[c] = dense ? (line >= entries ? line - entries : line) : line & (entries - 1);
        }
    }
};

std::vector<Level> levels_of(const EncodeTask& task) {
    std::vector<Level> levels;
    int64_t first = 0;
    for (int l = 0; l < task.levels; ++l) {
        int64_t n = int64_t(task.base_res) << l, entries = std::min((n * n * n + 7) / 8 * 8, int64_t(1) << task.log2_size);
        levels.push_back({first, int32_t(n), uint32_t(entries), n * n * n <= entries});
        first += entries;
    }
    return levels;
}

// Calls f with the number of features: as a constant where it is a usual one, so that loops over it are unrolled.
template <class F>
inline void with_features(int features, const F& f) {
    switch (features) {
        case 1: return f(std::integral_constant<int, 1>());
        case 2: return f(std::integral_constant<int, 2>());
        case 4: return f(std::integral_constant<int, 4>());
        case 8: return f(std::integral_constant<int, 8>());
        default: return f(features);
    }
}

// out[f] = sum over corners of weight * lines[corner][f]
template <class Line>
inline void weighted_sum(const float* table, const Line* lines, const float* weights, int features, float* out) {
    with_features(features, [&](auto n) {
        float sum[std::is_same_v<decltype(n), int> ? MOST_FEATURES : 8];
        for (int f = 0; f < n; ++f) sum[f] = 0.0f;
        for (int c = 0; c < 8; ++c) {
            const float* line = table + int64_t(lines[c]) * n;
            for (int f = 0; f < n; ++f) sum[f] += weights[c] * line[f];
        }
        for (int f = 0; f < n; ++f) out[f] = sum[f];
    });
}

template <class Line>
inline void spread(float* table, const Line* lines, const float* weights, int features, const float* d) {
    with_features(features, [&](auto n) {
        for (int c = 0; c < 8; ++c) {
            float* line = table + int64_t(lines[c]) * n;
            for (int f = 0; f < n; ++f) line[f] += weights[c] * d[f];
        }
    });
}

// [x; sines; cosines] of the first `count` phases of each kind.
float* put_frequencies(float* out, const float* unit, const float* sines, const float* cosines, int count) {
    std::memcpy(out, unit, 3 * sizeof(float));
    std::memcpy(out + 3, sines, count * sizeof(float));
    std::memcpy(out + 3 + count, cosines, count * sizeof(float));
    return out + 3 + 2 * count;
}

void encode_point(const EncodeTask& task, const std::vector<Level>& levels, int64_t point, int64_t row) {
    alignas(64) float q[padded(MOST_PHASES)] = {}, sines[padded(MOST_PHASES)], cosines[padded(MOST_PHASES)];
    const float* unit = unit_of(task, point);
    int phases = 3 * std::max(task.local_frequencies, task.global_x ? task.global_frequencies : 0);
    for (int i = 0; i < phases; ++i) q[i] = i < 3 ? unit[i] : 2.0f * q[i - 3];
    for (int i = 0; i < phases; i += LANES) {
        Vec sine, cosine;
        sine_cosine(load(q + i), sine, cosine);
        store(sines + i, sine), store(cosines + i, cosine);
    }
    float* local = task.local_x + point * task.local_in;
    if (task.nodes) {
        Cell cell(task, point, row);
        weighted_sum(task.grids, cell.lines, cell.weights, task.grid_features, local);
    }
    put_frequencies(local + task.grid_features, unit, sines, cosines, 3 * task.local_frequencies);
    if (!task.global_x) return;
    float* global = task.global_x + point * task.global_in;
    if (task.grid_in_global) global = std::copy_n(local, task.grid_features, global);
    global = put_frequencies(global, unit, sines, cosines, 3 * task.global_frequencies);
    for (const Level& level : levels) {
        Corners corners;
        uint32_t lines[8];
        level.place(task, point, corners, lines);
        weighted_sum(task.table + level.first * task.level_features, lines, corners.weights, task.level_features, global);
        global += task.level_features;
    }
}

void learn_row(const EncodeTask& task, int64_t row) {
    int features = task.grid_features;
    float d[MOST_FEATURES];
    for (int64_t point = task.offsets[row]; point < task.offsets[row + 1]; ++point) {
        bool any = false;
        for (int f = 0; f < features; ++f) {
            d[f] = task.dlocal_x[point * task.local_in + f] +
                   (task.grid_in_global ? task.dglobal_x[point * task.global_in + f] : 0.0f);
            any |= d[f] != 0.0f;
        }
        if (!any) continue;  // nothing is seen of the point
        Cell cell(task, point, row);
        spread(task.dgrids, cell.lines, cell.weights, features, d);
    }
}

void learn_level(const EncodeTask& task, const Level& level, int number) {
    int at = task.global_in - (task.levels - number) * task.level_features;
    for (int64_t point = 0; point < task.points; ++point) {
        const float* d = task.dglobal_x + point * task.global_in + at;
        bool any = false;
        for (int f = 0; f < task.level_features; ++f) any |= d[f] != 0.0f;
        if (!any) continue;  // nothing is seen of the point
        Corners corners;
        uint32_t lines[8];
        level.place(task, point, corners, lines);
        spread(task.dtable + level.first * task.level_features, lines, corners.weights, task.level_features, d);
    }
}

}  // namespace

extern "C" int32_t lg_field_encode_abi() { return ENCODE_ABI; }
extern "C" int64_t lg_field_encode_size() { return sizeof(EncodeTask); }

// Sorts points by their row, which is -1 for those that are left out; the points of a row stay as they were.
// `offsets` (rows + 1) end as the first place of each row, then the number of points that have one.
extern "C" void lg_field_encode_sort(const int64_t* row, int64_t points, int64_t rows, int64_t* order, int64_t* offsets) {
    std::fill_n(offsets, rows + 1, 0);
    for (int64_t i = 0; i < points; ++i)
        if (row[i] >= 0) ++offsets[row[i]];
    int64_t before = 0;
    for (int64_t r = 0; r <= rows; ++r) before += std::exchange(offsets[r], before);
    std::vector<int64_t> next(offsets, offsets + rows);
    for (int64_t i = 0; i < points; ++i)
        if (row[i] >= 0) order[next[row[i]]++] = i;
}

extern "C" void lg_field_encode(const EncodeTask* t) {
    std::vector<Level> levels = levels_of(*t);
    in_shares((t->points + POINTS - 1) / POINTS, t->threads, [&](int64_t share) {
        int64_t first = share * POINTS, last = std::min(first + POINTS, t->points);
        int64_t row = std::upper_bound(t->offsets, t->offsets + t->rows + 1, first) - t->offsets - 1;
        for (; first < last; ++first) {
            while (t->offsets[row + 1] <= first) ++row;
            encode_point(*t, levels, first, row);
        }
    });
}

extern "C" void lg_field_encode_back(const EncodeTask* t) {
    std::vector<Level> levels = levels_of(*t);
    int64_t per_level = t->dtable ? t->levels : 0, rows = t->dgrids ? t->rows : 0;
    in_shares(per_level + rows, t->threads, [&](int64_t share) {
        if (share < per_level) learn_level(*t, levels[share], int(share));
        else learn_row(*t, share - per_level);
    });
}
