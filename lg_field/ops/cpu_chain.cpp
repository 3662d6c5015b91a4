// The Local-Global chain on a CPU as one kernel: forward, backward and, for a training step, the loss in between.
//
// Points go through in tiles of up to TILE points of one row. A tile stays on chip through all layers: nothing but
// inputs, outputs and gradients touches memory, whatever the number of points.
//
// Layout. Activations of a tile are feature-major: one line of TILE floats per feature, points in the vector lanes, so
// that no lane is wasted whatever the widths are. A layer's weight (fan_in, fan_out) and its bias are one matrix with
// fan_in + 1 rows, and every input ends with a line of ones: the bias costs no code, in gradients neither.
// Local and global features of a layer lie one after the other, [l; g; 1], as the concat merge reads them.
//
// Arithmetic. Two products, both blocked so that the sums stay in registers:
//   multiply  out[n, t] = sum_k P[k, n] in[k, t]     apply a layer (P = W), or pull a gradient back (P = W^T)
//   outer     G[i, o] += sum_t in[i, t] d[t, o]      gradient of a weight; d is transposed once, outputs in the lanes
//
// Backward, for out = chain(x) and a gradient dy of the outputs. w0 is folded into the weights: an activation is
// sin(p) of p = w0 (W^T x + b), its slope cos(p) is kept from the forward pass over the same tile; for relu 0 or 1.
// (The forward pass counts p in half turns, q = p / pi, where reducing it to one half turn is exact and cheap.)
//   dm = W_out dy                            dg = V_out dy (0 without a shared head)
//   for k = depth-1 ... 0:
//     concat:  dP = dm * slope;  [dl; dg] = [0; dg] + W dP;  dW += [l; g; 1] dP^T
//     add:     dP = dm * slope;  dl = dm;  dg += W_k dP;     dW_k += [g; 1] dP^T
//     [dl; dg] *= slope;  dW_k += [m_{k-1}; 1] dl^T;  dV_k += [g_{k-1}; 1] dg^T;  dm = W_k dl;  dg = V_k dg
// Lanes without a point carry dy = 0, hence add nothing. Gradients of folded weights are multiplied by w0 at the end.
//
// Threads take shares of the points, cut by the number of points alone. What a share adds to shared gradients, and to
// the row it begins inside of, is kept aside until all shares before it have added theirs; rows that begin in it are its
// own. So results do not depend on the number of threads, to the bit.

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

// -- vectors

#if defined(__AVX512F__)
constexpr int LANES = 16, MULTIPLY_ROWS = 6, MULTIPLY_VECS = 4, OUTER_ROWS = 8, OUTER_VECS = 3;  // 32 registers
#elif defined(__AVX__)
constexpr int LANES = 8, MULTIPLY_ROWS = 6, MULTIPLY_VECS = 2, OUTER_ROWS = 6, OUTER_VECS = 2;  // 16 registers
#elif defined(__aarch64__)
constexpr int LANES = 4, MULTIPLY_ROWS = 6, MULTIPLY_VECS = 4, OUTER_ROWS = 6, OUTER_VECS = 4;  // 32 registers
#else
constexpr int LANES = 4, MULTIPLY_ROWS = 6, MULTIPLY_VECS = 2, OUTER_ROWS = 6, OUTER_VECS = 2;
#endif
constexpr int TILE = 64, ALIGNMENT = 64, SHARE = 1024, MOST_SHARES = 64;

typedef float Vec __attribute__((vector_size(4 * LANES), may_alias));
typedef float UnalignedVec __attribute__((vector_size(4 * LANES), may_alias, aligned(4)));
typedef int32_t IntVec __attribute__((vector_size(4 * LANES), may_alias));

inline Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }
inline Vec load_any(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
inline void store_any(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }
constexpr int padded(int n) { return (n + LANES - 1) / LANES * LANES; }

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, IntVec{__VA_ARGS__})
#endif

#define UNROLL _Pragma("GCC unroll 16")

