// Buffers for intermediate results.

#pragma once

#include <cstdlib>
#include <memory>
#include <new>

namespace {

// A buffer that a thread keeps between calls: new pages would take as long as the computation.
class Scratch {
    std::unique_ptr<float, void (*)(void *)> memory{nullptr, std::free};
    long size = 0;

public:
    float *operator()(long numbers) {
        if (numbers > size) {
            memory.reset();
            size = 0;
            const long bytes = (4 * numbers + 63) / 64 * 64;
            memory.reset(static_cast<float *>(std::aligned_alloc(64, bytes)));
            if (!memory) throw std::bad_alloc();
            size = numbers;
        }
        return memory.get();
    }
};

}  // namespace
