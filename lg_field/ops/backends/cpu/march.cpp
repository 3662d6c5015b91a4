// Steps along rays that lie in occupied voxels.
//
// Step k of a ray begins at s = near + (k + shift) * step in marching coordinates (distance, or beyond `linear` its
// disparity) and is kept if its middle lies in an occupied voxel. Where there is a second set of voxels, `block` steps
// are looked at there first, by their common middle. Rays are independent; their steps come out in order.

#include <cmath>
#include <cstring>
#include <new>

#include "products.h"
#include "shares.h"
#include "voxels.h"

namespace {

constexpr int RAYS = 128;  // in a share
constexpr int STEPS = 16;  // looked at together
constexpr int PLACED = 2048;  // samples in a share

struct Found {
    std::vector<int64_t> rays;
    std::vector<float> starts, ends;
};

struct Marched {
    std::vector<Found> shares;
};

// Number of the voxel of points of a ray at n distances, -1 outside; `anywhere`: outside is the nearest voxel.
inline void voxels_at(const MarchTask& t, const float* o, const float* d, const float* at, int32_t* index, bool anywhere) {
    float x[3][STEPS], norm[STEPS];
    int32_t outside[STEPS] = {};
    for (int a = 0; a < 3; ++a)
        for (int i = 0; i < STEPS; ++i) x[a][i] = o[a] + d[a] * at[i];
    if (t.contraction)
        for (int i = 0; i < STEPS; ++i) {
            norm[i] = std::max({std::fabs(x[0][i]), std::fabs(x[1][i]), std::fabs(x[2][i]), 1.0f});
            float scale = (2.0f - 1.0f / norm[i]) / norm[i];
            for (int a = 0; a < 3; ++a) x[a][i] *= scale;
        }
    for (int i = 0; i < STEPS; ++i) index[i] = 0;
    for (int a = 0; a < 3; ++a) {
        int32_t size = t.counts[a] * t.per_axis;
        float width = t.upper[a] - t.lower[a];
        for (int i = 0; i < STEPS; ++i) {
            float place = (x[a][i] - t.lower[a]) / width * t.cells[a] + t.shift[a];
            outside[i] |= !(place >= 0.0f) | !(place <= float(t.counts[a]));
            float voxel = std::min(std::max(0.0f, place * t.per_axis), float(size - 1));  // NaN: 0
            index[i] = index[i] * size + int32_t(voxel);
        }
    }
    for (int i = 0; i < STEPS; ++i)
        if (outside[i] && !anywhere && !t.contraction) index[i] = -1;
}

inline float from_steps(const MarchTask& t, float s) {
    if (t.linear == 0.0f || s <= t.linear) return s;
    return t.linear / std::max(2.0f - s / t.linear, 1e-4f);
}

class Ray {
  public:
    Ray(const MarchTask& task, int64_t number, Found& found)
        : t(task), number_(number), o(task.origins + 3 * number), d(task.directions + 3 * number),
          near_(task.near[number]), far_(task.far[number]), shift_(task.jitter[number]), count_(task.count), found_(found) {
        if (t.distances) clip();
    }

    void march() {
        if (!t.near_voxels) {
            for (int64_t k = 0; k < count_ && begins(k); k += STEPS) look(k, int(std::min<int64_t>(STEPS, count_ - k)));
            return;
        }
        for (int64_t k = 0; k < count_ && begins(k); k += STEPS * t.block) {
            float middles[STEPS];
            int32_t index[STEPS];
            for (int i = 0; i < STEPS; ++i) middles[i] = place(k + i * t.block) + 0.5f * t.block * t.step;
            voxels_at(t, o, d, middles, index, true);
            for (int i = 0; i < STEPS && begins(k + i * t.block); ++i)
                if (t.near_voxels[index[i]])
                    for (int j = 0; j < t.block; j += STEPS) look(k + i * t.block + j, std::min(STEPS, t.block - j));
        }
    }

  private:
    // From distances to marching coordinates within the box, and how many steps there are. NaN: none.
    void clip() {
        bool known = true;
        for (int a = 0; t.box && a < 3; ++a) {
            float along = std::fabs(d[a]) < 1e-9f ? 1e-9f : d[a];
            float low = (t.box[a] - o[a]) / along, high = (t.box[3 + a] - o[a]) / along;
            known &= !std::isnan(low) && !std::isnan(high);
            near_ = std::max(near_, std::min(low, high)), far_ = std::min(far_, std::max(low, high));
        }
        if (t.box) near_ = std::max(near_, 0.0f);
        near_ = to_steps(near_), far_ = to_steps(far_);
        float steps = std::ceil((far_ - near_) / t.step);
        count_ = known && steps > 0.0f ? int64_t(std::min(steps, 1e9f)) : 0;
    }
    float to_steps(float at) const {
        if (t.linear == 0.0f || at <= t.linear) return at;
        return t.linear * (2.0f - t.linear / std::max(at, t.linear));
    }

    float place(int64_t k) const { return near_ + (float(k) + shift_) * t.step; }
    bool begins(int64_t k) const { return place(k) + 0.5f * t.step < far_; }

