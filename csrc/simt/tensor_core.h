// Twins of cuda/ptx.h: asynchronous copies, matrix loads and tensor-core products.
//
// A copy is carried out as late as the waits allow, so that a missing wait reads what is not there yet. Matrix loads
// and products are meetings of a warp: lanes bring addresses or fragments, the last to come computes. Sums are rounded
// once, where hardware may truncate.
#pragma once
#include "core/dtype.h"
#include "simt/runtime.h"

namespace gg::simt {

template <int kBytes> void copy_async(void* to, const void* from, int source_bytes = kBytes);
extern template void copy_async<4>(void*, const void*, int);
extern template void copy_async<8>(void*, const void*, int);
extern template void copy_async<16>(void*, const void*, int);
void copy_async_commit();
void copy_async_wait_for(int pending);
template <int kPending> void copy_async_wait() { copy_async_wait_for(kPending); }

void ldmatrix(uint32_t (&r)[1], const void* row, GG_PLACE);
void ldmatrix(uint32_t (&r)[2], const void* row, GG_PLACE);
void ldmatrix(uint32_t (&r)[4], const void* row, GG_PLACE);
void ldmatrix_trans(uint32_t (&r)[1], const void* row, GG_PLACE);
void ldmatrix_trans(uint32_t (&r)[2], const void* row, GG_PLACE);
void ldmatrix_trans(uint32_t (&r)[4], const void* row, GG_PLACE);

template <class T> void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], GG_PLACE);
extern template void mma_m16n8k16<float16>(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2], const char*,
                                           int);
extern template void mma_m16n8k16<bfloat16>(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2], const char*,
                                            int);
void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], GG_PLACE);
uint32_t to_tf32(float x);
template <class T> const T* keep_in_register(const T* p) { return p; }

}  // namespace gg::simt
