// Real spherical harmonics of degrees 0, 1, 2 (orthonormal), and colours made of them.

#pragma once

#include "products.h"

namespace {

constexpr int HARMONICS = 9, COLORS = 3;

inline void harmonics(Vec x, Vec v, Vec z, Vec* y) {
    y[0] = Vec{} + 0.28209479177387814f;
    y[1] = 0.4886025119029199f * v;
    y[2] = 0.4886025119029199f * z;
    y[3] = 0.4886025119029199f * x;
    y[4] = 1.0925484305920792f * x * v;
    y[5] = 1.0925484305920792f * v * z;
    y[6] = 0.31539156525252005f * (3.0f * z * z - 1.0f);
    y[7] = 1.0925484305920792f * x * z;
    y[8] = 0.5462742152960396f * (x * x - v * v);
}

}  // namespace
