// A backend: a device beside the CPU, how its memory is had and moved, and its kernels.
//
// Two modules provide one each from the same kernel sources: _cuda, and _simt, which runs them on the CPU. A module is
// loaded when its device is first named; until then nothing of it is needed.
#pragma once
#include <stddef.h>

#include "core/allocator.h"
#include "core/device.h"
#include "ops/attention/attention.h"
#include "ops/conv/conv.h"
#include "ops/conv/fold.h"
#include "ops/creation/creation.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embedding/embedding.h"
#include "ops/index/index.h"
#include "ops/layout/layout.h"
#include "ops/loss/loss.h"
#include "ops/matmul/matmul.h"
#include "ops/norm/norm.h"
#include "ops/optimizer/optimizer.h"
#include "ops/pool/pool.h"
#include "ops/random/random.h"
#include "ops/reduce/reduce.h"
#include "ops/resample/resample.h"
#include "ops/scan/scan.h"
#include "ops/softmax/softmax.h"
#include "ops/sort/sort.h"

namespace gg {

// Every table of kernels, once.
#define GG_TABLES(X)                         \
  X(AttentionKernels, attention_kernels)     \
  X(ConvKernels, conv_kernels)               \
  X(FoldKernels, fold_kernels)               \
  X(CreationKernels, creation_kernels)       \
  X(ElementwiseKernels, elementwise_kernels) \
  X(EmbeddingKernels, embedding_kernels)     \
  X(IndexKernels, index_kernels)             \
  X(LayoutKernels, layout_kernels)           \
  X(LossKernels, loss_kernels)               \
  X(MatmulKernels, matmul_kernels)           \
  X(NormKernels, norm_kernels)               \
  X(OptimizerKernels, optimizer_kernels)     \
  X(PoolKernels, pool_kernels)               \
  X(RandomKernels, random_kernels)           \
  X(ReduceKernels, reduce_kernels)           \
  X(ResampleKernels, resample_kernels)       \
  X(ScanKernels, scan_kernels)               \
  X(SoftmaxKernels, softmax_kernels)         \
  X(SortKernels, sort_kernels)

// index is the device's number. Copies and kernels happen in the order of their calls.
struct Backend {
  int (*device_count)();
  void (*use_device)(int index);    // what follows concerns this device
  void* (*allocate)(size_t bytes);  // never null for bytes > 0; throws OutOfMemory
  // Throws nothing, starts nothing that needs the device in use, and may still be called while the process exits.
  void (*release)(void* data, size_t bytes, int index);
  void (*copy_in)(void* device, const void* host, size_t bytes);   // host may change when it returns
  void (*copy_out)(void* host, const void* device, size_t bytes);  // waits until the bytes are there
  void (*copy_within)(void* to, const void* from, size_t bytes);   // may cross devices of this backend
  void (*synchronize)();
  MemoryStats (*memory_stats)();
  void (*reset_peak)();
  void (*empty_cache)();
#define GG_TABLE_POINTER(Table, name) const Table* name;
  GG_TABLES(GG_TABLE_POINTER)
#undef GG_TABLE_POINTER
};

// The backend of a device that is not the CPU, loaded if need be, with the device in use. Throws where the device
// cannot be had: not built, no driver, no such device.
const Backend& backend(Device device);
bool backend_loaded(DeviceType type);
int device_count(DeviceType type);  // as backend, without a device: how many there are
void install_backend(DeviceType type, const Backend* backend);
struct Storage;
void release_on_device(Storage*);  // a storage's release, for memory of a backend
// How a module is loaded: it must end in install_backend, or throw. Set by the Python module.
void set_backend_loader(void (*load)(DeviceType));

}  // namespace gg
