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
// the row it begins inside of, is kept aside until all shares before it have added theirs; rows that begin in it are
// its own. So results do not depend on the number of threads, to the bit.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "layers.h"
#include "shares.h"

namespace {

constexpr int SHARE = 256;  // points in a share, at least
constexpr int MOST_SHARES = 64;

}  // namespace

// The activations this kernel knows: `Activation.kernel_code` of activations.py.
enum Activation : int32_t { RELU = 0, SINE = 1 };

// What to do. Pointers to tensors that are not wanted are null. Mirrored in kernel.py, which compares ABI and size:
// whoever changes a member's name, place, type or meaning counts ABI up, here and there.
constexpr int32_t ABI = 5;
struct Task {
    int64_t points, rows;
    int32_t in, global_in, out, local_width, global_width, depth, activation, concat, head, threads;
    float w0, loss_scale;
    const float *x, *global_x, *table;  // (points, in), (points, global_in), (rows, K)
    const int64_t* offsets;             // (rows + 1)
    const int64_t* index;               // (points): line of x and global_x of each; null: they have no others
    const float* const* shared;         // as in ChainSizes.shared_shapes
    float* y;                           // result (points, out)
    const float *dy, *target;           // backward from a gradient, or from loss_scale * sum (y - target)^2
    float *dx, *dglobal_x;              // overwritten
    float* dtable;                      // overwritten
    float* const* dshared;              // added to
    // Instead of x and global_x, of y, and of dy: null, or functions of other kernels and what they are told.
    FillTile fill;
    TakeTile take;
    AnswerTile answer;
    const void *fill_task, *take_task, *answer_task;
    // Of the inputs, lines that gradients are wanted of: so many first ones, and so many last ones.
    int32_t dx_first, dx_last, dglobal_first, dglobal_last;
    double loss;                        // result
};

namespace {

// The shared layers in the order of `Task.shared`: global_0..., merge (or merge_0...), head.
std::vector<Layer> shared_layers(const Task& task, bool learns, Arena& arena) {
    int h = task.local_width, g = task.global_width;
    float w0 = task.activation == SINE ? task.w0 : 0.0f;
    std::vector<Layer> layers;
    for (int k = 0; g && k < task.depth; ++k) layers.emplace_back(k ? g : task.global_in, g, w0, learns, arena);
    if (g && learns) layers[0].want_inputs(task.dglobal_first, task.dglobal_last);
    if (h && g && task.concat) layers.emplace_back(h + g, h, w0, learns, arena);
    for (int k = 0; h && g && !task.concat && k < task.depth; ++k) layers.emplace_back(g, h, w0, learns, arena);
    if (task.head) layers.emplace_back(g, task.out, 0.0f, learns, arena);
    return layers;
}

// One thread's share of the work.
class Worker {
  public:
    Worker(const Task& task, const std::vector<Layer>& shared)
        : task_(task), h_(task.local_width), g_(task.global_width), learns_(task.dy || task.target || task.answer), shared_(shared) {
        for (int k = 0; h_ && k <= task.depth; ++k) {
            bool last = k == task.depth;
            local_.emplace_back(k ? h_ : task.in, last ? task.out : h_, task.activation == SINE && !last ? task.w0 : 0.0f,
                                learns_, arena_);
        }
        if (h_ && learns_) local_[0].want_inputs(task.dx_first, task.dx_last);
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
        for (; row < task_.rows && (offsets[row] < last || last == task_.points); ++row) {
            float* drow = task_.dtable ? task_.dtable + row * row_size_ : nullptr;
            if (drow) std::fill_n(drow, row_size_, 0.0f);
            run_row(row, offsets[row], std::min(offsets[row + 1], last), drow);
        }
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
        dx_ = arena_.tile(task_.in);
        dglobal_x_ = arena_.tile(task_.global_in);
    }

    Layer& merge_layer(int k) { return shared_[task_.depth + (task_.concat ? 0 : k)]; }

    // What the points add to the gradients of a row is added to `drow`.
    void run_row(int64_t row, int64_t first, int64_t last, float* drow) {
        const float* weights = task_.table + row * row_size_;
        for (Layer& layer : local_) {
            if (first < last) layer.set(weights, weights + layer.in * layer.out);
            weights += (layer.in + 1) * layer.out;
        }
        for (; first < last; first += TILE) run_tile(row, first, int(std::min<int64_t>(TILE, last - first)));
        if (!drow) return;
        for (Layer& layer : local_) {
            layer.hand_over_sums(drow, drow + layer.in * layer.out);
            drow += (layer.in + 1) * layer.out;
        }
    }

    void run_tile(int64_t row, int64_t first, int count) {
        int vecs = (count + LANES - 1) / LANES;
        read(row, first, count);
        forward(vecs);
        if (task_.take) task_.take(task_.take_task, first, count, y_);
        if (task_.y) scatter(y_, task_.y + first * task_.out, task_.out, count);
        if (!learns_) return;
        if (task_.answer) task_.answer(task_.answer_task, first, count, y_, dy_);
        else gather((task_.dy ? task_.dy : task_.target) + first * task_.out, nullptr, dy_, task_.out, count);
        if (task_.target) compare(count, vecs);
        backward(count, vecs);
        int dx = task_.dx_first + task_.dx_last, dglobal = task_.dglobal_first + task_.dglobal_last;
        if (h_ && task_.dx) scatter(dx_, task_.dx + first * dx, dx, count);
        if (g_ && task_.dglobal_x) scatter(dglobal_x_, task_.dglobal_x + first * dglobal, dglobal, count);
    }

