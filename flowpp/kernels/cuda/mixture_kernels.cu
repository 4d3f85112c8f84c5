// CUDA kernels of the logistic mixture: one element per thread, parameters in shared memory.
//
// The formulas are in mixture_logistic.cu, the source of the CPU kernels too, which is included
// below. This file has only memory and threads. launch.py sets the arguments and sizes.
//
// A block reads the parameters of its elements once, in place in the network's output, into shared
// memory: there each thread has a row of its own, computes, and in `mixture_backward` overwrites
// it by the gradients, which the block writes once. Parameters in bfloat16 are widened on the way
// in, and their gradients rounded on the way out.

#include "mixture_logistic.cu"

constexpr int AXES = 4;
constexpr int BATCH = 4;  // loads of a thread that are in flight together

// The arguments of a kernel, which leaves unset what it does not use. The order and the sizes are
// those of `Task` in launch.py: every field has 8 bytes.
//
// Elementwise arrays (x, y, gradients) are contiguous. `parameters` is one array of `leading`
// numbers that pass through, `count` logits, means and log-scales for each element; or three
// arrays, of logits, of means and of log-scales, with equal strides. Value j of an element is at
// parameter + j * value_stride. Elements are numbered in the order of the parameters in memory:
// by up to AXES indices, the last one fastest, each with a stride in elementwise arrays and one in
// `parameters` and `targets`. If `dense`, the values of consecutive elements are consecutive.
template <typename T> struct Task {
    const T *x;
    const void *parameters[3];
    const T *g_y, *g_l, *g_leading;
    T *y, *l, *leading, *g_x;
    void *targets[3];
    T *root, *residual, *width;
    Index *evaluations;
    Index elements, size[AXES], element_stride[AXES], parameter_stride[AXES], value_stride;
    Index arrays, passed, count, pitch, dense, half;
    double floor, ulps;
    Index cap;

    FLOWPP_METHOD int values() const { return (int)(arrays == 1 ? passed + 3 * count : count); }
};

// ---- numbers in memory -------------------------------------------------------------------------

struct BFloat16 { unsigned short bits; };

FLOWPP_FUNCTION float widen(float x) { return x; }
FLOWPP_FUNCTION double widen(double x) { return x; }
FLOWPP_FUNCTION float widen(BFloat16 x) { return from_bits((int)((unsigned)x.bits << 16)); }

FLOWPP_FUNCTION void narrow(float x, float &to) { to = x; }
FLOWPP_FUNCTION void narrow(double x, double &to) { to = x; }
// To the nearest, and of two equally near ones to the even one, as torch.
FLOWPP_FUNCTION void narrow(float x, BFloat16 &to) {
    const unsigned bits = (unsigned)bits_of(x);
    const unsigned rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    to.bits = (unsigned short)(x != x ? 0x7fc0u : rounded);
}

// Log-scales, not below a floor; NaN stays NaN.
template <typename T> struct Floored {
    const T *log_scales;
    T floor;
    FLOWPP_METHOD Floored operator+(Index n) const { return {log_scales + n, floor}; }
    FLOWPP_METHOD T operator[](Index n) const {
        const T log_scale = log_scales[n];
        return log_scale < floor ? floor : log_scale;
    }
};

// Gradients of `Floored`, written over the log-scales: 0 below the floor and for NaN.
template <typename T> struct FlooredTarget {
    T *log_scales;
    T floor;
    FLOWPP_METHOD FlooredTarget operator+(Index n) const { return {log_scales + n, floor}; }
    FLOWPP_METHOD FlooredTarget operator*() const { return *this; }
    FLOWPP_METHOD void operator=(T gradient) { *log_scales = *log_scales >= floor ? gradient : 0; }
};

// Memory of `body_sums` in place of the parameters: weight, z and rate over logit, mean and
// log-scale. The weight's sign bit tells that the log-scale is below the floor, or NaN.
template <typename T> struct SavedInPlace {
    T *logits, *means, *log_scales;
    Index stride;
    T floor;
};

template <typename T>
FLOWPP_FUNCTION void save(SavedInPlace<T> saved, int k, int, T weight, const Component<T> &c) {
    const Index at = k * saved.stride;
    saved.logits[at] = saved.log_scales[at] >= saved.floor ? weight : -weight;
    saved.means[at] = c.z;
    saved.log_scales[at] = c.rate;
}

