// What every source file of the kernel includes first.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>

#include "parallel.h"
#include "stage.h"

#define SDI_INLINE __attribute__((always_inline)) inline
#define SDI_NOINLINE __attribute__((noinline))
#define SDI_INLINE_LAMBDA __attribute__((always_inline))

// Before a loop over an array of vectors that has to stay in registers.
#if defined(__clang__)
#define SDI_UNROLL _Pragma("unroll")
#else
#define SDI_UNROLL _Pragma("GCC unroll 16")
#endif

// Select four elements from two vectors of four. The calling function defines their index type as Order.
#if defined(__clang__)
#define SDI_SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define SDI_SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, Order{i, j, k, l})
#endif
