// Working memory of a kernel's call, allocated before the call starts any threads.

#pragma once

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

struct alignas(64) Block {
    long bytes;  // that follow
};

// Blocks that are not in use, kept since new pages would take as long as the computation: at most one
// for each thread that calls kernels at the same time. These are not variables of the threads: the
// first use of such a variable allocates memory, and ends the process where there is none.
constexpr int MOST_KEPT = 16;
std::atomic<Block *> kept[MOST_KEPT] = {};

class Workspace {
    Block *block = nullptr;

public:
    // Throws std::bad_alloc where there is no memory.
    explicit Workspace(long bytes) {
        for (auto &slot : kept)
            if ((block = slot.exchange(nullptr))) break;
        if (block && block->bytes >= bytes) return;
        std::free(block);
        bytes = (bytes + 63) / 64 * 64;
        block = static_cast<Block *>(std::aligned_alloc(64, sizeof(Block) + bytes));
        if (!block) throw std::bad_alloc();
        block->bytes = bytes;
    }
    Workspace(const Workspace &) = delete;
    Workspace &operator=(const Workspace &) = delete;
    ~Workspace() {
        for (auto &slot : kept) {
            Block *none = nullptr;
            if (slot.compare_exchange_strong(none, block)) return;
        }
        std::free(block);
    }

    // The memory, at a multiple of 64 bytes.
    template <typename T> T *as() const { return reinterpret_cast<T *>(block + 1); }
};

}  // namespace