// Exchanges the off-diagonal blocks of size S in all blocks of size 2 S of a LANES x LANES matrix.
template <int S, int... J>
inline void exchange(Vec (&rows)[LANES], std::integer_sequence<int, J...>) {
    UNROLL for (int i = 0; i < LANES; ++i)
        if (!(i & S)) {
            Vec a = rows[i], b = rows[i + S];
            rows[i] = SHUFFLE(a, b, (J & S ? J - S + LANES : J)...);
            rows[i + S] = SHUFFLE(a, b, (J & S ? J + LANES : J + S)...);
        }
}

template <int S = 1>
inline void transpose(Vec (&rows)[LANES]) {
    exchange<S>(rows, std::make_integer_sequence<int, LANES>());
    if constexpr (2 * S < LANES) transpose<2 * S>(rows);
}

// sin(pi q) and cos(pi q) to about 1e-7: q = r + k, |r| <= 1/2, exactly; sin(pi q) = (-1)^k sin(pi r). |q| < 2^22.
inline void sine_cosine(Vec q, Vec& sine, Vec& cosine) {
    constexpr float ROUND = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
    Vec k = q + ROUND, r = q - (k - ROUND), r2 = r * r;
    Vec s = 3.141592503f + r2 * (-5.167706966f + r2 * (2.550031424f + r2 * (-0.5980451703f + r2 * 0.07722012699f)));
    Vec c = 1.0f + r2 * (-4.934795380f + r2 * (4.058451176f + r2 * (-1.332093835f + r2 * 0.2200806439f)));
    IntVec sign = (IntVec)k << 31;
    sine = (Vec)((IntVec)(r * s) ^ sign);
    cosine = (Vec)((IntVec)c ^ sign);
}

// -- products

// Blocks of nearly equal size, none larger than `most`: block b of n things is [first(b), first(b + 1)).
struct Split {
    int n, blocks;
    Split(int n, int most) : n(n), blocks((n + most - 1) / most) {}
    int first(int b) const { return int(int64_t(n) * b / blocks); }
};

// R lines of out (n, TILE), V vectors of points.
template <int R, int V>
struct MultiplyBlock {
    static void run(const float* weights, const float* in, float* out, int depth, bool add) {
        Vec sum[R][V];
        UNROLL for (int r = 0; r < R; ++r)
            UNROLL for (int v = 0; v < V; ++v) sum[r][v] = add ? load(out + r * TILE + v * LANES) : Vec{};
        for (int k = 0; k < depth; ++k, weights += R, in += TILE)
            UNROLL for (int r = 0; r < R; ++r)
                UNROLL for (int v = 0; v < V; ++v) sum[r][v] += weights[r] * load(in + v * LANES);
        UNROLL for (int r = 0; r < R; ++r)
            UNROLL for (int v = 0; v < V; ++v) store(out + r * TILE + v * LANES, sum[r][v]);
    }
};

// R lines of sums (n, stride), V vectors of outputs.
template <int R, int V>
struct OuterBlock {
    static void run(const float* in, const float* d, float* sums, int stride, int points) {
        Vec sum[R][V];
        UNROLL for (int r = 0; r < R; ++r)
            UNROLL for (int v = 0; v < V; ++v) sum[r][v] = load(sums + r * stride + v * LANES);
        for (int t = 0; t < points; ++t, d += stride)
            UNROLL for (int r = 0; r < R; ++r)
                UNROLL for (int v = 0; v < V; ++v) sum[r][v] += in[r * TILE + t] * load(d + v * LANES);
        UNROLL for (int r = 0; r < R; ++r)
            UNROLL for (int v = 0; v < V; ++v) store(sums + r * stride + v * LANES, sum[r][v]);
    }
};

// The block function for a size known at run time, at most R x V.
template <template <int, int> class Block, int R, int V>
auto pick(int rows, int vecs) -> decltype(&Block<R, V>::run) {
    if constexpr (R > 1)
        if (rows < R) return pick<Block, R - 1, V>(rows, vecs);
    if constexpr (V > 1)
        if (vecs < V) return pick<Block, R, V - 1>(rows, vecs);
    return &Block<R, V>::run;
}

