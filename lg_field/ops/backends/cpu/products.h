// Vectors, and the arithmetic of chain.cpp on tiles: lines of TILE floats, one a feature, points in the lanes.
//
// Two products, both blocked so that the sums stay in registers:
//   multiply  out[n, t] = sum_k P[k, n] in[k, t]     apply a layer (P = W), or pull a gradient back (P = W^T)
//   outer     G[i, o] += sum_t in[i, t] d[t, o]      gradient of a weight; d is transposed once, outputs in the lanes
//
// Written with the vector extensions of GCC and Clang, so that one source serves AVX-512, AVX, SSE and NEON. Vectors
// are read from arrays of floats: compile with -fno-strict-aliasing.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, MULTIPLY_ROWS = 6, MULTIPLY_VECS = 4, OUTER_ROWS = 8, OUTER_VECS = 3;  // 32 registers
#elif defined(__AVX__)
constexpr int LANES = 8, MULTIPLY_ROWS = 6, MULTIPLY_VECS = 2, OUTER_ROWS = 6, OUTER_VECS = 2;  // 16 registers
#elif defined(__aarch64__)
constexpr int LANES = 4, MULTIPLY_ROWS = 6, MULTIPLY_VECS = 4, OUTER_ROWS = 6, OUTER_VECS = 4;  // 32 registers
#else
constexpr int LANES = 4, MULTIPLY_ROWS = 6, MULTIPLY_VECS = 2, OUTER_ROWS = 6, OUTER_VECS = 2;
#endif
constexpr int TILE = 64;

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef float UnalignedVec __attribute__((vector_size(4 * LANES), aligned(4)));
typedef float HalfVec __attribute__((vector_size(2 * LANES)));
typedef int32_t IntVec __attribute__((vector_size(4 * LANES)));
typedef uint32_t UIntVec __attribute__((vector_size(4 * LANES)));

template <class V = Vec>
inline V load(const float* p) { return *reinterpret_cast<const V*>(p); }
template <class V>
inline void store(float* p, V v) { *reinterpret_cast<V*>(p) = v; }
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

// `a` where the mask is set (all bits of a lane), else `b`.
inline Vec select(IntVec mask, Vec a, Vec b) { return (Vec)(((IntVec)a & mask) | ((IntVec)b & ~mask)); }
inline Vec at_most(Vec x, float most) { return select(x > most, Vec{} + most, x); }  // NaN stays NaN
inline Vec at_least(Vec x, float least) { return select(x < least, Vec{} + least, x); }

inline Vec square_root(Vec x) {
#if defined(__AVX512F__)
    return (Vec)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX__)
    return (Vec)_mm256_sqrt_ps((__m256)x);
#elif defined(__x86_64__)
    return (Vec)_mm_sqrt_ps((__m128)x);
#else
    for (int i = 0; i < LANES; ++i) x[i] = std::sqrt(x[i]);
    return x;
#endif
}

// exp to about 1e-7 of it, of x within +-87; beyond it is that of the bound. x = k ln 2 + r, |r| <= ln 2 / 2.
inline Vec exponential(Vec x) {
    constexpr float ROUND = 12582912.0f;  // as in sine_cosine
    x = at_least(at_most(x, 87.0f), -87.0f);
    Vec k = x * 1.442695041f + ROUND, whole = k - ROUND;
    Vec r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
    Vec p = 1.0f + r * (1.0f + r * (0.5f + r * (1.6666667163e-1f + r * (4.1666664183e-2f + r * (8.3334519073e-3f +
            r * (1.3981999507e-3f + r * 1.9875691500e-4f))))));
    return (Vec)((IntVec)p + ((IntVec)k << 23));
}

// -- products