// A gradient that is 0 if a flag is set.
template <typename T> struct ClearedTarget {
    T *target;
    bool cleared;
    FLOWPP_METHOD ClearedTarget operator*() const { return *this; }
    FLOWPP_METHOD void operator=(T gradient) { *target = cleared ? 0 : gradient; }
};

// ---- between global and shared memory ----------------------------------------------------------

template <typename S> struct alignas(16) Pack {
    static constexpr int SIZE = 16 / (int)sizeof(S);
    S value[SIZE];
};

// From one pack of S to the packs of T with as many values, and back.
template <typename T, typename S> FLOWPP_FUNCTION void widen(const Pack<S> &from, Pack<T> *to) {
#pragma unroll
    for (int p = 0; p < Pack<S>::SIZE / Pack<T>::SIZE; ++p) {
        Pack<T> wide;
#pragma unroll
        for (int j = 0; j < Pack<T>::SIZE; ++j)
            wide.value[j] = widen(from.value[p * Pack<T>::SIZE + j]);
        to[p] = wide;
    }
}

template <typename T, typename S> FLOWPP_FUNCTION void narrow(const Pack<T> *from, Pack<S> &to) {
    Pack<S> result;
#pragma unroll
    for (int p = 0; p < Pack<S>::SIZE / Pack<T>::SIZE; ++p) {
        const Pack<T> wide = from[p];
#pragma unroll
        for (int j = 0; j < Pack<T>::SIZE; ++j)
            narrow(wide.value[j], result.value[p * Pack<T>::SIZE + j]);
    }
    to = result;
}

// Place of a value of consecutive rows in shared memory, where they are `pitch` apart.
struct Place {
    int column, at;
    FLOWPP_METHOD Place(int index, int width, int pitch)
        : column(index % width), at(index / width * pitch + index % width) {}
    FLOWPP_METHOD void advance(const Place &step, int width, int pitch) {
        column += step.column;
        at += step.at;
        if (column < width) return;
        column -= width;
        at += pitch - width;
    }
};

// How a block divides `total` consecutive values: up to the first address that is a multiple of
// 16, packs of 16 bytes, and the rest. Rows shorter than a pack are all `head`.
template <typename S> struct Division {
    int head, packs, tail;
    FLOWPP_METHOD Division(const S *from, int total, int width) {
        const int before = (int)(((16 - ((unsigned long long)from & 15)) & 15) / sizeof(S));
        head = before < total && width >= Pack<S>::SIZE ? before : total;
        packs = (total - head) / Pack<S>::SIZE;
        tail = head + packs * Pack<S>::SIZE;
    }
};

// Copies `total` consecutive values to shared memory, in all threads of the block. Both addresses
// of a pack must be multiples of 16.
template <typename T, typename S>
FLOWPP_FUNCTION void all_in(const S *from, int total, T *shared) {
    constexpr int N = Pack<S>::SIZE;
    const int thread = (int)threadIdx.x, threads = (int)blockDim.x;
    const Division<S> part(from, total, N);
    for (int i = thread; i < part.head; i += threads) shared[i] = widen(from[i]);
    for (int i = part.tail + thread; i < total; i += threads) shared[i] = widen(from[i]);
    const Pack<S> *packs = reinterpret_cast<const Pack<S> *>(from + part.head);
    Pack<T> *targets = reinterpret_cast<Pack<T> *>(shared + part.head);
    for (int first = thread; first < part.packs; first += BATCH * threads) {
        Pack<S> held[BATCH];
#pragma unroll
        for (int b = 0; b < BATCH; ++b)
            if (first + b * threads < part.packs) held[b] = packs[first + b * threads];
#pragma unroll
        for (int b = 0; b < BATCH; ++b)
            if (first + b * threads < part.packs)
                widen(held[b], targets + (first + b * threads) * (N / Pack<T>::SIZE));
    }
}

// The inverse of `all_in`.
template <typename T, typename S>
FLOWPP_FUNCTION void all_out(const T *shared, int total, S *to) {
    constexpr int N = Pack<S>::SIZE;
    const int thread = (int)threadIdx.x, threads = (int)blockDim.x;
    const Division<S> part(to, total, N);
    for (int i = thread; i < part.head; i += threads) narrow(shared[i], to[i]);
    for (int i = part.tail + thread; i < total; i += threads) narrow(shared[i], to[i]);
    const Pack<T> *sources = reinterpret_cast<const Pack<T> *>(shared + part.head);
    Pack<S> *packs = reinterpret_cast<Pack<S> *>(to + part.head);
    for (int n = thread; n < part.packs; n += threads)
        narrow(sources + n * (N / Pack<T>::SIZE), packs[n]);
}

