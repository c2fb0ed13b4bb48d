// Fronts of convolution: x (N, C, spatial...), w (K, C/groups, kernel...); one to three spatial axes.
#include "ops/conv/conv.h"

#include "core/array.h"
#include "core/check.h"
#include "ops/conv/attributes.h"
#include "ops/conv/fold.h"
#include "python/bind.h"

namespace gg {
namespace {

std::string op_name(const char* stem, int nd) { return message(stem, nd, "d"); }

struct Attributes {
  Dims stride, pad, pad_end, dilation;
  int64_t groups;
};

// padding: one number, one per axis, or the beginnings of all axes followed by their ends.
Attributes check_attributes(const std::string& op, int nd, const Dims& stride, const Dims& padding,
                            const Dims& dilation, int64_t groups) {
  Attributes a;
  a.stride = per_axis(op, "stride", stride, nd, 1);
  a.dilation = per_axis(op, "dilation", dilation, nd, 1);
  Dims begin = padding, end = padding;
  if (padding.n == 2 * nd && padding.n > 1) {
    begin.n = end.n = nd;
    for (int i = 0; i < nd; ++i) end[i] = padding[nd + i];
  }
  a.pad = per_axis(op, "padding", begin, nd, 0);
  a.pad_end = per_axis(op, "padding", end, nd, 0);
  a.groups = groups;
  check<ValueError>(groups >= 1 && groups < (int64_t(1) << 31), op, ": groups ", groups,
                    " must be at least 1 and less than 2^31");
  return a;
}

// Sizes of axis i counted among three, of which the spatial axes are the last.
ConvShape make_shape(int nd, int64_t batch, int64_t in_channels, int64_t out_channels, const Attributes& a,
                     const Dims& in, const Dims& out, const Dims& kernel) {
  ConvShape s;
  s.batch = batch;
  s.groups = a.groups;
  s.in_channels = in_channels;
  s.out_channels = out_channels;
  for (int i = 0; i < 3; ++i) {
    const int j = i - (3 - nd);
    s.in[i] = j < 0 ? 1 : in[j];
    s.out[i] = j < 0 ? 1 : out[j];
    s.kernel[i] = j < 0 ? 1 : kernel[j];
    s.stride[i] = j < 0 || out[j] <= 1 ? 1 : a.stride[j];  // a single window takes no step, however long
    s.pad[i] = j < 0 ? 0 : a.pad[j];
    s.dilation[i] = j < 0 ? 1 : a.dilation[j];
  }
  return s;
}

Dims spatial(const Dims& shape) {
  Dims d;
  for (int i = 2; i < shape.n; ++i) d.push(shape[i]);
  return d;
}

Dims with_channels(int64_t batch, int64_t channels, const Dims& sizes) {
  Dims d{batch, channels};
  for (int64_t v : sizes) d.push(v);
  return d;
}

int64_t out_size(int64_t in, int64_t kernel, int64_t stride, int64_t pad, int64_t pad_end, int64_t dilation) {
  const int64_t room = in + pad + pad_end - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

Dims out_sizes(const std::string& op, const Array& x, const Array& w, const Attributes& a) {
  Dims out;
  for (int i = 0; i + 2 < x.ndim(); ++i) {
    const int64_t span = a.dilation[i] * (w.size(i + 2) - 1) + 1, padded = x.size(i + 2) + a.pad[i] + a.pad_end[i];
    check<ShapeError>(w.size(i + 2) >= 1, op, ": weight ", w, " has an empty kernel");
    check<ShapeError>(span <= padded, op, ": input ", x, " and weight ", w, ": axis ", i + 2, " has size ", padded,
                      " after padding, the kernel spans ", span);
    out.push(out_size(x.size(i + 2), w.size(i + 2), a.stride[i], a.pad[i], a.pad_end[i], a.dilation[i]));
  }
  return out;
}

void check_operands(const std::string& op, const Array& x, const Array& w, const std::optional<Array>& bias) {
  check<DTypeError>(is_floating(x.dtype()) || x.dtype() == DType::Int64, op, ": input ", x,
                    " must be floating point or int64; convert it with .float()");
  check_same_dtype(op.c_str(), "input", x, "weight", w);
  check_same_device(op.c_str(), x, w);
  check<ShapeError>(x.ndim() >= 3 && x.ndim() <= 5, op, ": input ", x,
                    " needs a batch axis, a channel axis and 1 to 3 more");
  check<ShapeError>(w.ndim() == x.ndim(), op, ": input ", x, " and weight ", w, ": weight needs ", x.ndim(), " axes");
  if (bias) {
    check_same_dtype(op.c_str(), "input", x, "bias", *bias);
    check_same_device(op.c_str(), x, *bias);
  }
}

void check_bias(const std::string& op, const Array& w, const std::optional<Array>& bias, int64_t channels) {
  if (bias)
    check<ShapeError>(bias->ndim() == 1 && bias->size(0) == channels, op, ": weight ", w, " and bias ", *bias,
                      ": bias (", channels, ",) would fit");
}

}  // namespace

Array conv_forward(const Array& x, const Array& w, const std::optional<Array>& bias, const Dims& stride,
                   const Dims& padding, const Dims& dilation, int64_t groups) {
  const int nd = x.ndim() - 2;
  const std::string op = op_name("conv", nd);
  check_operands(op, x, w, bias);
  const Attributes a = check_attributes(op, nd, stride, padding, dilation, groups);
  const int64_t in_channels = x.size(1), out_channels = w.size(0);
  check<ShapeError>(in_channels == w.size(1) * groups, op, ": input ", x, " and weight ", w, " with groups ", groups,
                    ": ", in_channels, " input channels, weight takes ", w.size(1) * groups);
  check<ShapeError>(out_channels % groups == 0, op, ": weight ", w, " with groups ", groups, ": ", out_channels,
                    " output channels do not divide into ", groups, " groups");
  check_bias(op, w, bias, out_channels);
  const Dims out = out_sizes(op, x, w, a), shape = with_channels(x.size(0), out_channels, out);
  check_shape(op.c_str(), shape, x.dtype());
  Array y = Array::empty(shape, x.dtype(), x.device());
  if (y.numel() == 0) return y;
  const Array xc = x.contiguous(), wc = w.contiguous(), bc = bias ? bias->contiguous() : Array();
  conv_kernels(x.device())
      .conv_forward(
          x.dtype(),
          make_shape(nd, x.size(0), in_channels, out_channels, a, spatial(x.shape()), out, spatial(w.shape())),
          xc.bytes(), wc.bytes(), bias ? bc.bytes() : nullptr, y.bytes());
  return y;
}

// The adjoint of conv_forward in x, whose spatial sizes are in_size: also the transposed convolution of dy. dy may have
// fewer windows than x has room for; the others count as zero.
Array conv_data_grad(const Array& dy, const Array& w, const std::optional<Array>& bias, const Dims& in_size,
                     const Dims& stride, const Dims& padding, const Dims& dilation, int64_t groups) {
  const int nd = dy.ndim() - 2;
  const std::string op = op_name("conv_transpose", nd);
  check_operands(op, dy, w, bias);
  const Attributes a = check_attributes(op, nd, stride, padding, dilation, groups);
  check<ShapeError>(dy.size(1) == w.size(0) && w.size(0) % groups == 0, op, ": input ", dy, " and weight ", w,
                    " with groups ", groups, ": ", dy.size(1), " input channels, weight takes ", w.size(0));
  check<ShapeError>(in_size.n == nd, op, ": output size ", in_size, " has ", in_size.n, " axes; ", nd, " are needed");
  const int64_t channels = w.size(1) * groups;
  check_bias(op, w, bias, channels);
  for (int i = 0; i < nd; ++i)
    check<ShapeError>(
        dy.size(i + 2) <= out_size(in_size[i], w.size(i + 2), a.stride[i], a.pad[i], a.pad_end[i], a.dilation[i]), op,
        ": input ", dy, " and weight ", w, ": no convolution of an image of size ", in_size, " gives this input");
  const Dims shape = with_channels(dy.size(0), channels, in_size);
  check_shape(op.c_str(), shape, dy.dtype());
  Array dx = Array::empty(shape, dy.dtype(), dy.device());
  if (dx.numel() == 0) return dx;
  const Array dyc = dy.contiguous(), wc = w.contiguous(), bc = bias ? bias->contiguous() : Array();
  conv_kernels(dy.device())
      .conv_data_grad(
          dy.dtype(),
          make_shape(nd, dy.size(0), channels, w.size(0), a, in_size, spatial(dy.shape()), spatial(w.shape())),
          dyc.bytes(), wc.bytes(), bias ? bc.bytes() : nullptr, dx.bytes());
  return dx;
}

// The adjoint of conv_forward in w, whose kernel sizes are given.
Array conv_weight_grad(const Array& x, const Array& dy, const Dims& kernel, const Dims& stride, const Dims& padding,
                       const Dims& dilation, int64_t groups) {
  const int nd = x.ndim() - 2;
  const std::string op = message(op_name("conv", nd), "'s weight gradient");
  check_operands(op, x, dy, std::nullopt);
  const Attributes a = check_attributes(op, nd, stride, padding, dilation, groups);
  check<ShapeError>(x.size(0) == dy.size(0) && x.size(1) % groups == 0 && dy.size(1) % groups == 0, op, ": input ", x,
                    " and gradient ", dy, " with groups ", groups, " do not belong together");
  check<ShapeError>(kernel.n == nd, op, ": kernel ", kernel, " has ", kernel.n, " axes; ", nd, " are needed");
  for (int i = 0; i < nd; ++i)
    check<ShapeError>(
        dy.size(i + 2) <= out_size(x.size(i + 2), kernel[i], a.stride[i], a.pad[i], a.pad_end[i], a.dilation[i]), op,
        ": input ", x, ", kernel ", kernel, " and gradient ", dy, " do not belong together");
  const Dims shape = with_channels(dy.size(1), x.size(1) / groups, kernel);
  if (x.numel() == 0 || dy.numel() == 0) return Array::zeros(shape, x.dtype(), x.device());
  Array dw = Array::empty(shape, x.dtype(), x.device());
  const Array xc = x.contiguous(), dyc = dy.contiguous();
  conv_kernels(x.device())
      .conv_weight_grad(
          x.dtype(),
          make_shape(nd, x.size(0), x.size(1), dy.size(1), a, spatial(x.shape()), spatial(dy.shape()), kernel),
          xc.bytes(), dyc.bytes(), dw.bytes());
  return dw;
}

// Checks the operands of a transposed convolution and gives the spatial sizes of its result:
// (in - 1)*stride - 2*padding + dilation*(kernel - 1) + output_padding + 1.
Dims conv_transpose_size(const Array& x, const Array& w, const std::optional<Array>& bias, const Dims& stride,
                         const Dims& padding, const Dims& output_padding, int64_t groups, const Dims& dilation) {
  const int nd = x.ndim() - 2;
  const std::string op = op_name("conv_transpose", nd);
  check_operands(op, x, w, bias);
  const Attributes a = check_attributes(op, nd, stride, padding, dilation, groups);
  const Dims extra = per_axis(op, "output_padding", output_padding, nd, 0);
  check<ShapeError>(w.size(0) % groups == 0, op, ": weight ", w, " with groups ", groups, ": ", w.size(0),
                    " input channels do not divide into ", groups, " groups");
  check<ShapeError>(x.size(1) == w.size(0), op, ": input ", x, " and weight ", w, " with groups ", groups, ": ",
                    x.size(1), " input channels, weight takes ", w.size(0));
  check_bias(op, w, bias, w.size(1) * groups);
  Dims size;
  for (int i = 0; i < nd; ++i) {
    check<ValueError>(extra[i] < a.stride[i] || extra[i] < a.dilation[i], op, ": output_padding ", output_padding,
                      " must be smaller than stride ", stride, " or dilation ", dilation);
    const int64_t n = (x.size(i + 2) - 1) * a.stride[i] - a.pad[i] - a.pad_end[i] +
                      a.dilation[i] * (w.size(i + 2) - 1) + extra[i] + 1;
    check<ShapeError>(x.size(i + 2) >= 1 && w.size(i + 2) >= 1 && n >= 1, op, ": input ", x, " and weight ", w,
                      ": the result would have size ", n, " on axis ", i + 2);
    size.push(n);
  }
  return size;
}

void bind_conv(pybind11::module_& m) {
  python::def<&conv_forward>(m, "conv_forward", {"input", "weight", "bias", "stride", "padding", "dilation", "groups"});
  python::def<&conv_data_grad>(m, "conv_data_grad",
                               {"dy", "weight", "bias", "in_size", "stride", "padding", "dilation", "groups"});
  python::def<&conv_weight_grad>(m, "conv_weight_grad",
                                 {"input", "dy", "kernel", "stride", "padding", "dilation", "groups"});
  python::def<&conv_transpose_size>(
      m, "conv_transpose_size",
      {"input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"});
  bind_fold(m);
}

}  // namespace gg
