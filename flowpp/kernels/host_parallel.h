// Threads for the kernels on the host.

#pragma once

#include <thread>
#include <vector>

namespace {

constexpr long SHARE = 1 << 15;  // a thread with less work than this costs more than it saves

// Calls work(begin, end) for ranges of [0, count), each range on a thread of its own.
template <typename Work> void in_parallel(long count, long work_each, long threads, Work work) {
    const long useful = 1 + count * work_each / SHARE;
    if (threads > useful) threads = useful;
    if (threads > count) threads = count;
    if (threads < 1) threads = 1;
    std::vector<std::thread> others;
    for (long t = 1; t < threads; ++t)
        others.emplace_back(work, count * t / threads, count * (t + 1) / threads);
    work(0L, count / threads);
    for (auto &other : others) other.join();
}

}  // namespace
