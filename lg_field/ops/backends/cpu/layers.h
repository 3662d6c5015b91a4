// A layer of the chain: its weights as `multiply` reads them, and the gradients that it sums up; and memory for tiles.

#pragma once

#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "products.h"

namespace {

constexpr int ALIGNMENT = 64;  // bytes

// Aligned memory, zero at first.
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
    int in, out, first, last;  // `pull` gives gradients of so many first and so many last inputs
    float scale, half_turns;  // w0 and w0 / pi of a sine layer, else 1
    float *ahead, *back;      // packed for `multiply`
    float* sums;              // gradient of the scaled weights and bias, (in + 1, padded(out)); null if not wanted

    // w0: of a sine layer; 0 for others.
    Layer(int in, int out, float w0, bool learns, Arena& arena)
        : in(in), out(out), first(in), last(0), scale(w0 > 0 ? w0 : 1.0f),
          half_turns(w0 > 0 ? w0 * 0.318309886f : 1.0f) {
        ahead = arena.floats(size_t(in + 1) * out);
        back = learns ? arena.floats(size_t(in) * out) : nullptr;
        sums = nullptr;
    }
    void want_inputs(int of_first, int of_last) { first = of_first, last = of_last; }
    void want_sums(Arena& arena) { sums = arena.floats(size_t(in + 1) * padded(out)); }

    void set(const float* weight, const float* bias) {
        float* to = ahead;
        each_block(out, [&](int b, auto size) {
            for (int k = 0; k <= in; ++k, to += size) {
                const float* line = (k < in ? weight + k * out : bias) + b;
                for (int j = 0; j < size; ++j) to[j] = half_turns * line[j];
            }
        });
        if (!back) return;
        to = back;
        auto line = [&](int n) { return weight + (n < first ? n : n + in - first - last) * out; };
        each_block(first + last, [&](int b, auto size) {
            for (int j = 0; j < size; ++j)
                for (int k = 0; k < out; ++k) to[k * size + j] = scale * line(b + j)[k];
            to += size * out;
        });
    }
    void apply(const float* x, float* y, int vecs, bool add = false) const {
        multiply(ahead, x, y, in + 1, out, vecs, add);
    }
    void pull(const float* dy, float* dx, int vecs, bool add = false) const {
        multiply(back, dy, dx, out, first + last, vecs, add);
    }
    void learn(const float* x, const float* turned_dy, int points) const {
        if (sums) outer(x, turned_dy, sums, in + 1, out, points);
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
    // Calls f(first, size) for the blocks of n outputs that `multiply` makes, the usual sizes as constants.
    template <class F>
    static void each_block(int n, const F& f) {
        Split rows(n, MULTIPLY_ROWS);
        for (int b = 0; b < rows.blocks; ++b) switch (rows.size(b)) {
            case 6: f(rows.first(b), std::integral_constant<int, 6>()); break;
            case 5: f(rows.first(b), std::integral_constant<int, 5>()); break;
            case 4: f(rows.first(b), std::integral_constant<int, 4>()); break;
            default: f(rows.first(b), rows.size(b));
        }
    }
};

}  // namespace
