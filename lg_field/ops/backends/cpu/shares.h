// Work cut into shares whose results do not depend on who computes them.
//
// Threads that help are begun once and sleep between jobs: to begin one costs more than many a kernel computes. Nobody
// waits for a helper that has not come: whoever asked works through the shares, and waits only for those that helpers
// are at. So on a busy machine a job takes no longer than on one thread.

#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace lg_field {

// Something that several threads do together: each that comes calls work(told) once, which takes what there is to do.
struct Job {
    void (*work)(void*);
    void* told;
    int wanted;  // helpers that may still come
    int inside = 0;
};

class Helpers {
  public:
    // Calls job.work here, and on up to job.wanted helpers; returns when all who came are done.
    void run(Job& job) {
        const bool one = job.wanted == 1;  // helpers count it down once they know of it
        {
            std::lock_guard<std::mutex> lock(mutex_);
            try {
                for (; threads_ < job.wanted; ++threads_) std::thread(&Helpers::help, this).detach();
            } catch (const std::exception&) {  // no more threads: those there are do it all
            }
            jobs_.push_back(&job);
        }
        if (one) asked_.notify_one();
        else asked_.notify_all();
        job.work(job.told);
        std::unique_lock<std::mutex> lock(mutex_);
        jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
        left_.wait(lock, [&] { return job.inside == 0; });
    }

  private:
    void help() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            auto found = std::find_if(jobs_.begin(), jobs_.end(), [](const Job* job) { return job->wanted > 0; });
            if (found == jobs_.end()) {
                asked_.wait(lock);
                continue;
            }
            Job* job = *found;
            --job->wanted, ++job->inside;
            lock.unlock();
            job->work(job->told);
            lock.lock();
            if (--job->inside == 0) left_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable asked_, left_;
    std::vector<Job*> jobs_;
    int threads_ = 0;

  public:
    const pid_t owner = getpid();  // the process whose threads they are
};

// Those of this process: a child has none of its parent's threads. They live until it ends. No lock: a thread of the parent
// might have held it when the child began.
inline Helpers& helpers() {
    static std::atomic<Helpers*> some{nullptr};
    Helpers* here = some.load();
    while (here == nullptr || here->owner != getpid()) {
        Helpers* fresh = new Helpers;
        if (some.compare_exchange_strong(here, fresh)) return *fresh;
        delete fresh;
    }
    return *here;
}

}  // namespace lg_field

namespace {

// Calls work() here and on up to threads - 1 other threads that come to help. `work` must not throw.
template <class Work>
void together(int64_t threads, const Work& work) {
    if (threads <= 1) return work();
    lg_field::Job job{[](void* told) { (*static_cast<const Work*>(told))(); }, const_cast<Work*>(&work), int(threads - 1)};
    lg_field::helpers().run(job);
}

// Calls work(i) for all i < shares, each once, on up to `threads` threads. `work` must not throw.
template <class Work>
void in_shares(int64_t shares, int threads, const Work& work) {
    std::atomic<int64_t> next{0};
    together(std::min<int64_t>(threads, shares), [&] {
        for (int64_t i; (i = next++) < shares;) work(i);
    });
}

}  // namespace
