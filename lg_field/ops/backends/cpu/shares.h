// Work cut into shares whose results do not depend on who computes them.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

namespace {

// Calls work(i) for all i < shares, each once, on up to `threads` threads. `work` must not throw.
template <class Work>
void in_shares(int64_t shares, int threads, const Work& work) {
    std::atomic<int64_t> next{0};
    auto loop = [&] {
        for (int64_t i; (i = next++) < shares;) work(i);
    };
    std::vector<std::thread> others;
    try {
        for (int64_t t = 1; t < std::min<int64_t>(threads, shares); ++t) others.emplace_back(loop);
    } catch (const std::system_error&) {  // no more threads: those there are do it all
    }
    loop();
    for (std::thread& other : others) other.join();
}

}  // namespace
