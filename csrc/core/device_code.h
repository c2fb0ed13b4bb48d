// GG_DEVICE marks a function that CPU kernels and CUDA kernels share: for a GPU's compiler it is device code.
#pragma once

#if defined(__CUDACC__)
#define GG_DEVICE __device__
#else
#define GG_DEVICE
#endif
