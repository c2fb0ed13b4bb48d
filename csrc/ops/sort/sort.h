// sort: order along the rows of a dense (rows, n) array, and what follows from order: the k best, the k-th, the mode,
// runs of equal elements, searching.
//
// NaN is greater than every number and equal to itself for ordering; -0 equals 0. All orders are stable.
#pragma once
#include "core/dtype.h"
#include "core/kernels.h"

namespace gg {

enum class NanRule : uint8_t { Greatest, First, Skip };  // in its place; any NaN is the answer; as if it were not there

struct SortKernels {
  // order[r, j] is where in row r the j-th element stands; values[r, j] is that element.
  void (*sort)(DType dtype, const void* x, void* values, int64_t* order, int64_t rows, int64_t n, bool descending);
  // The k largest (or smallest) of each row, best first: values and order are (rows, k).
  void (*topk)(DType dtype, const void* x, void* values, int64_t* order, int64_t rows, int64_t n, int64_t k,
               bool largest);
  // The k-th smallest of each row, counted from 0; k = -1 means the lower median.
  void (*kth)(DType dtype, const void* x, void* values, int64_t* order, int64_t rows, int64_t n, int64_t k,
              NanRule nan);
  // The most frequent element of each row, the least of several, and where it stands last.
  void (*mode)(DType dtype, const void* x, void* values, int64_t* order, int64_t rows, int64_t n);
  // The lexicographic order of the n rows of x (n, m).
  void (*sort_rows)(DType dtype, const void* x, int64_t n, int64_t m, int64_t* order);
  // run[i] = how many times row order[i] differed from the row before it so far (NaN differs from NaN); order may be
  // null. Returns the number of runs.
  int64_t (*mark_runs)(DType dtype, const void* x, int64_t n, int64_t m, const int64_t* order, int64_t* run);
  // Where each of m values per row would be inserted into its row of n sorted ones (read through sorter, if there is
  // one); a single sorted row serves all where shared is set.
  void (*search)(DType dtype, const void* sorted, const int64_t* sorter, const void* x, int64_t* out, int64_t rows,
                 int64_t n, int64_t m, bool shared, bool right);
  // out[i] = (x[i] is among the n sorted values) != invert.
  void (*contains)(DType dtype, const void* sorted, int64_t n, const void* x, bool* out, int64_t m, bool invert);
};

GG_KERNELS(SortKernels, sort_kernels)

}  // namespace gg