    void read(int64_t row, int64_t first, int count) {
        if (task_.fill) return task_.fill(task_.fill_task, row, first, count, x_, g_ ? global_x_ : nullptr);
        const int64_t* index = task_.index ? task_.index + first : nullptr;
        int64_t line = index ? 0 : first;
        if (h_) gather(task_.x + line * task_.in, index, x_, task_.in, count);
        if (g_) gather(task_.global_x + line * task_.global_in, index, global_x_, task_.global_in, count);
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
            if (g_) shared_[k].apply(g, next_g, vecs);
            activate(l, slopes_[k], h_ + g_, vecs);
            m = merged_[k], g = next_g;
            if (!h_ || !g_) continue;
            merge_layer(k).apply(task_.concat ? l : g, merged_[k], vecs);
            activate(merged_[k], merge_slopes_[k], h_, vecs);
            for (int i = 0; !task_.concat && i < h_ * TILE; ++i) merged_[k][i] += l[i];
        }
        if (h_) local_.back().apply(m, y_, vecs);
        if (task_.head) shared_.back().apply(g, y_, vecs, h_ > 0);
    }

    void activate(float* x, float* slope, int n, int vecs) {
        for (int f = 0; f < n; ++f)
            for (int v = 0; v < vecs; ++v) {
                int at = f * TILE + v * LANES;
                Vec value = load(x + at), derivative;
                if (task_.activation == SINE) {
                    sine_cosine(value, value, derivative);
                } else {
                    IntVec positive = ~(value <= 0.0f);  // NaN stays NaN
                    value = (Vec)((IntVec)value & positive);
                    derivative = (Vec)((IntVec)(Vec{} + 1.0f) & positive);
                }
                store(x + at, value);
                if (slope) store(slope + at, derivative);
            }
    }

    void backward(int count, int vecs) {
        bool wants_global = g_ && (task_.dshared || task_.dglobal_x);
        float *dm = dmerged_, *dl = dfeatures_[0], *next = dfeatures_[1];
        int k = task_.depth - 1, g_at = h_ * TILE;
        std::fill_n(dl + g_at, g_ * TILE, 0.0f);
        if (h_) backward_layer(local_.back(), dy_, nullptr, merged_[k], dm, false, count, vecs);
        if (task_.head && wants_global)
            backward_layer(shared_.back(), dy_, nullptr, features_[k] + g_at, dl + g_at, false, count, vecs);
        for (; k >= 0; --k, std::swap(dl, next)) {
            if (h_ && task_.concat && g_) std::fill_n(dl, g_at, 0.0f);
            else std::copy_n(dm, g_at, dl);
            if (h_ && g_) {
                int at = task_.concat ? 0 : g_at;
                backward_layer(merge_layer(k), dm, merge_slopes_[k], features_[k] + at, dl + at, true, count, vecs);
            }
            if (h_)
                backward_layer(local_[k], dl, slopes_[k], k ? merged_[k - 1] : x_, k ? dm : task_.dx ? dx_ : nullptr,
                               false, count, vecs);
            if (wants_global)
                backward_layer(shared_[k], dl + g_at, slopes_[k] + g_at, k ? features_[k - 1] + g_at : global_x_,
                               k ? next + g_at : task_.dglobal_x ? dglobal_x_ : nullptr, false, count, vecs);
        }
    }

    // From dy, the gradient of a layer's activation, to that of its weights and (if `dx`) of its input x.
    void backward_layer(Layer& layer, float* dy, const float* slope, const float* x, float* dx, bool add, int count,
                        int vecs) {
        multiply_slope(dy, slope, turned_, layer.out, vecs);
        layer.learn(x, turned_, count);
        if (dx) layer.pull(dy, dx, vecs, add);
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
    // Tiles; vectors have one for each layer.
    float *x_, *global_x_, *y_, *dy_, *dmerged_, *dfeatures_[2], *dx_, *dglobal_x_, *turned_;
    std::vector<float*> features_, merged_, slopes_, merge_slopes_;
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
    bool learns = task.dy || task.target || task.answer;
    std::vector<Layer> shared = shared_layers(task, learns, arena);
    for (size_t i = 0; i < shared.size(); ++i) shared[i].set(task.shared[2 * i], task.shared[2 * i + 1]);
    int64_t everything[] = {0, task.points};
    if (!task.local_width) task.rows = 1, task.offsets = everything;
    int shares = int(std::clamp<int64_t>(task.points / SHARE, 1, MOST_SHARES));
    std::atomic<int> next{0};
    std::atomic<bool> failed{false};
    std::mutex mutex;
    std::condition_variable turn;
    int finished = 0;
    task.loss = 0.0;
    together(std::min(shares, task.threads), [&] {
        std::optional<Worker> worker;
        for (int share; (share = next++) < shares;) {
            try {
                if (!worker) worker.emplace(task, shared);
                worker->run(cut(task, share, shares), cut(task, share + 1, shares));
            } catch (const std::bad_alloc&) {
                failed = true;
            }
            if (!learns) continue;
            std::unique_lock<std::mutex> lock(mutex);
            turn.wait(lock, [&] { return finished == share; });
            if (!failed) worker->finish(task.loss);
            ++finished;
            turn.notify_all();
        }
    });
    if (failed) throw std::bad_alloc();
}

}  // namespace

extern "C" int32_t lg_field_abi() { return ABI; }
extern "C" int64_t lg_field_task_size() { return sizeof(Task); }

// 0; 1 if memory ran out; 2 for an activation it does not know.
extern "C" int lg_field_chain(Task* task) {
    if (task->activation != RELU && task->activation != SINE) return 2;
    try {
        run(*task);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}
