// What the chain reads of points, in one pass: the grid of the point's row, frequencies of its position, the shared
// grid's levels; and backward, from gradients of that to those of both grids.
//
// The local inputs are [grid; frequencies], the global inputs [grid, if they have it; frequencies; level 0; level 1;
// ...]. Frequencies are [x; sin of phases; cos of phases], phase pi 2^k x, all axes of a k together. They are found in
// tiles (products.h): of the chain, or of memory.
//
// Backward, points are sorted by row, so that a share of rows writes lines of its own; of the shared grid every level
// is a share. Gradients are those of the grids' features alone: local [grid], global [grid, if it is there; levels].
// Sums are in the order of the points: results do not depend on the number of threads, to the bit.

#include <cstring>
#include <optional>
#include <type_traits>

#include "products.h"
#include "shares.h"

// Mirrored in encode.py, which compares ABI and size: whoever changes a member counts ABI up, here and there.
constexpr int32_t ENCODE_ABI = 4;
struct EncodeTask {
    int64_t points, rows;
    int32_t nodes, grid_features, local_frequencies, global_frequencies, grid_in_global;
    int32_t levels, level_features, log2_size, base_res, local_in, global_in, threads;
    float counts[3];            // cells per axis of the box of unit coordinates
    const float *unit, *corners;  // (points or more, 3), (rows, 3): lower corner of each row's cell, in cells
    const int64_t *offsets, *order;  // (rows + 1): points of each row; (points): line of `unit` of each, null: the same
    const float *grids, *table;  // (rows, nodes^3 grid_features), (entries, level_features)
    float *local_x, *global_x;  // (points, local_in), (points, global_in); null without a global part
    const float *dlocal_x, *dglobal_x;  // (points, grid features), (points, the same if there + those of all levels)
    float *dgrids, *dtable;     // overwritten; null if not wanted
};

