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

constexpr int POINTS = 1024;  // in a share of the forward pass, whole groups
constexpr int GROUP = 16;
constexpr int MOST_PHASES = 3 * 24;  // as encode.py has them
constexpr int MOST_FEATURES = 64;

float clamped(float x) { return x > 0.0f ? x < 1.0f ? x : 1.0f : 0.0f; }  // of NaN, too

const float* unit_of(const EncodeTask& task, int64_t point) {
    return task.unit + 3 * (task.order ? task.order[point] : point);
}

// A few points together, the last one in the place of those that are missing: what is computed of places runs along them.
struct Group {
    float unit[3][GROUP];
    int64_t rows[GROUP], first;
    int count;
    // Points [first, first + count), of rows from `row` on.
    Group(const EncodeTask& task, int64_t first, int count, int64_t row) : first(first), count(count) {
        for (int i = 0; i < GROUP; ++i) {
            int64_t point = first + std::min(i, count - 1);
            while (task.offsets[row + 1] <= point) ++row;
            rows[i] = row;
            const float* at = unit_of(task, point);
            for (int a = 0; a < 3; ++a) unit[a][i] = at[a];
        }
    }
};

// The two neighbours along each axis of points among `last` + 2 of them per axis, and how they are weighted.
struct Corners {
    int32_t low[3][GROUP];
    float weights[8][GROUP];
    void set(const float (&place)[3][GROUP], int last) {
        float part[2][3][GROUP];
        for (int a = 0; a < 3; ++a)
            for (int i = 0; i < GROUP; ++i) {
                float low_a = std::min(std::floor(place[a][i]), float(last));
                low[a][i] = int32_t(low_a);
                part[1][a][i] = place[a][i] - low_a;
                part[0][a][i] = 1.0f - part[1][a][i];
            }
        for (int c = 0; c < 8; ++c)
            for (int i = 0; i < GROUP; ++i)
                weights[c][i] = part[c >> 2][0][i] * part[c >> 1 & 1][1][i] * part[c & 1][2][i];
    }
};

// Lines of the rows' grids.
struct Cell : Corners {
    int64_t lines[8][GROUP];
    Cell(const EncodeTask& task, const Group& group) {
        float place[3][GROUP];
        int n = task.nodes;
        for (int a = 0; a < 3; ++a)
            for (int i = 0; i < GROUP; ++i) {
                float corner = task.corners[3 * group.rows[i] + a];
                place[a][i] = clamped(group.unit[a][i] * task.counts[a] - corner) * (n - 1);
            }
        set(place, n - 2);
        for (int i = 0; i < GROUP; ++i) {
            int64_t first = ((group.rows[i] * n + low[0][i]) * n + low[1][i]) * n + low[2][i];
            for (int c = 0; c < 8; ++c) lines[c][i] = first + (c & 4 ? n * n : 0) + (c & 2 ? n : 0) + (c & 1);
        }
    }
};

// A level of the shared grid.
struct Level {
    int64_t first;  // line
    int32_t resolution;
    uint32_t entries;
    bool dense;
};