// Copies `total` values of consecutive rows to shared memory, where the rows have gaps.
template <typename T, typename S>
FLOWPP_FUNCTION void rows_in(const S *from, int total, int width, int pitch, T *shared) {
    constexpr int N = Pack<S>::SIZE;
    const int thread = (int)threadIdx.x, threads = (int)blockDim.x, gap = pitch - width;
    const Division<S> part(from, total, width);
    for (int i = thread; i < part.head; i += threads)
        shared[Place(i, width, pitch).at] = widen(from[i]);
    for (int i = part.tail + thread; i < total; i += threads)
        shared[Place(i, width, pitch).at] = widen(from[i]);
    const Pack<S> *packs = reinterpret_cast<const Pack<S> *>(from + part.head);
    const Place step(threads * N, width, pitch);
    Place place(part.head + thread * N, width, pitch);
    for (int first = thread; first < part.packs; first += BATCH * threads) {
        Pack<S> held[BATCH];
#pragma unroll
        for (int b = 0; b < BATCH; ++b)
            if (first + b * threads < part.packs) held[b] = packs[first + b * threads];
#pragma unroll
        for (int b = 0; b < BATCH; ++b) {
            if (first + b * threads < part.packs) {
                T *const row = shared + place.at, *const next_row = row + gap;
#pragma unroll
                for (int j = 0; j < N; ++j)
                    (place.column + j < width ? row : next_row)[j] = widen(held[b].value[j]);
            }
            place.advance(step, width, pitch);
        }
    }
}

// The inverse of `rows_in`.
template <typename T, typename S>
FLOWPP_FUNCTION void rows_out(const T *shared, int total, int width, int pitch, S *to) {
    constexpr int N = Pack<S>::SIZE;
    const int thread = (int)threadIdx.x, threads = (int)blockDim.x, gap = pitch - width;
    const Division<S> part(to, total, width);
    for (int i = thread; i < part.head; i += threads)
        narrow(shared[Place(i, width, pitch).at], to[i]);
    for (int i = part.tail + thread; i < total; i += threads)
        narrow(shared[Place(i, width, pitch).at], to[i]);
    Pack<S> *packs = reinterpret_cast<Pack<S> *>(to + part.head);
    const Place step(threads * N, width, pitch);
    Place place(part.head + thread * N, width, pitch);
    for (int n = thread; n < part.packs; n += threads) {
        const T *const row = shared + place.at, *const next_row = row + gap;
        Pack<S> held;
#pragma unroll
        for (int j = 0; j < N; ++j)
            narrow((place.column + j < width ? row : next_row)[j], held.value[j]);
        packs[n] = held;
        place.advance(step, width, pitch);
    }
}

// Copies the values of this thread's element, `stride` apart, to its row, `step` apart.
template <typename T, typename S>
FLOWPP_FUNCTION void column_in(const S *from, Index stride, int count, T *row, int step) {
    constexpr int MANY = 4 * BATCH;
    int left = count;
    for (; left >= MANY; left -= MANY) {
        S held[MANY];
#pragma unroll
        for (int b = 0; b < MANY; ++b, from += stride) held[b] = *from;
#pragma unroll
        for (int b = 0; b < MANY; ++b, row += step) *row = widen(held[b]);
    }
    for (; left > 0; --left, from += stride, row += step) *row = widen(*from);
}

template <typename T, typename S>
FLOWPP_FUNCTION void column_out(const T *row, int step, int count, S *to, Index stride) {
#pragma unroll 4
    for (int j = 0; j < count; ++j, row += step, to += stride) narrow(*row, *to);
}

// ---- one block ---------------------------------------------------------------------------------

