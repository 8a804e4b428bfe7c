#include "prelude.h"

#include "attention.h"

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2", "fma")
#endif
#define SDI_ISA avx2
#define SDI_VECTOR_BYTES 32
#include "attend.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
