// Runs the CUDA kernels on the host: block after block, all threads of a block up to a barrier, in
// a chosen order, before any of them goes on. Each has a stack of its own in one thread of the host.
//
// A value that a thread needs from another one without a barrier in between is missing in one of
// the orders: a data race changes results here, always.

#include "cuda.h"

#include "mixture_kernels.cu"

#include <algorithm>
#include <random>
#include <vector>

constexpr int MOST_SHARED = 48 * 1024, MOST_THREADS = 1024, REDZONE = 4096;

alignas(128) unsigned long long shared_memory[(MOST_SHARED + REDZONE) / 8];
Index3 blockIdx, blockDim;
int division_error = 0;

enum Failure { NONE = 0, DIVERGED = 1, SHARED_OVERRUN = 2, UNKNOWN = 3 };

using Kernel = void (*)(const void *task);
static Kernel kernel;
static const void *arguments;

#include <ucontext.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#define START_SWITCH(fake, bottom, size) __sanitizer_start_switch_fiber(fake, bottom, size)
#define FINISH_SWITCH(fake, bottom, size) __sanitizer_finish_switch_fiber(fake, bottom, size)
#else
#define START_SWITCH(fake, bottom, size)
#define FINISH_SWITCH(fake, bottom, size)
#endif

constexpr size_t STACK = 256 * 1024;

struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    bool finished;
    void *fake;
};

Index3 threadIdx;
static ucontext_t scheduler;
static std::vector<Fiber> fibers;
[[maybe_unused]] static const void *scheduler_stack;
[[maybe_unused]] static size_t scheduler_size;

static void leave(Fiber &fiber) {
    START_SWITCH(fiber.finished ? nullptr : &fiber.fake, scheduler_stack, scheduler_size);
    swapcontext(&fiber.context, &scheduler);
    FINISH_SWITCH(fiber.fake, nullptr, nullptr);
}

void __syncthreads() { leave(fibers[threadIdx.x]); }

static void enter() {
    FINISH_SWITCH(nullptr, &scheduler_stack, &scheduler_size);
    const unsigned t = threadIdx.x;
    kernel(arguments);
    fibers[t].finished = true;
    leave(fibers[t]);
}

static void resume(int t) {
    Fiber &fiber = fibers[t];
    threadIdx = {(unsigned)t, 0, 0};
    [[maybe_unused]] void *fake = nullptr;
    START_SWITCH(&fake, fiber.stack.data(), fiber.stack.size());
    swapcontext(&scheduler, &fiber.context);
    FINISH_SWITCH(fake, nullptr, nullptr);
}

static Failure run_block(std::vector<int> &order, std::mt19937 &random) {
    fibers.resize(std::max(fibers.size(), order.size()));
    for (int t : order) {
        Fiber &fiber = fibers[t];
        fiber.stack.resize(STACK);
        fiber.finished = false;
        fiber.fake = nullptr;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, enter, 0);
    }
    for (bool all = false; !all;) {
        for (int t : order) resume(t);
        const auto done = std::count_if(order.begin(), order.end(),
                                        [](int t) { return fibers[t].finished; });
        all = done == (long)order.size();
        if (done && !all) return DIVERGED;
        if (order.size() > 1 && order[0] != 0) std::shuffle(order.begin(), order.end(), random);
    }
    return NONE;
}

template <typename T, void (*K)(const Task<T>)> void call(const void *task) {
    Task<T> copy;  // by value, as at a launch
    std::memcpy(&copy, task, sizeof copy);
    K(copy);
}

static Kernel named(const char *name) {
    const struct { const char *name; Kernel kernel; } all[] = {
        {"mixture_forward_float32", call<float, mixture_forward_float32>},
        {"mixture_forward_float64", call<double, mixture_forward_float64>},
        {"mixture_backward_float32", call<float, mixture_backward_float32>},
        {"mixture_backward_float64", call<double, mixture_backward_float64>},
        {"mixture_inverse_float32", call<float, mixture_inverse_float32>},
        {"mixture_inverse_float64", call<double, mixture_inverse_float64>},
    };
    for (const auto &one : all)
        if (!std::strcmp(one.name, name)) return one.kernel;
    return nullptr;
}

// Size of a task, to be compared with that of the launcher.
extern "C" long task_size() { return sizeof(Task<float>); }

// `order` 0 runs threads from the first to the last, 1 in reverse and then, after every barrier, in
// another order. Shared memory is NaN before each block.
extern "C" int run_on_host(const char *name, const void *task, long blocks, int threads,
                           int shared_bytes, int order, int error) {
    kernel = named(name);
    arguments = task;
    division_error = error;
    if (!kernel || shared_bytes > MOST_SHARED || threads > MOST_THREADS) return UNKNOWN;
    std::mt19937 random(7);
    blockDim = {(unsigned)threads, 1, 1};
    for (long block = 0; block < blocks; ++block) {
        blockIdx = {(unsigned)block, 0, 0};
        std::memset(shared_memory, 0xff, sizeof shared_memory);
        std::vector<int> threads_in_order(threads);
        for (int t = 0; t < threads; ++t) threads_in_order[t] = order ? threads - 1 - t : t;
        if (const Failure failure = run_block(threads_in_order, random)) return failure;
        const auto *bytes = reinterpret_cast<const unsigned char *>(shared_memory);
        for (size_t i = shared_bytes; i < sizeof shared_memory; ++i)
            if (bytes[i] != 0xff) return SHARED_OVERRUN;
    }
    return NONE;
}
