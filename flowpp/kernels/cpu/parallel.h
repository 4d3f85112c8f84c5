// Threads for the kernels on the host: those that torch computes with, where they can be had.
//
// Threads of our own would have to share the processors with torch's, which wait for their next work
// by spinning: two threads then take longer than one.

#pragma once

#include <atomic>
#include <thread>
#include <vector>

namespace {

constexpr long SHARE = 1 << 15;  // a thread with less work than this costs more than it saves

// GOMP_parallel of the OpenMP runtime that torch has loaded: calls its first argument in so many
// threads, with the second one.
using Pool = void (*)(void (*)(void *), void *, unsigned, unsigned);
Pool pool = nullptr;

template <typename Work> struct Parts {
    Work &work;
    const long count, parts;
    std::atomic<long> next{0};

    // However many threads come, and in whatever order: the parts are the same.
    static void take(void *self) {
        Parts &p = *static_cast<Parts *>(self);
        for (long t; (t = p.next++) < p.parts;)
            p.work(p.count * t / p.parts, p.count * (t + 1) / p.parts);
    }
};

// Calls work(begin, end) for `parts` ranges of [0, count), each on one of so many threads. All of
// them are asked, also where there are fewer parts: a smaller team would end the others for good.
template <typename Work> void in_parts(long count, long parts, long threads, Work &work) {
    Parts<Work> all{work, count, parts};
    if (parts > 1 && pool) {
        pool(Parts<Work>::take, &all, static_cast<unsigned>(threads), 0);
        return;
    }
    std::vector<std::thread> others;
    for (long t = 1; t < parts; ++t) others.emplace_back(Parts<Work>::take, &all);
    Parts<Work>::take(&all);
    for (auto &other : others) other.join();
}

// The same, in no more parts than there is work for.
template <typename Work> void in_parallel(long count, long work_each, long threads, Work work) {
    long parts = 1 + count * work_each / SHARE;
    if (parts > threads) parts = threads;
    if (parts > count) parts = count;
    in_parts(count, parts < 1 ? 1 : parts, threads, work);
}

}  // namespace

extern "C" void flowpp_use_pool(Pool given) { pool = given; }
