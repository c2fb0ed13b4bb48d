// embedding: rows of a table picked by index, alone or summed over bags.
//
//   embedding      y[j] = w[index[j]]
//   embedding_bag  y[b] = sum, mean or max over the bag's positions j of scale[j] * w[index[j]]
//
// Bag b holds positions offsets[b] .. offsets[b + 1]. Positions whose index is `skip` (the padding row; -1 for none)
// take no part in bags and get no gradient. Rows of a gradient are owned by blocks and summed in the order of
// positions.
#pragma once
#include "core/dtype.h"
#include "core/kernels.h"

namespace gg {

enum class Bag : uint8_t { Sum, Mean, Max };

struct EmbeddingKernels {
  // The first position whose index lies outside [0, rows), or -1.
  int64_t (*find_bad_row)(const int64_t* index, int64_t n, int64_t rows);
  // y (n, width) = w[index], w having `rows` rows.
  void (*embedding_forward)(int item_size, const void* w, const int64_t* index, void* y, int64_t n, int64_t rows,
                            int64_t width);
  // dw (rows, width) = sum over j with index[j] = row of scale[j] * dy[source[j]]; a null source is j, a null scale
  // is 1.
  void (*embedding_backward)(DType dtype, const void* dy, const int64_t* source, const void* scale,
                             const int64_t* index, void* dw, int64_t n, int64_t rows, int64_t width, int64_t skip);
  // Rows that index names and whose norm exceeds max_norm are scaled down to it, each once.
  void (*embedding_renorm)(DType dtype, void* w, const int64_t* index, int64_t n, int64_t rows, int64_t width,
                           double max_norm, double norm_type);
  // bag[j] = the bag of position j, count[b] = its positions that are not skipped.
  void (*bag_positions)(const int64_t* index, const int64_t* offsets, int64_t bags, int64_t skip, int64_t* bag,
                        int64_t* count);
  // y (bags, width); for Max also row (bags, width), the table row each element came from, -1 in empty bags.
  void (*bag_forward)(Bag mode, DType dtype, const void* w, const int64_t* index, const int64_t* offsets,
                      const void* scale, void* y, int64_t* row, int64_t bags, int64_t width, int64_t skip);
  // dscale[j] = dy[bag[j]] . w[index[j]], 0 where skipped.
  void (*bag_scale_backward)(DType dtype, const void* dy, const void* w, const int64_t* index, const int64_t* bag,
                             void* dscale, int64_t n, int64_t width, int64_t skip);
};

GG_KERNELS(EmbeddingKernels, embedding_kernels)

}  // namespace gg
