// Samples of rays asked front to back, some of each ray a round, until nothing more can be seen along it.
//
// A round: what was said of the last samples is added to the optical thickness passed by each ray; rays through which
// enough light gets go on with their next samples, which are placed and sorted by row. Whoever calls asks about these
// (the chain's tiles: encode.cpp, shade.cpp) and comes back. A ray is one thread's and sums are in the order of its
// samples: results do not depend on the number of threads, to the bit.

#include <cstring>
#include <utility>

#include "shares.h"
#include "voxels.h"

// Mirrored in rounds.py, which compares ABI and size: whoever changes a member counts ABI up, here and there.
constexpr int32_t ROUNDS_ABI = 1;
struct RoundsTask {
    MarchTask march;  // rays, and where voxels are
    int64_t samples, rows, left;  // left: rays that go on
    int32_t voxels, scaled;  // voxels of a row; whether densities are those of contracted space
    double limit;  // rays end where they have passed this optical thickness
    const int64_t* ray;  // (samples), sorted
    const float *starts, *ends;
    const int64_t* places;  // the row's first voxel + number, of each voxel; -1: no row has it
    int64_t *begins, *since, *next, *going;  // (rays + 1), (rays) three times: samples of a ray, asked in the last
                                             // round from, asked until; the rays that go on
    double* passed;  // (rays)
    float* unit;  // (samples, 3)
    int32_t* row;  // (samples)
    float *density, *rgb, *dependence;  // (samples), (samples, 3), (samples)
    int64_t *order, *offsets;  // (samples), (rows + 1)
};

namespace {

constexpr int RAYS = 128;  // in a share

// Adds what was said of the ray's last samples to what it has passed.
void count(const RoundsTask& t, int64_t ray) {
    const MarchTask& m = t.march;
    double passed = t.passed[ray];
    for (int64_t i = t.since[ray]; i < t.next[ray]; ++i) {
        if (t.scaled) {
            float most = 1.0f;
            for (int a = 0; a < 3; ++a)
                most = std::max(most, std::fabs(m.lower[a] + t.unit[3 * i + a] * (m.upper[a] - m.lower[a])));
            float rate = 2.0f - std::min(most, 2.0f);
            t.density[i] *= rate * rate;
        }
        passed += double(t.density[i] * (t.ends[i] - t.starts[i]));
    }
    t.passed[ray] = passed, t.since[ray] = t.next[ray];
}

// Says where the next samples of a ray are.
void place(const RoundsTask& t, int64_t ray, int64_t most) {
    t.next[ray] = std::min(t.since[ray] + most, t.begins[ray + 1]);
    for (int64_t i = t.since[ray]; i < t.next[ray]; ++i) {
        int64_t at = t.places[place_of(t.march, ray, 0.5f * (t.starts[i] + t.ends[i]), t.unit + 3 * i)];
        t.row[i] = at < 0 ? -1 : int32_t(at / t.voxels);
        if (at >= 0) continue;
        t.density[i] = t.dependence[i] = 0.0f;
        std::fill_n(t.rgb + 3 * i, 3, 0.5f);
    }
}

// Sorts the samples that are asked now by their row; returns how many have one.
int64_t sort(const RoundsTask& t) {
    std::fill_n(t.offsets, t.rows + 1, 0);
    auto each = [&](const auto& of_sample) {
        for (int64_t k = 0; k < t.left; ++k)
            for (int64_t i = t.since[t.going[k]]; i < t.next[t.going[k]]; ++i)
                if (t.row[i] >= 0) of_sample(i);
    };
    each([&](int64_t i) { ++t.offsets[t.row[i]]; });
    int64_t before = 0;
    for (int64_t r = 0; r <= t.rows; ++r) before += std::exchange(t.offsets[r], before);
    // the first place of a row serves as its next free one, and is put back afterwards
    each([&](int64_t i) { t.order[t.offsets[t.row[i]]++] = i; });
    for (int64_t r = t.rows; r > 0; --r) t.offsets[r] = t.offsets[r - 1];
    t.offsets[0] = 0;
    return before;
}

}  // namespace

extern "C" int32_t lg_field_rounds_abi() { return ROUNDS_ABI; }
extern "C" int64_t lg_field_rounds_size() { return sizeof(RoundsTask); }

// Before the first round: all rays that have samples go on.
extern "C" void lg_field_rounds_begin(RoundsTask* t) {
    int64_t at = 0;
    t->left = 0;
    for (int64_t ray = 0; ray < t->march.rays; ++ray) {
        t->begins[ray] = t->since[ray] = t->next[ray] = at;
        t->passed[ray] = 0.0;
        while (at < t->samples && t->ray[at] == ray) ++at;
        if (at > t->begins[ray]) t->going[t->left++] = ray;
    }
    t->begins[t->march.rays] = at;
}

// Prepares a round of up to `most` samples a ray; returns how many are to be asked about. No ray goes on: `left` is 0.
extern "C" int64_t lg_field_rounds_next(RoundsTask* t, int64_t most) {
    in_shares((t->left + RAYS - 1) / RAYS, t->march.threads, [&](int64_t share) {
        for (int64_t k = share * RAYS; k < std::min((share + 1) * RAYS, t->left); ++k) {
            int64_t ray = t->going[k];
            count(*t, ray);
            if (t->next[ray] < t->begins[ray + 1] && t->passed[ray] < t->limit) place(*t, ray, most);
        }
    });
    auto ended = [&](int64_t ray) { return t->since[ray] == t->next[ray]; };
    t->left = std::remove_if(t->going, t->going + t->left, ended) - t->going;
    return sort(*t);
}

// How many samples were asked about.
extern "C" int64_t lg_field_rounds_asked(const RoundsTask* t) {
    int64_t asked = 0;
    for (int64_t ray = 0; ray < t->march.rays; ++ray) asked += t->next[ray] - t->begins[ray];
    return asked;
}

// Puts these samples, and what was said of them, where there is room for them alone.
extern "C" void lg_field_rounds_take(const RoundsTask* t, int64_t* ray, float* starts, float* ends, float* density,
                                     float* rgb, float* dependence) {
    for (int64_t r = 0; r < t->march.rays; ++r) {
        int64_t first = t->begins[r], count = t->next[r] - first;
        ray = std::fill_n(ray, count, r);
        starts = std::copy_n(t->starts + first, count, starts);
        ends = std::copy_n(t->ends + first, count, ends);
        density = std::copy_n(t->density + first, count, density);
        rgb = std::copy_n(t->rgb + 3 * first, 3 * count, rgb);
        dependence = std::copy_n(t->dependence + first, count, dependence);
    }
}
