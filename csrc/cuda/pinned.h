// Pinned host memory: pages that the device reads and writes by itself while both run on.
//
// Blocks are powers of two and are kept. One that copies still read or write is not handed out again before they are
// done.
#pragma once
#include <cuda_runtime.h>
#include <stddef.h>

namespace gg::cuda {

void* pinned_allocate(size_t bytes);  // throws OutOfMemory
void pinned_release(void* data);
// Whether bytes lie in a block of ours, or in memory that another library has pinned.
bool is_pinned(const void* data);
// A copy given to the stream touches the block that holds data, if one does: it waits for it once released.
void pinned_in_use(const void* data, int device, cudaStream_t stream);
void pinned_empty_cache();

// Copies in the order of the current stream that return at once where the host memory is pinned. The host memory must
// not change before they are done.
void copy_in_async(void* device, const void* host, size_t bytes);
void copy_out_async(void* host, const void* device, size_t bytes);
// Copies between devices, or within one.
void copy_within(void* to, const void* from, size_t bytes);

}  // namespace gg::cuda
