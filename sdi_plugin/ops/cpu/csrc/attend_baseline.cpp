#include "prelude.h"

#include "attention.h"

#define SDI_ISA baseline
#define SDI_VECTOR_BYTES 16
#include "attend.h"