// This thread's element and its row in shared memory: value j is at values[j * step].
template <typename T> struct Row {
    T *shared, *values;
    Index step, first, number, element, parameter;
    int rows;  // of the block
    bool present;

    FLOWPP_METHOD Row(const Task<T> &t, T *memory) : shared(memory), element(0), parameter(0) {
        first = blockIdx.x * (Index)blockDim.x;
        number = first + threadIdx.x;
        present = number < t.elements;
        rows = (int)lesser(t.elements - first, (Index)blockDim.x);
        step = t.dense ? 1 : blockDim.x;
        if (is_gapless(t)) shared += shift(t);
        values = shared + (t.dense ? threadIdx.x * t.pitch : threadIdx.x);
        if (!present) return;
        // Division of 64-bit integers takes about four times as long.
        if (t.elements < (1ll << 31)) locate<unsigned>(t);
        else locate<unsigned long long>(t);
    }

    FLOWPP_METHOD static bool is_gapless(const Task<T> &t) {
        return t.dense && t.arrays == 1 && t.pitch == t.values();
    }

    // Number of values before the rows in shared memory, so that packs have the same alignment
    // there and in global memory.
    FLOWPP_METHOD int shift(const Task<T> &t) const {
        const int bytes = sizeof(T) == 4 && t.half ? 2 : (int)sizeof(T);
        const unsigned long long from = (unsigned long long)t.parameters[0];
        return (int)((from + (unsigned long long)(first * t.values()) * bytes) & 15) / bytes;
    }

    FLOWPP_METHOD static bool is_aligned_alike(const Task<T> &t) {
        const unsigned long long from = (unsigned long long)t.parameters[0];
        return ((from ^ (unsigned long long)t.targets[0]) & 15) == 0;
    }

    template <typename Number> FLOWPP_METHOD void locate(const Task<T> &t) {
        Number left = (Number)number;
#pragma unroll
        for (int axis = AXES - 1; axis >= 0; --axis) {
            const Number size = (Number)t.size[axis];
            const Number above = axis && size > 1 ? left / size : (axis ? left : 0);
            const Index index = (Index)(left - above * size);
            element += index * t.element_stride[axis];
            parameter += index * t.parameter_stride[axis];
            left = above;
        }
    }

    template <typename S> FLOWPP_METHOD void copy_in(const Task<T> &t) {
        const int width = t.values();
        for (int a = 0; a < t.arrays; ++a) {
            const S *from = static_cast<const S *>(t.parameters[a]);
            if (is_gapless(t))
                all_in(from + first * width, rows * width, shared);
            else if (t.dense)
                rows_in(from + first * width, rows * width, width, (int)t.pitch,
                        shared + a * width);
            else if (present)
                column_in(from + parameter, t.value_stride, width, values + a * width * step,
                          (int)step);
        }
    }

    // Copies the parameters of this thread's element alone.
    template <typename S> FLOWPP_METHOD void copy_again(const Task<T> &t) {
        const int width = t.values();
        for (int a = 0; a < t.arrays; ++a)
            column_in(static_cast<const S *>(t.parameters[a]) + parameter, t.value_stride, width,
                      values + a * width * step, step);
    }

    template <typename S> FLOWPP_METHOD void copy_out(const Task<T> &t) {
        const int width = t.values();
        for (int a = 0; a < t.arrays; ++a) {
            S *to = static_cast<S *>(t.targets[a]);
            if (is_gapless(t) && is_aligned_alike(t))
                all_out(shared, rows * width, to + first * width);
            else if (t.dense)
                rows_out(shared + a * width, rows * width, width, (int)t.pitch,
                         to + first * width);
            else if (present)
                column_out(values + a * width * step, step, width, to + parameter,
                           t.value_stride);
        }
    }

    FLOWPP_METHOD void load(const Task<T> &t) {
        if (sizeof(T) == 4 && t.half) copy_in<BFloat16>(t);
        else copy_in<T>(t);
        if (t.dense) __syncthreads();
    }

    FLOWPP_METHOD void load_again(const Task<T> &t) {
        if (sizeof(T) == 4 && t.half) copy_again<BFloat16>(t);
        else copy_again<T>(t);
    }

    FLOWPP_METHOD void store(const Task<T> &t) {
        if (t.dense) __syncthreads();
        if (sizeof(T) == 4 && t.half) copy_out<BFloat16>(t);
        else copy_out<T>(t);
    }

    FLOWPP_METHOD T *logits(const Task<T> &t) const { return values + t.passed * step; }
    FLOWPP_METHOD T *means(const Task<T> &t) const { return logits(t) + t.count * step; }
    FLOWPP_METHOD T *log_scales(const Task<T> &t) const { return means(t) + t.count * step; }
};

// Evaluation of one element for find_root.
template <typename T> struct ElementAt {
    const T *logits, *means;
    Floored<T> log_scales;
    Index stride;
    int count;
    FLOWPP_METHOD void operator()(T x, T &y, T &l) const {
        evaluate<T, 1>(&x, logits, means, log_scales, stride, count, &y, &l);
    }
};

