// Fronts of embedding.h.
#include "ops/embedding/embedding.h"

#include "core/check.h"
#include "python/bind.h"

namespace gg {
namespace {

// Indices as dense int64, each a row of the table.
Array rows_of(const char* op, const Array& index, const Array& weight) {
  check<DTypeError>(index.dtype() == DType::Int64 || index.dtype() == DType::Int32, op, ": input ", index,
                    " must be int64 or int32; convert it with .long()");
  check_ndim(op, "weight", weight, 2);
  check_same_device(op, index, weight);
  Array rows = index.to(DType::Int64).contiguous();
  int64_t bad = embedding_kernels(index.device()).find_bad_row(rows.data<int64_t>(), rows.numel(), weight.size(0));
  if (bad >= 0)
    throw IndexError(message(op, ": index ", rows.item_int(bad), " is out of bounds for axis 0 of weight ", weight,
                             ", which has ", weight.size(0), " rows"));
  return rows;
}

Array embedding_forward(const Array& weight, const Array& index) {
  Array rows = rows_of("embedding", index, weight), w = weight.contiguous();
  Dims shape = index.shape();
  check<ShapeError>(shape.n < kMaxDims, "embedding: input ", index, " has too many axes");
  shape.push(weight.size(1));
  Array y = Array::empty(shape, weight.dtype(), weight.device());
  if (y.numel())
    embedding_kernels(w.device())
        .embedding_forward(item_size(w.dtype()), w.bytes(), rows.data<int64_t>(), y.bytes(), rows.numel(), w.size(0),
                           w.size(1));
  return y;
}

// dw (rows, width) from dy (..., width), scaled by scale[j] where given and read at source[j] where given.
Array embedding_backward(const Array& dy, const Array& index, int64_t rows, int64_t skip,
                         const std::optional<Array>& scale, const std::optional<Array>& source) {
  check_floating("embedding", "weight", dy);
  check_same_device("embedding_backward", dy, index);
  const int64_t width = dy.size(dy.ndim() - 1);
  Array d = dy.contiguous(), at = index.to(DType::Int64).contiguous(),
        dw = Array::empty({rows, width}, dy.dtype(), dy.device());
  Array by = scale ? scale->to(dy.dtype()).contiguous() : Array();
  Array from = source ? source->contiguous() : Array();
  if (dw.numel())
    embedding_kernels(dy.device())
        .embedding_backward(dy.dtype(), d.bytes(), source ? from.data<int64_t>() : nullptr,
                            scale ? by.bytes() : nullptr, at.data<int64_t>(), dw.bytes(), at.numel(), rows, width,
                            skip);
  return dw;
}

void embedding_renorm_(const Array& weight, const Array& index, double max_norm, double norm_type) {
  check_floating("embedding", "weight", weight);
  check<ValueError>(weight.is_contiguous(), "embedding: max_norm needs a dense weight, not a strided view");
  Array rows = rows_of("embedding", index, weight);
  if (rows.numel())
    embedding_kernels(weight.device())
        .embedding_renorm(weight.dtype(), weight.bytes(), rows.data<int64_t>(), rows.numel(), weight.size(0),
                          weight.size(1), max_norm, norm_type);
  bump_version(weight);
}

// y (bags, width), the bag of each position, the number of positions of each bag, and for max the row of each element.
std::tuple<Array, Array, Array, std::optional<Array>> embedding_bag_forward(const Array& weight, const Array& index,
                                                                            const Array& offsets, int64_t mode,
                                                                            int64_t skip,
                                                                            const std::optional<Array>& scale) {
  const char* op = "embedding_bag";
  check_floating(op, "weight", weight);
  check_ndim(op, "input", index, 1);
  check_ndim(op, "offsets", offsets, 1);
  check<DTypeError>(offsets.dtype() == DType::Int64 || offsets.dtype() == DType::Int32, op, ": offsets ", offsets,
                    " must be int64 or int32");
  Array rows = rows_of(op, index, weight), w = weight.contiguous(), starts = offsets.to(DType::Int64).contiguous();
  const int64_t bags = starts.numel() - 1, width = w.size(1), n = rows.numel();
  check<ValueError>(bags >= 0, op, ": offsets ", offsets, " must hold at least the last position");
  check_same_device(op, index, offsets);
  const Array known = starts.to_device({});
  const int64_t* start = known.data<int64_t>();
  check<ValueError>(start[0] == 0, op, ": offsets[0] must be 0, not ", start[0]);
  for (int64_t b = 0; b < bags; ++b)
    check<ValueError>(start[b] <= start[b + 1], op, ": offsets must not decrease, but offsets[", b, "] is ", start[b],
                      " and the next is ", start[b + 1]);
  check<ValueError>(start[bags] <= n, op, ": offsets end at ", start[bags], ", past the ", n, " indices of the input");
  Array by;
  if (scale) {
    check_same_device(op, index, *scale);
    check_same_shape(op, "input", index, "per_sample_weights", *scale);
    check_same_dtype(op, "weight", weight, "per_sample_weights", *scale);
    by = scale->contiguous();
  }
  const EmbeddingKernels& kernels = embedding_kernels(w.device());
  const Device device = w.device();
  Array y = Array::empty({bags, width}, w.dtype(), device), count = Array::empty({bags}, DType::Int64, device);
  Array bag = start[bags] < n ? Array::zeros({n}, DType::Int64, device) : Array::empty({n}, DType::Int64, device);
  std::optional<Array> row;
  if (Bag(mode) == Bag::Max) row = Array::empty({bags, width}, DType::Int64, device);
  kernels.bag_positions(rows.data<int64_t>(), starts.data<int64_t>(), bags, skip, bag.data<int64_t>(),
                        count.data<int64_t>());
  if (y.numel())
    kernels.bag_forward(Bag(mode), w.dtype(), w.bytes(), rows.data<int64_t>(), starts.data<int64_t>(),
                        scale ? by.bytes() : nullptr, y.bytes(), row ? row->data<int64_t>() : nullptr, bags, width,
                        skip);
  return {y, bag, count, row};
}

Array embedding_bag_scale_backward(const Array& dy, const Array& weight, const Array& index, const Array& bag,
                                   int64_t skip) {
  check_same_device("embedding_bag_backward", dy, weight);
  Array d = dy.contiguous(), w = weight.contiguous(), rows = index.to(DType::Int64).contiguous(), at = bag.contiguous();
  Array dscale = Array::empty({rows.numel()}, w.dtype(), w.device());
  embedding_kernels(w.device())
      .bag_scale_backward(w.dtype(), d.bytes(), w.bytes(), rows.data<int64_t>(), at.data<int64_t>(), dscale.bytes(),
                          rows.numel(), w.size(1), skip);
  return dscale;
}

}  // namespace

void bind_embedding(pybind11::module_& m) {
  python::def<&embedding_forward>(m, "embedding_forward", {"weight", "index"});
  python::def<&embedding_backward>(m, "embedding_backward", {"dy", "index", "rows", "skip", "scale", "source"});
  python::def<&embedding_renorm_>(m, "embedding_renorm_", {"weight", "index", "max_norm", "norm_type"});
  python::def<&embedding_bag_forward>(m, "embedding_bag_forward",
                                      {"weight", "index", "offsets", "mode", "skip", "scale"});
  python::def<&embedding_bag_scale_backward>(m, "embedding_bag_scale_backward",
                                             {"dy", "weight", "index", "bag", "skip"});
}

}  // namespace gg