// out (n, TILE) (+)= P^T in (depth, TILE), P packed: for each block of outputs its columns, k-major.
void multiply(const float* packed, const float* in, float* out, int depth, int n, int vecs, bool add) {
    Split rows(n, MULTIPLY_ROWS);
    for (int v = 0; v < vecs; v += MULTIPLY_VECS)
        for (int b = 0; b < rows.blocks; ++b) {
            int first = rows.first(b), count = rows.first(b + 1) - first;
            auto block = pick<MultiplyBlock, MULTIPLY_ROWS, MULTIPLY_VECS>(count, std::min(MULTIPLY_VECS, vecs - v));
            block(packed + first * depth, in + v * LANES, out + first * TILE + v * LANES, depth, add);
        }
}

// sums (n, stride) += in (n, TILE) d (points, stride)
void outer(const float* in, const float* d, float* sums, int n, int stride, int points) {
    Split rows(n, OUTER_ROWS), columns(stride / LANES, OUTER_VECS);
    for (int c = 0; c < columns.blocks; ++c)
        for (int b = 0; b < rows.blocks; ++b) {
            int first = rows.first(b), at = columns.first(c) * LANES;
            auto block = pick<OuterBlock, OUTER_ROWS, OUTER_VECS>(rows.first(b + 1) - first,
                                                                  columns.first(c + 1) - columns.first(c));
            block(in + first * TILE, d + at, sums + first * stride + at, stride, points);
        }
}

// -- between memory (points, n) and tiles (n, TILE)

void gather(const float* points, float* tile, int n, int count) {
    for (int t = 0; t < count; t += LANES) {
        bool whole = t + LANES <= count && n >= LANES;
        for (int f = 0; whole && f < n; f += LANES) {
            int at = std::min(f, n - LANES);
            Vec rows[LANES];
            for (int i = 0; i < LANES; ++i) rows[i] = load_any(points + (t + i) * n + at);
            transpose(rows);
            for (int i = 0; i < LANES; ++i) store(tile + (at + i) * TILE + t, rows[i]);
        }
        for (int i = t; !whole && i < t + LANES; ++i)
            for (int f = 0; f < n; ++f) tile[f * TILE + i] = i < count ? points[i * n + f] : 0.0f;
    }
}

void scatter(const float* tile, float* points, int n, int count) {
    for (int t = 0; t < count; t += LANES) {
        bool whole = t + LANES <= count && n >= LANES;
        for (int f = 0; whole && f < n; f += LANES) {
            int at = std::min(f, n - LANES);
            Vec rows[LANES];
            for (int i = 0; i < LANES; ++i) rows[i] = load(tile + (at + i) * TILE + t);
            transpose(rows);
            for (int i = 0; i < LANES; ++i) store_any(points + (t + i) * n + at, rows[i]);
        }
        for (int i = t; !whole && i < std::min(t + LANES, count); ++i)
            for (int f = 0; f < n; ++f) points[i * n + f] = tile[f * TILE + i];
    }
}

// d *= slope (unless null), and `turned` (TILE, padded(n)) = the result transposed; padding holds whatever.
void multiply_slope(float* d, const float* slope, float* turned, int n, int vecs) {
    for (int f = 0; f < n; f += LANES)
        for (int v = 0; v < vecs; ++v) {
            Vec rows[LANES];
            for (int i = 0; i < LANES; ++i) {
                int at = (f + i) * TILE + v * LANES;
                rows[i] = f + i < n ? load(d + at) : Vec{};
                if (slope && f + i < n) store(d + at, rows[i] *= load(slope + at));
            }
            transpose(rows);
            for (int i = 0; i < LANES; ++i) store(turned + (v * LANES + i) * padded(n) + f, rows[i]);
        }
}

// -- the chain

