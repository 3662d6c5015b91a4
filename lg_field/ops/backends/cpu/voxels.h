// Rays, and the voxels that their points are in.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

// Mirrored in march.py, which compares ABI and size: whoever changes a member counts ABI up, here and there.
constexpr int32_t MARCH_ABI = 3;
struct MarchTask {
    int64_t rays, count;  // steps of a ray at most
    int32_t block, contraction, threads, per_axis, distances;  // distances: near and far are, and clipped to the box
    int32_t counts[3];
    float step, linear;  // 0: all steps are equal
    float lower[3], upper[3], cells[3], shift[3];  // of the box of unit coordinates, its cells, and those before them
    const float *origins, *directions, *near, *far, *jitter;  // (rays, 3) twice, (rays) marching coordinates, (rays)
    const float* box;  // (2, 3) scene-space corners; null: there is none
    const uint8_t *voxels, *near_voxels;  // row by row; near_voxels may be null
};

namespace {

// Unit coordinates of a scene point x, which it contracts, and the number of the voxel nearest to it.
inline int64_t place_point(const MarchTask& t, float (&x)[3], float* unit, bool& outside) {
    float scale = 1.0f;
    if (t.contraction) {
        float norm = std::max({std::fabs(x[0]), std::fabs(x[1]), std::fabs(x[2]), 1.0f});
        scale = (2.0f - 1.0f / norm) / norm;
    }
    int64_t index = 0;
    outside = false;
    for (int a = 0; a < 3; ++a) {
        int32_t size = t.counts[a] * t.per_axis;
        unit[a] = (x[a] * scale - t.lower[a]) / (t.upper[a] - t.lower[a]);
        float place = unit[a] * t.cells[a] + t.shift[a];
        outside |= !(place >= 0.0f && place <= float(t.counts[a]));
        float voxel = std::min(std::max(0.0f, place * t.per_axis), float(size - 1));
        index = index * size + int32_t(voxel);
    }
    return index;
}

// The same of a point of a ray.
inline int64_t place_of(const MarchTask& t, int64_t ray, float at, float* unit) {
    float x[3];
    bool outside;
    for (int a = 0; a < 3; ++a) x[a] = t.origins[3 * ray + a] + t.directions[3 * ray + a] * at;
    return place_point(t, x, unit, outside);
}

}  // namespace
