// Tensor maps are encoded by the driver. Its function is asked for by name, so that nothing links the driver's library.
#include "cuda/tensor_map.h"

#include <cuda.h>
#include <cuda_runtime.h>
#include <string.h>

#include "cuda/runtime.h"

namespace gg::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

Encode encoder() {
  static const Encode found = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result);
#else
    cudaError_t error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &result);
#endif
    check_cuda(error, "asking the driver for tensor maps");
    if (result != cudaDriverEntryPointSuccess)
      throw std::runtime_error("cuda: the NVIDIA driver is too old to make tensor maps: CUDA 12.0 brought them");
    return reinterpret_cast<Encode>(function);
  }();
  return found;
}

CUtensorMapDataType data_type(DType t) {
  switch (t) {
    case DType::Float16: return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case DType::BFloat16: return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case DType::Float32: return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    case DType::Float64: return CU_TENSOR_MAP_DATA_TYPE_FLOAT64;
    case DType::Int16: return CU_TENSOR_MAP_DATA_TYPE_UINT16;
    case DType::Int32: return CU_TENSOR_MAP_DATA_TYPE_INT32;
    case DType::Int64: return CU_TENSOR_MAP_DATA_TYPE_INT64;
    default: return CU_TENSOR_MAP_DATA_TYPE_UINT8;
  }
}

}  // namespace

TensorMap make_tensor_map(DType dtype, const void* data, int rank, const int64_t* size, const int64_t* byte_stride,
                          const int* box, bool swizzle, const int* step) {
  check_tensor_map(dtype, data, rank, size, byte_stride, box, swizzle, step);
  cuuint64_t sizes[4], strides[3];
  cuuint32_t boxes[4], steps[4];
  for (int k = 0; k < rank; ++k) {
    sizes[k] = cuuint64_t(size[k]);
    steps[k] = step ? cuuint32_t(step[k]) : 1;
    boxes[k] = cuuint32_t(box[k]) * steps[k];
    if (k > 0) strides[k - 1] = cuuint64_t(byte_stride[k - 1]);
  }
  CUtensorMap encoded;
  CUresult result =
      encoder()(&encoded, data_type(dtype), cuuint32_t(rank), const_cast<void*>(data), sizes, strides, boxes, steps,
                CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE,
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw std::runtime_error(
        message("cuda: the driver refuses a tensor map of ", rank, " axes (error ", int(result), ")"));
  TensorMap map;
  static_assert(sizeof map == sizeof encoded && alignof(TensorMap) >= alignof(CUtensorMap));
  memcpy(&map, &encoded, sizeof map);
  return map;
}

}  // namespace gg::cuda