class Arena {
  public:
    float* floats(size_t n) {
        size_t bytes = (n * sizeof(float) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        blocks_.emplace_back(static_cast<float*>(::operator new(bytes, std::align_val_t(ALIGNMENT))));
        std::memset(blocks_.back().get(), 0, bytes);
        return blocks_.back().get();
    }
    // `lines` lines of TILE; with `ones`, one more that holds ones.
    float* tile(int lines, bool ones = false) {
        float* p = floats(size_t(lines + ones) * TILE);
        if (ones) std::fill_n(p + size_t(lines) * TILE, TILE, 1.0f);
        return p;
    }

  private:
    struct Free {
        void operator()(float* p) const { ::operator delete(p, std::align_val_t(ALIGNMENT)); }
    };
    std::vector<std::unique_ptr<float, Free>> blocks_;
};

struct Layer {
    int in, out;
    float scale, half_turns;  // w0 and w0 / pi of a sine layer, else 1
    float *ahead, *back;      // packed for `multiply`
    float* sums;              // gradient of the scaled weights and bias, (in + 1, padded(out)); null if not wanted

    // w0: of a sine layer; 0 for others.
    Layer(int in, int out, float w0, bool learns, Arena& arena)
        : in(in), out(out), scale(w0 > 0 ? w0 : 1.0f), half_turns(w0 > 0 ? w0 * 0.318309886f : 1.0f) {
        ahead = arena.floats(size_t(in + 1) * out);
        back = learns ? arena.floats(size_t(in) * out) : nullptr;
        sums = nullptr;
    }
    void want_sums(Arena& arena) { sums = arena.floats(size_t(in + 1) * padded(out)); }

    void set(const float* weight, const float* bias) {
        pack(ahead, in + 1, out, [&](int k, int n) { return half_turns * (k < in ? weight[k * out + n] : bias[n]); });
        if (back) pack(back, out, in, [&](int k, int n) { return scale * weight[n * out + k]; });
    }
    void apply(const float* x, float* y, int vecs, bool add = false) const {
        multiply(ahead, x, y, in + 1, out, vecs, add);
    }
    void pull(const float* dy, float* dx, int vecs, bool add = false) const {
        multiply(back, dy, dx, out, in, vecs, add);
    }
    void learn(const float* x, const float* turned_dy, int points) const {
        if (sums) outer(x, turned_dy, sums, in + 1, padded(out), points);
    }
    // Adds the sums to the gradients (where wanted) and sets them to 0.
    void hand_over_sums(float* weight, float* bias) const {
        if (!sums) return;
        for (int i = 0; i <= in; ++i) {
            float* to = i < in ? weight ? weight + i * out : nullptr : bias;
            for (int o = 0; to && o < out; ++o) to[o] += scale * sums[i * padded(out) + o];
        }
        std::memset(sums, 0, sizeof(float) * (in + 1) * padded(out));
    }

  private:
    template <class Value>
    static void pack(float* to, int depth, int n, Value value) {
        Split rows(n, MULTIPLY_ROWS);
        for (int b = 0; b < rows.blocks; ++b)
            for (int k = 0; k < depth; ++k)
                for (int j = rows.first(b); j < rows.first(b + 1); ++j) *to++ = value(k, j);
    }
};

}  // namespace

// What to do. Pointers to tensors that are not wanted are null. Mirrored in cpu.py.
struct Task {
    int64_t points, rows;
    int32_t in, global_in, out, local_width, global_width, depth, sine, concat, head, threads;
    float w0, loss_scale;
    const float *x, *global_x, *table;  // (points, in), (points, global_in), (rows, K)
    const int64_t* offsets;             // (rows + 1)
    const float* const* shared;         // as in ChainShape.shared_shapes
    float* y;                           // result (points, out)
    const float *dy, *target;           // backward from a gradient, or from loss_scale * sum (y - target)^2
    float *dx, *dglobal_x;              // overwritten
    float* dtable;                      // added to
    float* const* dshared;              // added to
    double loss;                        // result
};

