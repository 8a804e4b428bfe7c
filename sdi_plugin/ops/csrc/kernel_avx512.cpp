#include "prelude.h"

#if defined(__x86_64__)
#pragma GCC target("avx512f","avx512vl","avx512dq","avx512bw","avx2","fma")
#define SDI_ISA avx512
#define SDI_VECTOR_BYTES 64
#include "kernel.h"
#endif