// Lines of a level.
struct Nodes : Corners {
    uint32_t lines[8][GROUP];
    Nodes(const Level& level, const Group& group) {
        float place[3][GROUP];
        for (int a = 0; a < 3; ++a)
            for (int i = 0; i < GROUP; ++i)
                place[a][i] = clamped(group.unit[a][i]) * (level.resolution - 1) + 0.5f;
        set(place, level.resolution);
        uint32_t n = level.resolution, mask = level.entries - 1, at[2][3][GROUP];
        uint32_t factors[3] = {1, level.dense ? n : 2654435761u, level.dense ? n * n : 805459861u};
        for (int a = 0; a < 3; ++a)
            for (int i = 0; i < GROUP; ++i)
                at[0][a][i] = uint32_t(low[a][i]) * factors[a], at[1][a][i] = at[0][a][i] + factors[a];
        for (int c = 0; c < 8; ++c) {
            const uint32_t *x = at[c >> 2][0], *y = at[c >> 1 & 1][1], *z = at[c & 1][2];
            for (int i = 0; level.dense && i < GROUP; ++i) {
                uint32_t line = x[i] + y[i] + z[i];
                lines[c][i] = line >= level.entries ? line - level.entries : line;
            }
            for (int i = 0; !level.dense && i < GROUP; ++i) lines[c][i] = (x[i] ^ y[i] ^ z[i]) & mask;
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

// out[point * stride + f] = sum over corners of weight * line[f], of the points of a group.
template <class At>
inline void weighted_sums(const float* table, const At& at, int features, int count, float* out, int stride) {
    with_features(features, [&](auto n) {
        for (int i = 0; i < count; ++i, out += stride) {
            float sum[std::is_same_v<decltype(n), int> ? MOST_FEATURES : 8];
            for (int f = 0; f < n; ++f) sum[f] = 0.0f;
            for (int c = 0; c < 8; ++c) {
                const float* line = table + int64_t(at.lines[c][i]) * n;
                float weight = at.weights[c][i];
                for (int f = 0; f < n; ++f) sum[f] += weight * line[f];
            }
            for (int f = 0; f < n; ++f) out[f] = sum[f];
        }
    });
}

// table[line[f]] += weight * d[point * stride + f]
template <class At>
inline void spread(float* table, const At& at, int features, int count, const float* d, int stride) {
    with_features(features, [&](auto n) {
        for (int i = 0; i < count; ++i, d += stride)
            for (int c = 0; c < 8; ++c) {
                float* line = table + int64_t(at.lines[c][i]) * n;
                float weight = at.weights[c][i];
                for (int f = 0; f < n; ++f) line[f] += weight * d[f];
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

// Frequencies of a point, in the local and the global inputs.
void encode_frequencies(const EncodeTask& task, int64_t point) {
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
    put_frequencies(local + task.grid_features, unit, sines, cosines, 3 * task.local_frequencies);
    if (!task.global_x) return;
    float* global = task.global_x + point * task.global_in;
    if (task.grid_in_global) global = std::copy_n(local, task.grid_features, global);
    put_frequencies(global, unit, sines, cosines, 3 * task.global_frequencies);
}

void encode_group(const EncodeTask& task, const std::vector<Level>& levels, const Group& group) {
    if (task.nodes) {
        Cell cell(task, group);
        float* local = task.local_x + group.first * task.local_in;
        weighted_sums(task.grids, cell, task.grid_features, group.count, local, task.local_in);
    }
    for (int i = 0; i < group.count; ++i) encode_frequencies(task, group.first + i);
    if (!task.global_x) return;
    float* global = task.global_x + (group.first + 1) * task.global_in - task.levels * task.level_features;
    for (const Level& level : levels) {
        Nodes nodes(level, group);
        const float* table = task.table + level.first * task.level_features;
        weighted_sums(table, nodes, task.level_features, group.count, global, task.global_in);
        global += task.level_features;
    }
}

void learn_row(const EncodeTask& task, int64_t row) {
    int features = task.grid_features;
    float d[GROUP * MOST_FEATURES];
    for (int64_t first = task.offsets[row]; first < task.offsets[row + 1]; first += GROUP) {
        Group group(task, first, int(std::min<int64_t>(GROUP, task.offsets[row + 1] - first)), row);
        for (int i = 0; i < group.count; ++i)
            for (int f = 0; f < features; ++f)
                d[i * features + f] = task.dlocal_x[(first + i) * task.local_in + f] +
                                      (task.grid_in_global ? task.dglobal_x[(first + i) * task.global_in + f] : 0.0f);
        spread(task.dgrids, Cell(task, group), features, group.count, d, features);
    }
}

void learn_level(const EncodeTask& task, const Level& level, int number) {
    const float* d = task.dglobal_x + task.global_in - (task.levels - number) * task.level_features;
    float* table = task.dtable + level.first * task.level_features;
    int64_t row = 0;
    for (int64_t first = 0; first < task.points; first += GROUP) {
        Group group(task, first, int(std::min<int64_t>(GROUP, task.points - first)), row);
        row = group.rows[GROUP - 1];
        spread(table, Nodes(level, group), task.level_features, group.count, d + first * task.global_in, task.global_in);
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
        for (; first < last; first += GROUP) {
            Group group(*t, first, int(std::min<int64_t>(GROUP, last - first)), row);
            encode_group(*t, levels, group);
            row = group.rows[GROUP - 1];
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
