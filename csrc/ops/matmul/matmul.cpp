// The front of the matrix product: shapes, dtypes, batches, and which strides the kernel sees.
#include "ops/matmul/matmul.h"

#include "python/bind.h"

namespace gg {
namespace {

// The two last axes of x as a matrix, seen as a row (M = 1) or a column (N = 1) where x has one axis.
Array as_matrix(const Array& x, bool row) {
  if (x.ndim() != 1) return x;
  int64_t n = x.size(0), s = x.strides()[0];
  return row ? x.view({1, n}, {n * s, s}) : x.view({n, 1}, {s, 1});
}

void check_operands(const char* op, const char* a_name, const Array& a, const char* b_name, const Array& b) {
  check_same_device(op, a, b);
  check_same_dtype(op, a_name, a, b_name, b);
  check<DTypeError>(a.dtype() != DType::Bool, op, ": ", a_name, " ", a, " and ", b_name, " ", b,
                    ": bool has no product; convert with .to(gg.int64) or use a floating dtype");
}

// out = alpha a b + beta d for a (..., M, K) and b (..., K, N); d is expandable to out's shape, or not defined. Whether
// the inner dimensions and the batch axes fit has been checked.
void product(const Array& a, const Array& b, const Array& d, double alpha, double beta, const Array& out) {
  MatmulProblem q{};
  int n = out.ndim(), rows = n - 2, columns = n - 1;
  q.m = out.size(rows);
  q.n = out.size(columns);
  q.k = a.size(a.ndim() - 1);
  if (out.numel() == 0) return;
  q.alpha = alpha;
  q.beta = beta;
  q.a = a.bytes();
  q.b = b.bytes();
  q.c = out.bytes();
  q.a_row = a.strides()[a.ndim() - 2];
  q.a_col = a.strides()[a.ndim() - 1];
  q.b_row = b.strides()[b.ndim() - 2];
  q.b_col = b.strides()[b.ndim() - 1];
  q.c_row = out.strides()[rows];
  q.c_col = out.strides()[columns];
  Array addend;
  if (d.defined() && beta != 0) {
    addend = d.expand(out.shape());
    q.d = addend.bytes();
    q.d_row = addend.strides()[rows];
    q.d_col = addend.strides()[columns];
  }
  // Batch axes, outermost first; one that every operand crosses evenly after its neighbour joins it.
  for (int i = 0; i < rows; ++i) {
    auto stride_of = [&](const Array& x) {
      int axis = x.ndim() - n + i;
      return axis < 0 || x.size(axis) == 1 ? 0 : x.strides()[axis];
    };
    int64_t size = out.size(i);
    if (size == 1) continue;
    int64_t sa = stride_of(a), sb = stride_of(b), sc = out.strides()[i], sd = q.d ? stride_of(addend) : 0;
    int last = q.batch_ndim - 1;
    bool joins = last >= 0 && q.a_batch[last] == sa * size && q.b_batch[last] == sb * size &&
                 q.c_batch[last] == sc * size && q.d_batch[last] == sd * size;
    int at = joins ? last : q.batch_ndim++;
    q.batch_shape[at] = joins ? q.batch_shape[at] * size : size;
    q.a_batch[at] = sa;
    q.b_batch[at] = sb;
    q.c_batch[at] = sc;
    q.d_batch[at] = sd;
  }
  // One matrix B under a batch of A whose rows follow each other: a single product with more rows.
  if (q.batch_ndim == 1 && q.b_batch[0] == 0 && q.a_batch[0] == q.m * q.a_row && q.c_batch[0] == q.m * q.c_row &&
      (!q.d || q.d_batch[0] == q.m * q.d_row)) {
    q.m *= q.batch_shape[0];
    q.batch_ndim = 0;
  }
  matmul_kernels(out.device()).matmul(out.dtype(), q);
}

// The product of two matrices of the same dtype, either transposed where that is said, without views on the way.
Array multiply_matrices(const char* op, const Array& x, const Array& y, bool transposed_x, bool transposed_y) {
  int row = transposed_x ? 1 : 0, column = transposed_y ? 0 : 1;
  MatmulProblem q{};
  q.m = x.size(row);
  q.n = y.size(column);
  q.k = x.size(1 - row);
  int64_t k_of_b = y.size(1 - column);
  check<ShapeError>(q.k == k_of_b, op, ": x ", x, " and y ", y, ": inner dimensions ", q.k, " and ", k_of_b, " differ");
  Array out = Array::empty({q.m, q.n}, x.dtype(), x.device());
  if (out.numel() == 0) return out;
  q.alpha = 1;
  q.a = x.bytes();
  q.b = y.bytes();
  q.c = out.bytes();
  q.a_row = x.strides()[row];
  q.a_col = x.strides()[1 - row];
  q.b_row = y.strides()[1 - column];
  q.b_col = y.strides()[column];
  q.c_row = q.n;
  q.c_col = 1;
  matmul_kernels(out.device()).matmul(out.dtype(), q);
  return out;
}

// torch.matmul of operands as named: `transposed_a` takes a.mT and `transposed_b` b.mT, without a copy.
Array multiply(const char* op, const Array& x, const Array& y, bool transposed_x, bool transposed_y) {
  check<ShapeError>(x.ndim() >= 1 && y.ndim() >= 1, op, ": x ", x, " and y ", y,
                    ": a 0-d operand has no inner dimension; multiply with *");
  check_operands(op, "x", x, "y", y);
  if (x.ndim() == 2 && y.ndim() == 2) return multiply_matrices(op, x, y, transposed_x, transposed_y);
  Array a = as_matrix(x, true), b = as_matrix(y, false);
  if (transposed_x) a = a.transpose(a.ndim() - 2, a.ndim() - 1);
  if (transposed_y) b = b.transpose(b.ndim() - 2, b.ndim() - 1);
  int64_t k = a.size(a.ndim() - 1), k_of_b = b.size(b.ndim() - 2);
  check<ShapeError>(k == k_of_b, op, ": x ", x, " and y ", y, ": inner dimensions ", k, " and ", k_of_b, " differ");
  Dims a_batch = a.shape(), b_batch = b.shape(), shape;
  a_batch.n -= 2;
  b_batch.n -= 2;
  check<ShapeError>(broadcast_shapes(a_batch, b_batch, &shape), op, ": x ", x, " and y ", y, ": the batch axes ",
                    a_batch, " and ", b_batch, " do not broadcast");
  shape.push(a.size(a.ndim() - 2));
  shape.push(b.size(b.ndim() - 1));
  Array out = Array::empty(shape, x.dtype(), x.device());
  product(a, b, {}, 1, 0, out);
  if (x.ndim() == 1) shape.erase(shape.n - 2);
  if (y.ndim() == 1) shape.erase(shape.n - 1);
  return x.ndim() == 1 || y.ndim() == 1 ? out.view(shape, contiguous_strides(shape)) : out;
}

}  // namespace

Array matmul(const Array& x, const Array& y) { return multiply("matmul", x, y, false, false); }
Array matmul_nt(const Array& x, const Array& y) { return multiply("matmul", x, y, false, true); }
Array matmul_tn(const Array& x, const Array& y) { return multiply("matmul", x, y, true, false); }

Array mm(const Array& x, const Array& y) {
  check_ndim("mm", "input", x, 2);
  check_ndim("mm", "mat2", y, 2);
  return multiply("mm", x, y, false, false);
}

Array bmm(const Array& x, const Array& y) {
  check_ndim("bmm", "input", x, 3);
  check_ndim("bmm", "mat2", y, 3);
  check<ShapeError>(x.size(0) == y.size(0), "bmm: input ", x, " and mat2 ", y, ": batch sizes ", x.size(0), " and ",
                    y.size(0), " differ; matmul broadcasts");
  return multiply("bmm", x, y, false, false);
}

Array mv(const Array& x, const Array& y) {
  check_ndim("mv", "input", x, 2);
  check_ndim("mv", "vec", y, 1);
  return multiply("mv", x, y, false, false);
}

Array dot(const Array& x, const Array& y) {
  check_ndim("dot", "input", x, 1);
  check_ndim("dot", "tensor", y, 1);
  return multiply("dot", x, y, false, false);
}

// beta input + alpha a b: addmm, addmv, baddbmm. `input` broadcasts to the product's shape.
Array addmm(const std::string& name, const Array& input, const Array& a, const Array& b, double beta, double alpha) {
  const char* op = name.c_str();
  int ndim = name == "baddbmm" ? 3 : 2, b_ndim = name == "addmv" ? 1 : ndim;
  const char* b_name = name == "addmv" ? "vec" : name == "baddbmm" ? "batch2" : "mat2";
  const char* a_name = name == "addmv" ? "mat" : name == "baddbmm" ? "batch1" : "mat1";
  check_ndim(op, a_name, a, ndim);
  check_ndim(op, b_name, b, b_ndim);
  check_operands(op, a_name, a, b_name, b);
  check_operands(op, "input", input, a_name, a);
  int64_t k = a.size(ndim - 1), k_of_b = b.size(b_ndim == 1 ? 0 : b_ndim - 2);
  check<ShapeError>(k == k_of_b, op, ": ", a_name, " ", a, " and ", b_name, " ", b, ": inner dimensions ", k, " and ",
                    k_of_b, " differ");
  Dims shape = a.shape(), broadcast;
  if (ndim == 3)
    check<ShapeError>(a.size(0) == b.size(0), op, ": ", a_name, " ", a, " and ", b_name, " ", b, ": batch sizes ",
                      a.size(0), " and ", b.size(0), " differ");
  shape.n = ndim - 1;
  if (b_ndim > 1) shape.push(b.size(b_ndim - 1));
  check<ShapeError>(input.ndim() <= shape.n && broadcast_shapes(input.shape(), shape, &broadcast) && broadcast == shape,
                    op, ": input ", input, " does not broadcast to the product's shape ", shape);
  Array out = Array::empty(shape, a.dtype(), a.device());
  if (b_ndim == 1) {
    Array addend = input.expand(shape);
    addend = addend.view({shape[0], 1}, {addend.strides()[0], 1});
    product(a, as_matrix(b, false), addend, alpha, beta, out.view({shape[0], 1}, {1, 1}));
  } else {
    product(a, b, input, alpha, beta, out);
  }
  return out;
}

// Whether weight is a matrix and bias, if there is one, has an element for each of its rows.
bool linear_fits(const Array&, const Array& weight, const std::optional<Array>& bias) {
  return weight.ndim() == 2 && (!bias || (bias->ndim() == 1 && bias->size(0) == weight.size(0)));
}

// y = x W^T + b for x (..., in), W (out, in) or (in), b (out).
Array linear(const Array& x, const Array& weight, const std::optional<Array>& bias) {
  check<ShapeError>(weight.ndim() == 2 || (weight.ndim() == 1 && !bias) || (weight.ndim() == 1 && bias->ndim() == 0),
                    "linear: weight ", weight, " must be (out_features, in_features)");
  check<ShapeError>(x.ndim() >= 1, "linear: input ", x, " must have at least one axis (..., in_features)");
  check_operands("linear", "input", x, "weight", weight);
  int64_t in = x.size(x.ndim() - 1), w_in = weight.size(weight.ndim() - 1);
  check<ShapeError>(in == w_in, "linear: input ", x, " and weight ", weight, ": in_features ", in, " and ", w_in,
                    " differ");
  if (bias) {
    check_operands("linear", "input", x, "bias", *bias);
    check<ShapeError>(bias->ndim() <= 1 && (bias->numel() == 1 || bias->numel() == weight.size(0)), "linear: bias ",
                      *bias, " and weight ", weight, ": bias must be (", weight.size(0), ",)");
  }
  Dims shape = x.shape();
  --shape.n;
  Dims matrix = shape;
  if (weight.ndim() == 2) shape.push(weight.size(0));
  matrix.push(weight.ndim() == 2 ? weight.size(0) : 1);
  if (matrix.n == 1) matrix.insert(0, 1);
  Array out = Array::empty(matrix, x.dtype(), x.device());
  if (weight.ndim() == 2 && x.ndim() > 1) {
    product(x, weight.transpose(0, 1), bias ? *bias : Array(), 1, 1, out);
    return out;
  }
  Array rows = weight.ndim() == 2 ? weight : as_matrix(weight, true);
  product(as_matrix(x, true), rows.transpose(0, 1), bias ? *bias : Array(), 1, 1, out);
  return out.view(shape, contiguous_strides(shape));
}

Array cdist_forward(const Array& x, const Array& y, double p) {
  check<ShapeError>(x.ndim() >= 2 && y.ndim() >= 2, "cdist: x1 ", x, " and x2 ", y, " must have at least two axes");
  check_floating("cdist", "x1", x);
  check_same_dtype("cdist", "x1", x, "x2", y);
  check_same_device("cdist", x, y);
  check<ValueError>(p >= 0, "cdist: p is ", p, "; it must not be negative");
  int64_t t = x.size(x.ndim() - 1), m = x.size(x.ndim() - 2), n = y.size(y.ndim() - 2);
  check<ShapeError>(t == y.size(y.ndim() - 1), "cdist: x1 ", x, " and x2 ", y, ": the last axes differ, ", t, " and ",
                    y.size(y.ndim() - 1));
  Dims x_batch = x.shape(), y_batch = y.shape(), shape;
  x_batch.n -= 2;
  y_batch.n -= 2;
  check<ShapeError>(broadcast_shapes(x_batch, y_batch, &shape), "cdist: x1 ", x, " and x2 ", y, ": the batch axes ",
                    x_batch, " and ", y_batch, " do not broadcast");
  int64_t batch = product(shape);
  Dims x_shape = shape, y_shape = shape;
  x_shape.push(m), x_shape.push(t);
  y_shape.push(n), y_shape.push(t);
  shape.push(m), shape.push(n);
  Array out = Array::empty(shape, x.dtype(), x.device());
  if (out.numel() == 0) return out;
  Array xs = x.expand(x_shape).contiguous(), ys = y.expand(y_shape).contiguous();
  matmul_kernels(x.device()).cdist_forward(x.dtype(), p, xs.bytes(), ys.bytes(), out.bytes(), batch, m, n, t);
  return out;
}

// dx1 for one batch shape: the broadcast of batch axes is summed by the caller. `transposed` exchanges the roles: dx2.
Array cdist_backward(const Array& dout, const Array& x, const Array& y, const Array& out, double p, bool transposed) {
  check_same_device("cdist_backward", dout, out);
  int n = out.ndim();
  int64_t m = out.size(transposed ? n - 1 : n - 2), other = out.size(transposed ? n - 2 : n - 1);
  int64_t t = x.size(x.ndim() - 1);
  Dims shape = out.shape();
  shape.n -= 2;
  int64_t batch = product(shape);
  Dims x_shape = shape, y_shape = shape;
  x_shape.push(m), x_shape.push(t);
  y_shape.push(other), y_shape.push(t);
  Array dx = Array::empty(x_shape, x.dtype(), x.device());
  if (dx.numel() == 0) return dx;
  Array xs = x.expand(x_shape).contiguous(), ys = y.expand(y_shape).contiguous();
  Array g = dout.contiguous(), dist = out.contiguous();
  matmul_kernels(x.device())
      .cdist_backward(x.dtype(), p, g.bytes(), xs.bytes(), ys.bytes(), dist.bytes(), dx.bytes(), batch, m, other, t,
                      transposed ? 1 : other, transposed ? m : 1);
  return dx;
}

Array inverse(const Array& a) {
  check<ShapeError>(a.ndim() >= 2 && a.size(a.ndim() - 1) == a.size(a.ndim() - 2), "inv: A ", a,
                    " must hold square matrices (..., N, N)");
  check<DTypeError>(a.dtype() == DType::Float32 || a.dtype() == DType::Float64, "inv: A ", a,
                    " must be float32 or float64");
  Array x = a.contiguous(), out = Array::empty(a.shape(), a.dtype(), a.device());
  if (out.numel() == 0) return out;
  int64_t n = a.size(a.ndim() - 1);
  check<std::runtime_error>(
      matmul_kernels(a.device()).inverse(a.dtype(), x.bytes(), out.bytes(), a.numel() / (n * n), n), "inv: A ", a,
      ": a matrix is singular and has no inverse");
  return out;
}

void bind_matmul(pybind11::module_& m) {
  python::def<&matmul>(m, "matmul", {"x", "y"});
  python::def<&matmul_nt>(m, "matmul_nt", {"x", "y"});
  python::def<&matmul_tn>(m, "matmul_tn", {"x", "y"});
  python::def<&mm>(m, "mm", {"input", "mat2"});
  python::def<&bmm>(m, "bmm", {"input", "mat2"});
  python::def<&mv>(m, "mv", {"input", "vec"});
  python::def<&dot>(m, "dot", {"input", "tensor"});
  python::def<&addmm>(m, "addmm", {"op", "input", "a", "b", "beta", "alpha"});
  python::def<&linear_fits>(m, "linear_fits", {"input", "weight", "bias"});
  python::def<&linear>(m, "linear", {"input", "weight", "bias"});
  python::def<&inverse>(m, "inverse", {"A"});
  python::def<&cdist_forward>(m, "cdist_forward", {"x1", "x2", "p"});
  python::def<&cdist_backward>(m, "cdist_backward", {"dout", "x1", "x2", "out", "p", "transposed"});
}

}  // namespace gg
