// The CUDA language: from the toolkit, or from csrc/simt where the kernels run as fibers on the CPU.
#pragma once
#if defined(GG_SIMT)
#include "simt/language.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#endif