template <typename T> FLOWPP_FUNCTION void forward(const Task<T> &t, T *memory) {
    Row<T> row(t, memory);
    row.load(t);
    if (!row.present) return;
    const Floored<T> log_scales = {row.log_scales(t), (T)t.floor};
    const T x = t.x[row.element];
    T y, l;
    evaluate<T, 1>(&x, row.logits(t), row.means(t), log_scales, row.step, (int)t.count, &y, &l);
    t.y[row.element] = y;
    t.l[row.element] = l;
    for (Index j = 0; j < t.passed; ++j)
        t.leading[j * t.elements + row.element] = row.values[j * row.step];
}

// Writes the gradients over the parameters in this thread's row, and returns that of x.
template <typename T>
FLOWPP_FUNCTION T gradient_in_place(const Task<T> &t, Row<T> &row, T x, T g_y, T g_l) {
    T *const logits = row.logits(t), *const means = row.means(t), *const scales = row.log_scales(t);
    const Index stride = row.step;
    const int count = (int)t.count;
    const T floor = (T)t.floor;
    const Floored<T> log_scales = {scales, floor};
    const SavedInPlace<T> saved = {logits, means, scales, stride, floor};
    Sums<T, 1> s;
    body_sums(&x, logits, means, log_scales, stride, count, s, saved);
    T g_x = s.poison[0];
    if (!in_body(s, 0) || !is_finite(g_x)) {
        row.load_again(t);
        tail_gradient(x, logits, means, log_scales, stride, count, s.shift[0], s.weight[0], g_y,
                      g_l, g_x, logits, means, FlooredTarget<T>{scales, floor});
        return g_x;
    }
    const T per_cdf = 1 / s.cdf[0], per_survival = 1 / s.survival[0];
    const T per_density = 1 / s.density[0], per_weight = 1 / s.weight[0];
    T sum = 0;
    for (int k = 0; k < count; ++k) {
        const Index at = k * stride;
        const bool below_floor = bits_of(logits[at]) < 0;
        const T w = magnitude(logits[at]);
        const Component<T> c = component_at(means[at], scales[at]);
        component_gradient(c, w * c.cdf * per_cdf, w * c.survival * per_survival,
                           w * (c.rate * c.small) * per_density, w * per_weight, g_y, g_l, sum,
                           logits + at, means + at, ClearedTarget<T>{scales + at, below_floor});
        if (!ends_block(k, count)) continue;
        g_x += sum;
        sum = 0;
    }
    return g_x;
}

template <typename T> FLOWPP_FUNCTION void backward(const Task<T> &t, T *memory) {
    Row<T> row(t, memory);
    row.load(t);
    if (row.present) {
        t.g_x[row.element] = gradient_in_place(t, row, t.x[row.element], t.g_y[row.element],
                                               t.g_l[row.element]);
        for (Index j = 0; j < t.passed; ++j)
            row.values[j * row.step] = t.g_leading[j * t.elements + row.element];
    }
    row.store(t);
}

template <typename T> FLOWPP_FUNCTION void inverse(const Task<T> &t, T *memory) {
    Row<T> row(t, memory);
    row.load(t);
    if (!row.present) return;
    const ElementAt<T> at = {row.logits(t), row.means(t), {row.log_scales(t), (T)t.floor},
                             row.step, (int)t.count};
    const T target = t.x[row.element];
    const Root<T> found = find_root(
        target, bracket_root(target, at.logits, at.means, at.log_scales, at.stride, at.count),
        (T)t.ulps, (int)t.cap, at);
    t.root[row.element] = found.root;
    t.residual[row.element] = found.residual;
    t.width[row.element] = found.width;
    t.evaluations[row.element] = found.evaluations;
}

extern __shared__ unsigned long long shared_memory[];

#define FLOWPP_KERNEL(DIRECTION, T, NAME)                                                         \
    extern "C" __global__ void mixture_##DIRECTION##_##NAME(const Task<T> task) {                 \
        DIRECTION(task, reinterpret_cast<T *>(shared_memory));                                    \
    }

FLOWPP_KERNEL(forward, float, float32)
FLOWPP_KERNEL(forward, double, float64)
FLOWPP_KERNEL(backward, float, float32)
FLOWPP_KERNEL(backward, double, float64)
FLOWPP_KERNEL(inverse, float, float32)
FLOWPP_KERNEL(inverse, double, float64)