namespace {

// The shared layers in the order of `Task.shared`: global_0..., merge (or merge_0...), head.
std::vector<Layer> shared_layers(const Task& task, bool learns, Arena& arena) {
    int h = task.local_width, g = task.global_width;
    float w0 = task.sine ? task.w0 : 0.0f;
    std::vector<Layer> layers;
    for (int k = 0; g && k < task.depth; ++k) layers.emplace_back(k ? g : task.global_in, g, w0, learns, arena);
    if (h && g && task.concat) layers.emplace_back(h + g, h, w0, learns, arena);
    for (int k = 0; h && g && !task.concat && k < task.depth; ++k) layers.emplace_back(g, h, w0, learns, arena);
    if (task.head) layers.emplace_back(g, task.out, 0.0f, learns, arena);
    return layers;
}

// One thread's share of the work.
class Worker {
  public:
    Worker(const Task& task, const std::vector<Layer>& shared)
        : task_(task), h_(task.local_width), g_(task.global_width), learns_(task.dy || task.target), shared_(shared) {
        float w0 = task.sine ? task.w0 : 0.0f;
        for (int k = 0; h_ && k <= task.depth; ++k)
            local_.emplace_back(k ? h_ : task.in, k < task.depth ? h_ : task.out, k < task.depth ? w0 : 0.0f, learns_,
                                arena_);
        for (const Layer& layer : local_) row_size_ += size_t(layer.in + 1) * layer.out;
        for (size_t i = 0; task.dshared && i < shared_.size(); ++i)
            if (task.dshared[2 * i] || task.dshared[2 * i + 1]) shared_[i].want_sums(arena_);
        if (task.dtable) {
            for (Layer& layer : local_) layer.want_sums(arena_);
            begun_elsewhere_ = arena_.floats(row_size_);
        }
        allocate_tiles();
    }

    // Points [first, last), and the gradients of the rows that begin there.
    void run(int64_t first, int64_t last) {
        const int64_t *offsets = task_.offsets, *end = offsets + task_.rows;
        int64_t row = std::lower_bound(offsets, end, first) - offsets;
        inner_row_ = offsets[row] > first ? row - 1 : -1;
        if (inner_row_ >= 0) run_row(inner_row_, first, std::min(offsets[row], last), begun_elsewhere_);
        for (; row < task_.rows && (offsets[row] < last || last == task_.points); ++row)
            run_row(row, offsets[row], std::min(offsets[row + 1], last),
                    task_.dtable ? task_.dtable + row * row_size_ : nullptr);
    }

    // Adds what `run` has kept aside.
    void finish(double& loss) {
        for (size_t i = 0; begun_elsewhere_ && inner_row_ >= 0 && i < row_size_; ++i)
            task_.dtable[inner_row_ * row_size_ + i] += std::exchange(begun_elsewhere_[i], 0.0f);
        for (size_t i = 0; task_.dshared && i < shared_.size(); ++i)
            shared_[i].hand_over_sums(task_.dshared[2 * i], task_.dshared[2 * i + 1]);
        loss += std::exchange(loss_, 0.0);
    }

  private:
    void allocate_tiles() {
        bool merges = h_ && g_;
        x_ = arena_.tile(task_.in, true);
        global_x_ = arena_.tile(task_.global_in, true);
        for (int k = 0; k < task_.depth; ++k) {
            bool reuse = !learns_ && k >= 2;  // without a backward pass two layers take turns
            features_.push_back(reuse ? features_[k - 2] : arena_.tile(h_ + g_, true));
            merged_.push_back(!merges ? features_[k] : reuse ? merged_[k - 2] : arena_.tile(h_, true));
            slopes_.push_back(learns_ ? arena_.tile(h_ + g_) : nullptr);
            merge_slopes_.push_back(learns_ && merges ? arena_.tile(h_) : nullptr);
        }
        y_ = arena_.tile(task_.out);
        if (!learns_) return;
        int widest = std::max({h_, g_, int(task_.out)});
        turned_ = arena_.floats(size_t(TILE) * padded(widest));
        dy_ = arena_.tile(task_.out);
        dmerged_ = arena_.tile(h_);
        for (float*& d : dfeatures_) d = arena_.tile(h_ + g_);
        dx_ = arena_.tile(std::max(task_.in, task_.global_in));
    }

    // Layers of the shared part.
    Layer& global_layer(int k) { return shared_[k]; }
    Layer& merge_layer(int k) { return shared_[task_.depth + (task_.concat ? 0 : k)]; }
    Layer& head() { return shared_.back(); }