    void look(int64_t k, int n) {
        float starts[STEPS], ends[STEPS], middles[STEPS];
        int32_t index[STEPS];
        for (int i = 0; i < STEPS; ++i) {
            float s = std::max(place(k + i), 0.0f);
            starts[i] = from_steps(t, s), ends[i] = from_steps(t, s + t.step);
            middles[i] = 0.5f * (starts[i] + ends[i]);
        }
        voxels_at(t, o, d, middles, index, false);
        for (int i = 0; i < n && begins(k + i); ++i)
            if (index[i] >= 0 && t.voxels[index[i]]) {
                found_.rays.push_back(number_);
                found_.starts.push_back(starts[i]);
                found_.ends.push_back(ends[i]);
            }
    }

    const MarchTask& t;
    int64_t number_;
    const float *o, *d;
    float near_, far_, shift_;
    int64_t count_;
    Found& found_;
};

}  // namespace

extern "C" int32_t lg_field_march_abi() { return MARCH_ABI; }
extern "C" int64_t lg_field_march_size() { return sizeof(MarchTask); }

// Marches, and says how many steps there are; `lg_field_march_take` must follow, if it is not null.
extern "C" void* lg_field_march(const MarchTask* t, int64_t* total) try {
    auto* marched = new Marched{std::vector<Found>((t->rays + RAYS - 1) / RAYS)};
    std::atomic<bool> failed{false};
    in_shares(int64_t(marched->shares.size()), t->threads, [&](int64_t share) {
        try {
            for (int64_t ray = share * RAYS; ray < std::min((share + 1) * RAYS, t->rays); ++ray)
                Ray(*t, ray, marched->shares[share]).march();
        } catch (const std::bad_alloc&) {
            failed = true;
        }
    });
    if (failed) {
        delete marched;
        return nullptr;
    }
    *total = 0;
    for (const Found& found : marched->shares) *total += int64_t(found.rays.size());
    return marched;
} catch (const std::bad_alloc&) {
    return nullptr;
}

// Where the middles of steps are: (samples, 3) unit coordinates, (samples) the line of `places` of each one's voxel.
extern "C" void lg_field_march_place(const MarchTask* t, int64_t samples, const int64_t* rays, const float* starts,
                                     const float* ends, const int64_t* places, float* unit, int64_t* voxels) {
    in_shares((samples + PLACED - 1) / PLACED, t->threads, [&](int64_t share) {
        for (int64_t i = share * PLACED; i < std::min((share + 1) * PLACED, samples); ++i)
            voxels[i] = places[place_of(*t, rays[i], 0.5f * (starts[i] + ends[i]), unit + 3 * i)];
    });
}

// Where scene points (points, 3) are, the rays' origins: unit coordinates, and the line of `places` of each one's voxel;
// -1 outside the domain, where no row has the voxel, and, if t->voxels says what is occupied, where it is not.
extern "C" void lg_field_march_find(const MarchTask* t, const int64_t* places, float* unit, int64_t* voxels) {
    in_shares((t->rays + PLACED - 1) / PLACED, t->threads, [&](int64_t share) {
        for (int64_t i = share * PLACED; i < std::min((share + 1) * PLACED, t->rays); ++i) {
            float x[3];
            bool outside;
            std::copy_n(t->origins + 3 * i, 3, x);
            int64_t number = place_point(*t, x, unit + 3 * i, outside);
            voxels[i] = outside || (t->voxels && !t->voxels[number]) ? -1 : places[number];
        }
    });
}

// Puts the steps where there is room for all of them, and forgets them.
extern "C" void lg_field_march_take(void* handle, int64_t* rays, float* starts, float* ends) {
    auto* marched = static_cast<Marched*>(handle);
    for (const Found& found : marched->shares) {
        size_t n = found.rays.size();
        rays = std::copy_n(found.rays.data(), n, rays);
        starts = std::copy_n(found.starts.data(), n, starts);
        ends = std::copy_n(found.ends.data(), n, ends);
    }
    delete marched;
}

// The same, and `lg_field_march_place` of them.
extern "C" void lg_field_march_take_places(void* handle, const MarchTask* t, const int64_t* places, int64_t* rays,
                                           float* starts, float* ends, float* unit, int64_t* voxels) {
    auto* marched = static_cast<Marched*>(handle);
    std::vector<int64_t> firsts(1, 0);
    for (const Found& found : marched->shares) firsts.push_back(firsts.back() + int64_t(found.rays.size()));
    in_shares(int64_t(marched->shares.size()), t->threads, [&](int64_t share) {
        const Found& found = marched->shares[share];
        for (size_t k = 0; k < found.rays.size(); ++k) {
            int64_t i = firsts[share] + int64_t(k);
            rays[i] = found.rays[k], starts[i] = found.starts[k], ends[i] = found.ends[k];
            voxels[i] = places[place_of(*t, rays[i], 0.5f * (starts[i] + ends[i]), unit + 3 * i)];
        }
    });
    delete marched;
}
