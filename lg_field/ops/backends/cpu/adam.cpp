// A step of Adam on several tensors: moments and values in one pass over memory.
//
//   m += (1 - b1) (g - m)     v = b2 v + (1 - b2) g^2     p -= lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps)
//
// Numbers are independent of each other, and all go through vectors, those left over at the end too: results depend
// neither on the number of threads nor on what lies beside a number, to the bit.

#include <cmath>
#include <cstring>
#include <vector>

#include "products.h"
#include "shares.h"

// Mirrored in adam.py, which compares ABI and size: whoever changes a member counts ABI up, here and there.
constexpr int32_t ADAM_ABI = 1;
struct AdamTask {
    int64_t tensors;
    int32_t threads;
    double lr, beta1, beta2, eps;
    const int64_t* counts;  // (tensors): numbers of each
    float* const* values;   // (tensors) pointers to them, and so on
    const float* const* grads;
    float *const *first, *const *second;  // moments
    float* const* steps;                  // one number each: steps taken so far, which are counted up
};

namespace {

constexpr int64_t PART = 1 << 13;  // numbers in a share, at most

// What is the same for all numbers of a tensor.
struct Rates {
    float fresh1, keep2, fresh2, rate, eps;
    // The step's corrections are taken out of the fraction, so that one division a number is left.
    Rates(const AdamTask& t, double step) {
        double root = std::sqrt(1.0 - std::pow(t.beta2, step));
        fresh1 = float(1.0 - t.beta1), keep2 = float(t.beta2), fresh2 = float(1.0 - t.beta2);
        rate = float(t.lr / (1.0 - std::pow(t.beta1, step)) * root), eps = float(t.eps * root);
    }
};

inline void learn(const Rates& r, float* value, const float* grad, float* first, float* second) {
    Vec g = load_any(grad), m = load_any(first), v = load_any(second);
    m += r.fresh1 * (g - m);
    v = r.keep2 * v + r.fresh2 * g * g;
    store_any(first, m), store_any(second, v);
    store_any(value, load_any(value) - r.rate * m / (square_root(v) + r.eps));
}

void learn_some(const Rates& r, int64_t count, float* value, const float* grad, float* first, float* second) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) learn(r, value + i, grad + i, first + i, second + i);
    if (i == count) return;
    size_t bytes = size_t(count - i) * sizeof(float);
    float rest[4][LANES] = {};
    float* whole[] = {value + i, first + i, second + i};
    for (int k = 0; k < 3; ++k) std::memcpy(rest[k], whole[k], bytes);
    std::memcpy(rest[3], grad + i, bytes);
    learn(r, rest[0], rest[3], rest[1], rest[2]);
    for (int k = 0; k < 3; ++k) std::memcpy(whole[k], rest[k], bytes);
}

}  // namespace

extern "C" int32_t lg_field_adam_abi() { return ADAM_ABI; }
extern "C" int64_t lg_field_adam_size() { return sizeof(AdamTask); }

extern "C" void lg_field_adam(const AdamTask* t) {
    std::vector<Rates> rates;
    std::vector<int64_t> ends;  // shares of the tensors up to each
    for (int64_t k = 0; k < t->tensors; ++k) {
        rates.emplace_back(*t, *t->steps[k] += 1.0f);
        ends.push_back((ends.empty() ? 0 : ends.back()) + (t->counts[k] + PART - 1) / PART);
    }
    in_shares(ends.empty() ? 0 : ends.back(), t->threads, [&](int64_t share) {
        int64_t k = std::upper_bound(ends.begin(), ends.end(), share) - ends.begin();
        int64_t first = (share - (k ? ends[k - 1] : 0)) * PART;
        learn_some(rates[k], std::min(PART, t->counts[k] - first), t->values[k] + first, t->grads[k] + first,
                   t->first[k] + first, t->second[k] + first);
    });
}