    void run_row(int64_t row, int64_t first, int64_t last, float* drow) {
        const float* weights = task_.table + row * row_size_;
        for (Layer& layer : local_) {
            if (first < last) layer.set(weights, weights + layer.in * layer.out);
            weights += (layer.in + 1) * layer.out;
        }
        for (; first < last; first += TILE) run_tile(first, int(std::min<int64_t>(TILE, last - first)));
        if (!drow) return;
        for (Layer& layer : local_) {
            layer.hand_over_sums(drow, drow + layer.in * layer.out);
            drow += (layer.in + 1) * layer.out;
        }
    }

    void run_tile(int64_t first, int count) {
        int vecs = (count + LANES - 1) / LANES;
        if (h_) gather(task_.x + first * task_.in, x_, task_.in, count);
        if (g_) gather(task_.global_x + first * task_.global_in, global_x_, task_.global_in, count);
        forward(vecs);
        if (task_.y) scatter(y_, task_.y + first * task_.out, task_.out, count);
        if (!learns_) return;
        gather((task_.dy ? task_.dy : task_.target) + first * task_.out, dy_, task_.out, count);
        if (task_.target) compare(count, vecs);
        backward(first, count, vecs);
    }

    // dy = gradient of the squared error; before, dy holds the target.
    void compare(int count, int vecs) {
        for (int o = 0; o < task_.out; ++o)
            for (int t = 0; t < vecs * LANES; ++t) {
                float error = t < count ? y_[o * TILE + t] - dy_[o * TILE + t] : 0.0f;
                loss_ += double(error) * error * task_.loss_scale;
                dy_[o * TILE + t] = 2.0f * task_.loss_scale * error;
            }
    }

    void forward(int vecs) {
        const float *m = x_, *g = global_x_;
        for (int k = 0; k < task_.depth; ++k) {
            float *l = features_[k], *next_g = l + h_ * TILE;
            if (h_) local_[k].apply(m, l, vecs);
            if (g_) global_layer(k).apply(g, next_g, vecs);
            activate(l, slopes_[k], h_ + g_, vecs);
            m = merged_[k], g = next_g;
            if (!h_ || !g_) continue;
            merge_layer(k).apply(task_.concat ? l : g, merged_[k], vecs);
            activate(merged_[k], merge_slopes_[k], h_, vecs);
            for (int i = 0; !task_.concat && i < h_ * TILE; ++i) merged_[k][i] += l[i];
        }
        if (h_) local_.back().apply(m, y_, vecs);
        if (task_.head) head().apply(g, y_, vecs, h_ > 0);
    }

    void activate(float* x, float* slope, int n, int vecs) {
        for (int f = 0; f < n; ++f)
            for (int v = 0; v < vecs; ++v) {
                int at = f * TILE + v * LANES;
                Vec value = load(x + at), derivative;
                if (task_.sine) {
                    sine_cosine(value, value, derivative);
                } else {
                    IntVec positive = value > 0.0f;
                    value = (Vec)((IntVec)value & positive);
                    derivative = (Vec)((IntVec)(Vec{} + 1.0f) & positive);
                }
                store(x + at, value);
                if (slope) store(slope + at, derivative);
            }
    }

    void backward(int64_t first, int count, int vecs) {
        bool wants_global = g_ && (task_.dshared || task_.dglobal_x);
        float *dm = dmerged_, *d = dfeatures_[0], *next = dfeatures_[1];
        int last = task_.depth - 1;
        multiply_slope(dy_, nullptr, turned_, task_.out, vecs);
        if (h_) local_.back().learn(merged_[last], turned_, count), local_.back().pull(dy_, dm, vecs);
        if (task_.head && wants_global)
            head().learn(global_features(last), turned_, count), head().pull(dy_, d + h_ * TILE, vecs);
        else
            std::fill_n(d + h_ * TILE, g_ * TILE, 0.0f);
        for (int k = last; k >= 0; --k) {
            backward_merge(k, dm, d, count, vecs);
            if (h_) {
                multiply_slope(d, slopes_[k], turned_, h_, vecs);
                local_[k].learn(k ? merged_[k - 1] : x_, turned_, count);
                if (k) local_[k].pull(d, dm, vecs);
                else if (task_.dx) {
                    local_[0].pull(d, dx_, vecs);
                    scatter(dx_, task_.dx + first * task_.in, task_.in, count);
                }
            }
            if (wants_global) {
                float* dg = d + h_ * TILE;
                multiply_slope(dg, slopes_[k] + h_ * TILE, turned_, g_, vecs);
                global_layer(k).learn(k ? global_features(k - 1) : global_x_, turned_, count);
                if (k) global_layer(k).pull(dg, next + h_ * TILE, vecs);
                else if (task_.dglobal_x) {
                    global_layer(0).pull(dg, dx_, vecs);
                    scatter(dx_, task_.dglobal_x + first * task_.global_in, task_.global_in, count);
                }
            }
            std::swap(d, next);
        }
    }

