#include "prelude.h"

#if defined(__x86_64__)
#pragma GCC target("avx2","fma")
#define SDI_ISA avx2
#define SDI_VECTOR_BYTES 32
#include "kernel.h"
#endif