// Blocks of nearly equal size, none larger than `most`: block b of n things is [first(b), first(b + 1)).
struct Split {
    int n, blocks;
    Split(int n, int most) : n(n), blocks((n + most - 1) / most) {}
    int first(int b) const { return int(int64_t(n) * b / blocks); }
    int size(int b) const { return first(b + 1) - first(b); }
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
template <class Lanes, int R, int V>
struct OuterLanes {
    static void run(const float* in, const float* d, float* sums, int stride, int points) {
        constexpr int N = sizeof(Lanes) / sizeof(float);
        Lanes sum[R][V];
        UNROLL for (int r = 0; r < R; ++r)
            UNROLL for (int v = 0; v < V; ++v) sum[r][v] = load<Lanes>(sums + r * stride + v * N);
        for (int t = 0; t < points; ++t, d += stride)
            UNROLL for (int r = 0; r < R; ++r)
                UNROLL for (int v = 0; v < V; ++v) sum[r][v] += in[r * TILE + t] * load<Lanes>(d + v * N);
        UNROLL for (int r = 0; r < R; ++r)
            UNROLL for (int v = 0; v < V; ++v) store(sums + r * stride + v * N, sum[r][v]);
    }
};
template <int R, int V>
struct OuterBlock : OuterLanes<Vec, R, V> {};
template <int R, int V>
struct HalfOuterBlock : OuterLanes<HalfVec, R, V> {};

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
            int first = rows.first(b), count = rows.size(b);
            auto block = pick<MultiplyBlock, MULTIPLY_ROWS, MULTIPLY_VECS>(count, std::min(MULTIPLY_VECS, vecs - v));
            block(packed + first * depth, in + v * LANES, out + first * TILE + v * LANES, depth, add);
        }
}

// sums (n, padded(m)) += in (n, TILE) d (points, padded(m)); the last few of m columns as half a vector
void outer(const float* in, const float* d, float* sums, int n, int m, int points) {
    int stride = padded(m), rest = m % LANES, vecs = m / LANES + (2 * rest > LANES);
    Split rows(n, OUTER_ROWS), columns(vecs, OUTER_VECS);
    for (int c = 0; c <= columns.blocks; ++c) {
        bool half = c == columns.blocks;
        if (half && vecs * LANES >= m) return;
        int at = half ? vecs * LANES : columns.first(c) * LANES;
        for (int b = 0; b < rows.blocks; ++b) {
            int first = rows.first(b), count = rows.size(b);
            auto block = half ? pick<HalfOuterBlock, OUTER_ROWS, 1>(count, 1)
                              : pick<OuterBlock, OUTER_ROWS, OUTER_VECS>(count, columns.size(c));
            block(in + first * TILE, d + at, sums + first * stride + at, stride, points);
        }
    }
}

// -- tiles that other kernels fill, take or answer, instead of memory: points [first, first + count) of one row

typedef void (*FillTile)(const void* task, int64_t row, int64_t first, int count, float* x, float* global_x);
typedef void (*TakeTile)(const void* task, int64_t first, int count, const float* y);
typedef void (*AnswerTile)(const void* task, int64_t first, int count, const float* y, float* dy);

// -- between memory (points, n) and tiles (n, TILE)

// `index`: numbers of the points, null for the first `count` ones.
void gather(const float* points, const int64_t* index, float* tile, int n, int count) {
    auto line = [&](int i) { return points + (index ? index[i] : i) * n; };
    for (int t = 0; t < count; t += LANES) {
        bool whole = t + LANES <= count && n >= LANES;
        for (int f = 0; whole && f < n; f += LANES) {
            int at = std::min(f, n - LANES);
            Vec rows[LANES];
            for (int i = 0; i < LANES; ++i) rows[i] = load_any(line(t + i) + at);
            transpose(rows);
            for (int i = 0; i < LANES; ++i) store(tile + (at + i) * TILE + t, rows[i]);
        }
        for (int i = t; !whole && i < t + LANES; ++i)
            for (int f = 0; f < n; ++f) tile[f * TILE + i] = i < count ? line(i)[f] : 0.0f;
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

}  // namespace