    float* global_features(int k) { return features_[k] + h_ * TILE; }

    // From the gradient of the merged features to that of local and global ones: dl is set, dg added to.
    void backward_merge(int k, float* dm, float* d, int count, int vecs) {
        if (!h_) return;
        if (!g_ || !task_.concat) std::copy_n(dm, h_ * TILE, d);
        if (!g_) return;
        multiply_slope(dm, merge_slopes_[k], turned_, h_, vecs);
        merge_layer(k).learn(task_.concat ? features_[k] : global_features(k), turned_, count);
        if (task_.concat) std::fill_n(d, h_ * TILE, 0.0f);
        merge_layer(k).pull(dm, task_.concat ? d : d + h_ * TILE, vecs, true);
    }

    const Task& task_;
    int h_, g_;
    bool learns_;
    Arena arena_;
    std::vector<Layer> shared_, local_;
    size_t row_size_ = 0;
    float* begun_elsewhere_ = nullptr;
    int64_t inner_row_ = -1;
    double loss_ = 0.0;
    float *x_, *global_x_, *y_;                                                      // forward, and then backward:
    float *dy_, *dmerged_, *dfeatures_[2], *dx_, *turned_;
    std::vector<float*> features_, merged_, slopes_, merge_slopes_;  // of each layer
};

// Where share i of n begins: at a row's begin or whole tiles after it.
int64_t cut(const Task& task, int i, int n) {
    int64_t point = task.points * i / n;
    if (point == task.points) return point;
    int64_t begin = *(std::upper_bound(task.offsets, task.offsets + task.rows, point) - 1);
    return begin + (point - begin) / TILE * TILE;
}

void run(Task& task) {
    Arena arena;
    bool learns = task.dy || task.target;
    std::vector<Layer> shared = shared_layers(task, learns, arena);
    for (size_t i = 0; i < shared.size(); ++i) shared[i].set(task.shared[2 * i], task.shared[2 * i + 1]);
    int64_t everything[] = {0, task.points};
    if (!task.local_width) task.rows = 1, task.offsets = everything;
    int shares = int(std::clamp<int64_t>(task.points / SHARE, 1, MOST_SHARES));
    std::vector<std::unique_ptr<Worker>> workers;
    for (int i = 0; i < std::min(shares, task.threads); ++i) workers.push_back(std::make_unique<Worker>(task, shared));

    std::atomic<int> next{0};
    std::mutex mutex;
    std::condition_variable turn;
    int finished = 0;
    auto work = [&](Worker* worker) {
        for (int share; (share = next++) < shares;) {
            worker->run(cut(task, share, shares), cut(task, share + 1, shares));
            if (!learns) continue;
            std::unique_lock<std::mutex> lock(mutex);
            turn.wait(lock, [&] { return finished == share; });
            worker->finish(task.loss);
            ++finished;
            turn.notify_all();
        }
    };
    task.loss = 0.0;
    std::vector<std::thread> others;
    try {
        for (size_t i = 1; i < workers.size(); ++i) others.emplace_back(work, workers[i].get());
    } catch (const std::system_error&) {  // no more threads: those there are do it all
    }
    work(workers[0].get());
    for (std::thread& other : others) other.join();
}

}  // namespace

// 0, or 1 if memory ran out.
extern "C" int lg_field_chain(Task* task) {
    try {
        run(*task);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}