namespace {

constexpr int POINTS = 1024;  // in a share of the forward pass, whole groups
constexpr int GROUP = 16, VECS = GROUP / LANES;
constexpr int MOST_FEATURES = 64;

inline Vec clamped(Vec x) { return at_most((Vec)((IntVec)x & (x > 0.0f)), 1.0f); }  // NaN: 0

const float* unit_of(const EncodeTask& task, int64_t point) {
    return task.unit + 3 * (task.order ? task.order[point] : point);
}

// A few points together, the last one in the place of those that are missing: what is computed of places runs along them.
struct Group {
    alignas(64) float unit[3][GROUP];
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
    alignas(64) float weights[8][GROUP];
    // Of `place` (3, GROUP), which it sets to the lower neighbours; calls lines(v, low) for every vector of points.
    template <class Lines>
    void set(float (&place)[3][GROUP], int last, const Lines& lines) {
        for (int v = 0; v < VECS; ++v) {
            Vec part[2][3];
            IntVec low[3];
            for (int a = 0; a < 3; ++a) {
                Vec at = load(place[a] + v * LANES);
                IntVec whole = __builtin_convertvector(at, IntVec), inside = whole < last;
                low[a] = (whole & inside) | (~inside & last);
                part[1][a] = at - __builtin_convertvector(low[a], Vec);
                part[0][a] = 1.0f - part[1][a];
            }
            for (int c = 0; c < 8; ++c)
                store(weights[c] + v * LANES, part[c >> 2][0] * part[c >> 1 & 1][1] * part[c & 1][2]);
            lines(v * LANES, (UIntVec)low[0], (UIntVec)low[1], (UIntVec)low[2]);
        }
    }
};

// Lines of the rows' grids.
struct Cell : Corners {
    int64_t first[GROUP];
    uint32_t corner[8];
    Cell(const EncodeTask& task, const Group& group) {
        alignas(64) float place[3][GROUP];
        uint32_t n = task.nodes;
        for (int a = 0; a < 3; ++a) {
            for (int i = 0; i < GROUP; ++i) place[a][i] = task.corners[3 * group.rows[i] + a];
            for (int v = 0; v < GROUP; v += LANES) {
                Vec inside = load(group.unit[a] + v) * task.counts[a] - load(place[a] + v);
                store(place[a] + v, clamped(inside) * float(n - 1));
            }
        }
        set(place, n - 2, [&](int at, UIntVec x, UIntVec y, UIntVec z) {
            UIntVec line = (x * n + y) * n + z;
            for (int i = 0; i < LANES; ++i) first[at + i] = group.rows[at + i] * n * n * n + line[i];
        });
        for (uint32_t c = 0; c < 8; ++c) corner[c] = (c & 4 ? n * n : 0) + (c & 2 ? n : 0) + (c & 1);
    }
    int64_t line(int c, int i) const { return first[i] + corner[c]; }
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
    alignas(64) uint32_t lines[8][GROUP];
    Nodes(const Level& level, const Group& group) {
        alignas(64) float place[3][GROUP];
        for (int a = 0; a < 3; ++a)
            for (int v = 0; v < GROUP; v += LANES)
                store(place[a] + v, clamped(load(group.unit[a] + v)) * float(level.resolution - 1) + 0.5f);
        uint32_t n = level.resolution, entries = level.entries;
        uint32_t factors[3] = {1, level.dense ? n : 2654435761u, level.dense ? n * n : 805459861u};
        set(place, level.resolution, [&](int to, UIntVec x, UIntVec y, UIntVec z) {
            UIntVec at[2][3] = {{x, y * factors[1], z * factors[2]}};
            for (int a = 0; a < 3; ++a) at[1][a] = at[0][a] + factors[a];
            for (int c = 0; c < 8; ++c) {
                UIntVec a = at[c >> 2][0], b = at[c >> 1 & 1][1], d = at[c & 1][2], line = a + b + d;
                line = level.dense ? line - (entries & (UIntVec)(line >= entries)) : (a ^ b ^ d) & (entries - 1);
                *reinterpret_cast<UIntVec*>(lines[c] + to) = line;
            }
        });
    }
    int64_t line(int c, int i) const { return lines[c][i]; }
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

typedef float Four __attribute__((vector_size(16)));
typedef float UnalignedFour __attribute__((vector_size(16), aligned(4)));
typedef double Two __attribute__((vector_size(16)));
typedef int32_t FourInt __attribute__((vector_size(16)));

inline double two_floats(const float* p) {
    double both;
    std::memcpy(&both, p, sizeof(both));
    return both;
}

// out[f, point] = sum over corners of weight * line[f], of all points of a group; of one at a time,
template <class At, class N>
inline void weighted_sums(const float* table, const At& at, N n, float* out) {
    for (int i = 0; i < GROUP; ++i) {
        float sum[std::is_same_v<N, int> ? MOST_FEATURES : 8];
        for (int f = 0; f < n; ++f) sum[f] = 0.0f;
        for (int c = 0; c < 8; ++c) {
            const float* line = table + at.line(c, i) * n;
            for (int f = 0; f < n; ++f) sum[f] += at.weights[c][i] * line[f];
        }
        for (int f = 0; f < n; ++f) out[f * TILE + i] = sum[f];
    }
}

// of one with four features in a vector,
template <class At>
inline void weighted_sums(const float* table, const At& at, std::integral_constant<int, 4>, float* out) {
    for (int i = 0; i < GROUP; ++i) {
        Four sum = {};
        for (int c = 0; c < 8; ++c)
            sum += at.weights[c][i] * *reinterpret_cast<const UnalignedFour*>(table + at.line(c, i) * 4);
        for (int f = 0; f < 4; ++f) out[f * TILE + i] = sum[f];
    }
}

// of two with two.
template <class At>
inline void weighted_sums(const float* table, const At& at, std::integral_constant<int, 2>, float* out) {
    for (int i = 0; i < GROUP; i += 2) {
        Four sum = {};
        for (int c = 0; c < 8; ++c) {
            Two lines = {two_floats(table + at.line(c, i) * 2), two_floats(table + at.line(c, i + 1) * 2)};
            float a = at.weights[c][i], b = at.weights[c][i + 1];
            sum += Four{a, a, b, b} * (Four)lines;
        }
        for (int f = 0; f < 2; ++f) out[f * TILE + i] = sum[f], out[f * TILE + i + 1] = sum[2 + f];
    }
}

// table[line[f]] += weight * d[point * stride + f]
template <class At>
inline void spread(float* table, const At& at, int features, int count, const float* d, int stride) {
    with_features(features, [&](auto n) {
        for (int i = 0; i < count; ++i, d += stride)
            for (int c = 0; c < 8; ++c) {
                float* line = table + at.line(c, i) * n;
                float weight = at.weights[c][i];
                for (int f = 0; f < n; ++f) line[f] += weight * d[f];
            }
    });
}

// Lines of frequencies of a group, in the local and (if not null) the global inputs.
void put_frequencies(const EncodeTask& task, const Group& group, float* local, float* global) {
    int of_local = 3 * task.local_frequencies, of_global = global ? 3 * task.global_frequencies : 0;
    for (int p = 0; p < 3; ++p) {
        std::copy_n(group.unit[p], GROUP, local + p * TILE);
        if (global) std::copy_n(group.unit[p], GROUP, global + p * TILE);
    }
    for (int p = 0; p < std::max(of_local, of_global); ++p)
        for (int v = 0; v < GROUP; v += LANES) {
            Vec sine, cosine;
            sine_cosine(load(group.unit[p % 3] + v) * float(1 << p / 3), sine, cosine);
            if (p < of_local) store(local + (3 + p) * TILE + v, sine), store(local + (3 + of_local + p) * TILE + v, cosine);
            if (p >= of_global) continue;
            store(global + (3 + p) * TILE + v, sine), store(global + (3 + of_global + p) * TILE + v, cosine);
        }
}

// Asks for the lines that a group is going to read: they come while something else is computed.
template <class At>
inline void fetch(const float* table, const At& at, int features) {
    for (int c = 0; c < 8; ++c)
        for (int i = 0; i < GROUP; ++i) __builtin_prefetch(table + at.line(c, i) * features);
}

// Inputs of a group, in lines of TILE; `global` may be null. Each level's lines are asked for before those of the level
// before it are read.
void fill(const EncodeTask& task, const std::vector<Level>& levels, const Group& group, float* local, float* global) {
    int features = task.grid_features, number = global ? int(levels.size()) : 0;
    auto table = [&](int level) { return task.table + levels[level].first * task.level_features; };
    std::optional<Cell> cell;
    std::optional<Nodes> nodes[2];
    auto look_ahead = [&](int level) {
        if (level < number) fetch(table(level), nodes[level % 2].emplace(levels[level], group), task.level_features);
    };
    if (task.nodes) fetch(task.grids, cell.emplace(task, group), features);
    look_ahead(0);
    put_frequencies(task, group, local + features * TILE,
                    global ? global + (task.grid_in_global ? features : 0) * TILE : nullptr);
    if (cell) with_features(features, [&](auto n) { weighted_sums(task.grids, *cell, n, local); });
    if (global && task.grid_in_global) {
        for (int f = 0; f < features; ++f) std::copy_n(local + f * TILE, GROUP, global + f * TILE);
        global += features * TILE;
    }
    for (int level = 0; level < number; ++level) {
        float* to = global + (3 + 6 * task.global_frequencies + level * task.level_features) * TILE;
        look_ahead(level + 1);
        with_features(task.level_features, [&](auto n) { weighted_sums(table(level), *nodes[level % 2], n, to); });
    }
}

int global_gradients(const EncodeTask& task) {
    return (task.grid_in_global ? task.grid_features : 0) + task.levels * task.level_features;
}

void learn_row(const EncodeTask& task, int64_t row) {
    int features = task.grid_features, stride = global_gradients(task);
    float d[GROUP * MOST_FEATURES];
    int64_t size = int64_t(task.nodes) * task.nodes * task.nodes * features;
    std::fill_n(task.dgrids + row * size, size, 0.0f);
    for (int64_t first = task.offsets[row]; first < task.offsets[row + 1]; first += GROUP) {
        Group group(task, first, int(std::min<int64_t>(GROUP, task.offsets[row + 1] - first)), row);
        for (int i = 0; i < group.count; ++i)
            for (int f = 0; f < features; ++f)
                d[i * features + f] = task.dlocal_x[(first + i) * features + f] +
                                      (task.grid_in_global ? task.dglobal_x[(first + i) * stride + f] : 0.0f);
        spread(task.dgrids, Cell(task, group), features, group.count, d, features);
    }
}

void learn_level(const EncodeTask& task, const Level& level, int number) {
    int stride = global_gradients(task);
    const float* d = task.dglobal_x + stride - (task.levels - number) * task.level_features;
    float* table = task.dtable + level.first * task.level_features;
    std::fill_n(table, int64_t(level.entries) * task.level_features, 0.0f);
    int64_t row = 0;
    for (int64_t first = 0; first < task.points; first += GROUP) {
        Group group(task, first, int(std::min<int64_t>(GROUP, task.points - first)), row);
        row = group.rows[GROUP - 1];
        spread(table, Nodes(level, group), task.level_features, group.count, d + first * stride, stride);
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

// `FillTile` of products.h.
extern "C" void lg_field_encode_tile(const void* task, int64_t row, int64_t first, int count, float* x, float* global_x) {
    const auto& t = *static_cast<const EncodeTask*>(task);
    std::vector<Level> levels = levels_of(t);
    for (int i = 0; i < count; i += GROUP)
        fill(t, levels, Group(t, first + i, std::min(GROUP, count - i), row), x + i, global_x ? global_x + i : nullptr);
}

extern "C" void lg_field_encode(const EncodeTask* t) {
    std::vector<Level> levels = levels_of(*t);
    in_shares((t->points + POINTS - 1) / POINTS, t->threads, [&](int64_t share) {
        std::vector<float> room(size_t(t->local_in + t->global_in) * TILE + LANES);
        float* x = room.data() + (-(uintptr_t)room.data() / sizeof(float)) % LANES;
        float* global_x = t->global_x ? x + t->local_in * TILE : nullptr;
        int64_t first = share * POINTS, last = std::min(first + POINTS, t->points);
        int64_t row = std::upper_bound(t->offsets, t->offsets + t->rows + 1, first) - t->offsets - 1;
        for (; first < last; first += GROUP) {
            Group group(*t, first, int(std::min<int64_t>(GROUP, last - first)), row);
            fill(*t, levels, group, x, global_x);
            scatter(x, t->local_x + first * t->local_in, t->local_in, group.count);
            if (global_x) scatter(global_x, t->global_x + first * t->global_in, t->global_in, group.count);
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
