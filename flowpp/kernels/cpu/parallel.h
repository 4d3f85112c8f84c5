// Parallel loops in torch's own OpenMP threads, or in new threads where these are not available.
//
// New threads would share the processors with torch's, which spin while they wait for work: two threads
// then take longer than one.

#pragma once

#include <atomic>
#include <exception>
#include <thread>
#include <vector>

namespace {

constexpr long MIN_WORK = 1 << 15;  // per thread; with less, starting it costs more than it saves

// GOMP_parallel of the OpenMP runtime that torch has loaded. Arguments: function, its argument,
// number of threads that call it, flags.
using Pool = void (*)(void (*)(void *), void *, unsigned, unsigned);
Pool pool = nullptr;

template <typename Work> struct Parts {
    Work &work;
    const long count, parts;
    std::atomic<long> next{0};

    // The division into parts does not depend on how many threads call this, or in which order.
    static void run(void *self) {
        Parts &p = *static_cast<Parts *>(self);
        for (long t; (t = p.next++) < p.parts;)
            p.work(p.count * t / p.parts, p.count * (t + 1) / p.parts, t);
    }
};

// Calls run(all) in up to `threads` threads; in fewer where they cannot be created.
inline void in_new_threads(long threads, void (*run)(void *), void *all) {
    std::vector<std::thread> others;
    try {
        for (long t = 1; t < threads; ++t) others.emplace_back(run, all);
    } catch (const std::exception &) {
    }
    run(all);
    for (auto &other : others) other.join();
}

// Calls work(begin, end, part) for `parts` ranges of [0, count), each in one of the threads. The team
// always has `threads` threads, also for fewer parts: a smaller team would terminate the others.
// `work` allocates no memory: an exception that leaves a thread ends the process.
template <typename Work> void in_parts(long count, long parts, long threads, Work &work) {
    Parts<Work> all{work, count, parts};
    if (parts > 1 && pool)
        pool(Parts<Work>::run, &all, static_cast<unsigned>(threads), 0);
    else
        in_new_threads(parts, Parts<Work>::run, &all);
}

// Like in_parts, with at most one part per MIN_WORK of work, and at most one per thread.
template <typename Work> void in_parallel(long count, long work_each, long threads, Work work) {
    long parts = 1 + count * work_each / MIN_WORK;
    if (parts > threads) parts = threads;
    if (parts > count) parts = count;
    in_parts(count, parts < 1 ? 1 : parts, threads, work);
}

}  // namespace

extern "C" void flowpp_use_pool(Pool torch_pool) { pool = torch_pool; }
