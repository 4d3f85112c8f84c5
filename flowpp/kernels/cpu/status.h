// Results of the kernels. Exceptions must not leave them, since their caller is not C++.

#pragma once

#include <new>

namespace {

constexpr int DONE = 0, OUT_OF_MEMORY = 1;

}  // namespace
