// The front of attention: shapes, dtypes, the mask's broadcast, and any number of leading axes as (batch, heads).
#include "ops/attention/attention.h"

#include "ops/random/random.h"
#include "python/bind.h"

namespace gg {
namespace {

// x (..., rows, columns) as (batch, heads, rows, columns), without a copy where the strides allow it.
Array four_axes(const Array& x) {
  Dims shape = x.shape(), strides = x.strides();
  while (shape.n < 4) shape.insert(0, 1), strides.insert(0, 0);
  if (shape.n == 4) return x.view(shape, strides);
  Dims flat{1, shape[shape.n - 3], shape[shape.n - 2], shape[shape.n - 1]};
  for (int i = 0; i < shape.n - 3; ++i) flat[0] *= shape[i];
  return x.reshaped(flat);
}

// Four axes, rows dense; on the CPU 16-bit floats become float32.
Array operand(const Array& x) {
  Array y = four_axes(x.device().type == DeviceType::Cpu ? x.to(compute_type(x.dtype())) : x);
  return y.size(3) > 1 && y.strides()[3] != 1 ? y.contiguous() : y;
}

void take_strides(const Array& x, int64_t* to) {
  for (int i = 0; i < 3; ++i) to[i] = x.strides()[i];
}

// The operands as the kernel wants them; held here because the problem only points at them.
struct Prepared {
  Array q, k, v, mask;
  AttentionProblem problem{};
};

Prepared prepare(const Array& query, const Array& key, const Array& value, const std::optional<Array>& mask,
                 bool causal, double scale, double dropout) {
  const char* op = "scaled_dot_product_attention";
  auto describe_all = [&] { return message("query ", query, ", key ", key, " and value ", value); };
  check<ShapeError>(query.ndim() >= 2 && key.ndim() == query.ndim() && value.ndim() == query.ndim(), op, ": ",
                    describe_all(), " must have two axes or more, and as many");
  check_floating(op, "query", query);
  check<DTypeError>(query.dtype() == key.dtype() && query.dtype() == value.dtype(), op, ": ", describe_all(),
                    ": the dtypes differ");
  check_same_device(op, query, key);
  check_same_device(op, query, value);
  const int n = query.ndim();
  check<ShapeError>(query.size(n - 1) == key.size(n - 1), op, ": ", describe_all(), ": rows of query and key have ",
                    query.size(n - 1), " and ", key.size(n - 1), " elements");
  check<ShapeError>(key.size(n - 2) == value.size(n - 2), op, ": ", describe_all(), ": ", key.size(n - 2), " keys and ",
                    value.size(n - 2), " values");
  for (int i = 0; i < n - 2; ++i) {
    int64_t a = query.size(i), b = key.size(i);
    bool grouped = i == n - 3 && b > 0 && a % b == 0;
    check<ShapeError>(b == value.size(i) && (a == b || grouped), op, ": ", describe_all(), ": the leading axes differ");
  }
  check<ValueError>(dropout >= 0 && dropout <= 1, op, ": dropout_p is ", dropout, "; it must lie in [0, 1]");
  Prepared r;
  r.q = operand(query);
  r.k = operand(key);
  r.v = operand(value);
  AttentionProblem& p = r.problem;
  p.batch = r.q.size(0);
  p.heads = r.q.size(1);
  p.kv_heads = r.k.size(1);
  p.l = r.q.size(2);
  p.s = r.k.size(2);
  p.e = r.q.size(3);
  p.f = r.v.size(3);
  p.q = r.q.bytes();
  p.k = r.k.bytes();
  p.v = r.v.bytes();
  take_strides(r.q, p.q_strides);
  take_strides(r.k, p.k_strides);
  take_strides(r.v, p.v_strides);
  p.causal = causal;
  p.scale = scale;
  p.dropout = dropout;
  if (mask) {
    Dims shape = query.shape(), broadcast;
    shape[n - 1] = p.s;
    check_same_device(op, query, *mask);
    check<ShapeError>(mask->ndim() <= n && broadcast_shapes(mask->shape(), shape, &broadcast) && broadcast == shape, op,
                      ": attn_mask ", *mask, " does not broadcast to ", shape);
    check<DTypeError>(mask->dtype() == DType::Bool || mask->dtype() == query.dtype() || mask->dtype() == DType::Float32,
                      op, ": attn_mask ", *mask, " must be bool, float32 or ", query.dtype(), " like query ", query);
    p.mask_is_bool = mask->dtype() == DType::Bool;
    r.mask = four_axes((p.mask_is_bool ? *mask : mask->to(compute_type(query.dtype()))).expand(shape));
    p.mask = r.mask.bytes();
    for (int i = 0; i < 4; ++i) p.mask_strides[i] = r.mask.strides()[i];
  }
  return r;
}

}  // namespace

// The output, the rows' statistics for backward, and the random stream that dropout took.
std::tuple<Array, Array, int64_t, int64_t> attention_forward(const Array& query, const Array& key, const Array& value,
                                                             const std::optional<Array>& mask, bool causal,
                                                             double scale, double dropout) {
  Prepared r = prepare(query, key, value, mask, causal, scale, dropout);
  if (dropout > 0) {
    Stream stream = take_stream(r.problem.batch * r.problem.heads * ((r.problem.s + 3) / 4) * r.problem.l);
    r.problem.seed = stream.key;
    r.problem.offset = stream.counter;
  }
  const AttentionProblem& p = r.problem;
  // Heads that were cut out of longer rows, (B, L, H, E) in memory, are given back so: joining them again is no copy.
  bool by_row = query.ndim() == 4 && r.q.strides()[1] < r.q.strides()[2];
  Array out = by_row ? Array::empty({p.batch, p.l, p.heads, p.f}, r.q.dtype(), r.q.device()).transpose(1, 2)
                     : Array::empty({p.batch, p.heads, p.l, p.f}, r.q.dtype(), r.q.device());
  Array stats = Array::empty({p.batch, p.heads, p.l, 2}, compute_type(r.q.dtype()), r.q.device());
  if (stats.numel() > 0)
    attention_kernels(r.q.device()).attention_forward(r.q.dtype(), p, out.bytes(), out.strides().v, stats.bytes());
  Dims shape = query.shape();
  shape[shape.n - 1] = p.f;
  return {(query.ndim() == 4 ? out : out.reshaped(shape)).to(query.dtype()), stats, int64_t(p.seed), int64_t(p.offset)};
}

// dq, dk, dv and, where wanted, the gradient by the scores (..., L, S), which is that by an additive mask.
std::tuple<Array, Array, Array, std::optional<Array>> attention_backward(
    const Array& dout, const Array& query, const Array& key, const Array& value, const std::optional<Array>& mask,
    const Array& out, const Array& stats, bool causal, double scale, double dropout, int64_t seed, int64_t offset,
    bool mask_gradient) {
  check_same_device("scaled_dot_product_attention", dout, query);
  Prepared r = prepare(query, key, value, mask, causal, scale, dropout);
  AttentionProblem& p = r.problem;
  p.seed = uint64_t(seed);
  p.offset = uint64_t(offset);
  const DType t = r.q.dtype();
  Array g = operand(dout), o = operand(out);
  Array dq = Array::empty({p.batch, p.heads, p.l, p.e}, t, query.device());
  Array dk = Array::empty({p.batch, p.kv_heads, p.s, p.e}, t, query.device());
  Array dv = Array::empty({p.batch, p.kv_heads, p.s, p.f}, t, query.device());
  Dims scores = query.shape();
  scores[scores.n - 1] = p.s;
  std::optional<Array> dscores;
  if (mask_gradient) dscores = Array::empty(scores, compute_type(t), query.device());
  attention_kernels(query.device())
      .attention_backward(t, p, g.bytes(), g.strides().v, o.bytes(), o.strides().v, stats.bytes(), dq.bytes(),
                          dk.bytes(), dv.bytes(), dscores ? dscores->bytes() : nullptr);
  auto shaped = [&](const Array& x, const Array& like) { return x.reshaped(like.shape()).to(like.dtype()); };
  if (dscores) dscores = dscores->to(mask->dtype());
  return {shaped(dq, query), shaped(dk, key), shaped(dv, value), dscores};
}

// The factors of dropout that forward used, (..., L, S), for the composite.
Array attention_dropout(const Array& query, const Array& key, double dropout, int64_t seed, int64_t offset) {
  Prepared r = prepare(query, key, key, std::nullopt, false, 1, dropout);
  r.problem.seed = uint64_t(seed);
  r.problem.offset = uint64_t(offset);
  Dims shape = query.shape();
  shape[shape.n - 1] = r.problem.s;
  Array keep = Array::empty(shape, compute_type(query.dtype()), query.device());
  attention_kernels(query.device()).attention_dropout(keep.dtype(), r.problem, keep.bytes());
  return keep.to(query.dtype());
}

void bind_attention(pybind11::module_& m) {
  python::def<&attention_forward>(m, "attention_forward",
                                  {"query", "key", "value", "mask", "causal", "scale", "dropout"});
  python::def<&attention_backward>(m, "attention_backward",
                                   {"dout", "query", "key", "value", "mask", "out", "stats", "causal", "scale",
                                    "dropout", "seed", "offset", "mask_gradient"});
  python::def<&attention_dropout>(m, "attention_dropout", {"query", "key", "dropout", "seed", "offset"});
}

}  // namespace gg
