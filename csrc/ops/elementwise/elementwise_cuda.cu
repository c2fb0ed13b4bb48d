// One kernel for each op and compute type: runs of elements in accesses of up to 16 bytes where every operand is dense
// or constant along the innermost axis, then one by one what is left, or all. The operands' dtypes are looked at while
// the kernel runs, by all threads alike; dtypes that are not the compute type's own are converted before.
#include "ops/elementwise/elementwise.h"

#include <optional>

#include "cuda/convert.h"
#include "cuda/launch.h"
#include "cuda/math.h"
#include "cuda/offsets.h"
#include "ops/layout/layout.h"

#define GG_ISA cuda  // the namespace of the ops
#include "ops/elementwise/elementwise_ops.h"

namespace gg::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kAtOnce = 2;                                                     // runs that a thread has on their way
template <class C> constexpr int kRun = sizeof(C) == 8 && !kWhole<C> ? 2 : 4;  // elements of a run

// How an element of each operand becomes one of the result.
template <class Op> struct Forward {
  template <class C> static __device__ C of(const C (&x)[1], Params p) { return Op::forward(x[0], p); }
  template <class C> static __device__ C of(const C (&x)[2], Params p) { return Op::forward(x[0], x[1], p); }
  template <class C> static __device__ C of(const C (&x)[3], Params p) { return Op::forward(x[0], x[1], x[2], p); }
};
template <class Op> struct Grad {
  template <class C> static __device__ C of(const C (&x)[2], Params p) { return Op::grad(x[0], x[1], p); }
};

// The dtypes whose elements C is computed with. (A bool is a whole number.)
template <class C> bool is_own(DType t) {
  if constexpr (kWhole<C>) return !is_floating(t);
  return is_floating(t) && compute_type(t) == dtype_of<C>::value;
}
template <class C, class F> __device__ inline void dispatch_own(DType t, F&& f) {
  if constexpr (kWhole<C>) {
    dispatch_all(t, [&]<class T>() {
      if constexpr (!is_floating(dtype_of<T>::value)) f.template operator()<T>();
    });
  } else if constexpr (sizeof(C) == 8) {
    f.template operator()<double>();
  } else {
    if (t == DType::Float16) return f.template operator()<float16>();
    if (t == DType::BFloat16) return f.template operator()<bfloat16>();
    f.template operator()<float>();
  }
}

// How an operand lies along the innermost axis: one element after the other, one for all, or one number in value.
enum class Layout : uint8_t { Dense, Constant, Number };

// Operand 0 is the result.
template <int N, class C> struct Operands {
  int64_t runs, numel;
  char* data[N];
  DType dtype[N];
  Layout layout[N];
  C value[N];
  double params[kMaxParams];
  Offsets<N> at;

  explicit Operands(const Loop<N>& loop) : at(loop) {}
};

// Loads V elements of operands 1, 2, ... from place i on, and finds where their results go.
template <int V, bool selects, int N, class C>
__device__ inline char* load_operands(const Operands<N, C>& o, int64_t i, C (&x)[V][N - 1]) {
  int64_t offset[N];
  o.at.at(i, offset);
#pragma unroll
  for (int k = 1; k < N; ++k) {
    C in[V] = {};
    const char* p = o.data[k] + offset[k];
    const bool is_bool = selects && k == 1;
    if (o.layout[k] == Layout::Number) {
      in[0] = o.value[k];
    } else if (V > 1 && o.layout[k] == Layout::Dense) {
      if (is_bool)
        load_run(reinterpret_cast<const bool*>(p), in);
      else
        dispatch_own<C>(o.dtype[k], [&]<class T>() { load_run(reinterpret_cast<const T*>(p), in); });
    } else if (is_bool) {
      in[0] = from_element<C>(*reinterpret_cast<const bool*>(p));
    } else {
      dispatch_own<C>(o.dtype[k], [&]<class T>() { in[0] = from_element<C>(*reinterpret_cast<const T*>(p)); });
    }
#pragma unroll
    for (int v = 0; v < V; ++v) x[v][k - 1] = o.layout[k] == Layout::Dense ? in[v] : in[0];
  }
  return o.data[0] + offset[0];
}
template <bool asks, class C, int V> __device__ inline void store_results(DType t, char* p, const C (&y)[V]) {
  if constexpr (asks)
    store_run(reinterpret_cast<bool*>(p), y);
  else
    dispatch_own<C>(t, [&]<class T>() { store_run(reinterpret_cast<T*>(p), y); });
}

// asks: the results are bools; selects: operand 1 is.
// hot: no spills
template <class Rule, class C, int N, bool asks, bool selects>
__global__ void map_kernel(const __grid_constant__ Operands<N, C> o) {
  constexpr int V = kRun<C>;
  const int64_t step = item_step();
  for (int64_t first = first_item(); first < o.runs; first += kAtOnce * step) {
    C x[kAtOnce][V][N - 1];
    char* to[kAtOnce];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u)
      if (first + u * step < o.runs) to[u] = load_operands<V, selects>(o, (first + u * step) * V, x[u]);
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      if (first + u * step >= o.runs) continue;
      C y[V];
#pragma unroll
      for (int v = 0; v < V; ++v) y[v] = Rule::of(x[u][v], o.params);
      store_results<asks>(o.dtype[0], to[u], y);
    }
  }
  for (int64_t i = o.runs * V + first_item(); i < o.numel; i += step) {
    C x[1][N - 1];
    char* to = load_operands<1, selects>(o, i, x);
    const C y[1] = {Rule::of(x[0], o.params)};
    store_results<asks>(o.dtype[0], to, y);
  }
}

template <int N, class C> using Kernel = void (*)(Operands<N, C>);

// An op's kernels, one for each compute type that its kind allows.
template <int N> struct Kernels {
  Kernel<N, float> single = nullptr;
  Kernel<N, double> real = nullptr;
  Kernel<N, int64_t> whole = nullptr;
};
constexpr bool takes_floats(Kind k) { return k != Kind::Integral && k != Kind::Whole; }
constexpr bool takes_wholes(Kind k) { return k != Kind::Math && k != Kind::Floating; }

template <class Rule, int N, Kind kind, bool selects = false> constexpr Kernels<N> kernels_of() {
  constexpr bool asks = kind == Kind::Predicate;
  Kernels<N> k;
  if constexpr (takes_floats(kind)) {
    k.single = map_kernel<Rule, float, N, asks, selects>;
    k.real = map_kernel<Rule, double, N, asks, selects>;
  }
  if constexpr (takes_wholes(kind)) k.whole = map_kernel<Rule, int64_t, N, asks, selects>;
  return k;
}
template <class Op, bool has_grad> constexpr Kernels<3> grad_of() {
  if constexpr (has_grad) return kernels_of<Grad<Op>, 3, Kind::Floating>();
  return {};
}

#define GG_UNARY(Name, name, kind, ...) kernels_of<Forward<Name>, 2, Kind::kind>(),
#define GG_GRAD(Name, name, kind, has_grad, ...) grad_of<Name, has_grad>(),
#define GG_BINARY(Name, name, kind, ...) kernels_of<Forward<Name>, 3, Kind::kind>(),
#define GG_TERNARY(Name, name, kind, ...) kernels_of<Forward<Name>, 4, Kind::kind, Ternary::Name == Ternary::Where>(),
const Kernels<2> kUnary[] = {GG_UNARY_OPS(GG_UNARY)};
const Kernels<3> kGrad[] = {GG_UNARY_OPS(GG_GRAD)};
const Kernels<3> kBinary[] = {GG_BINARY_OPS(GG_BINARY)};
const Kernels<4> kTernary[] = {GG_TERNARY_OPS(GG_TERNARY)};

// Operand k in the compute type C: each of its own elements once, not each that the loop comes by.
template <class C, int N> void convert_operand(Loop<N>& loop, int k, std::optional<Scratch<C>>& converted) {
  Loop<2> own;
  own.ndim = 0;
  own.numel = 1;
  for (int d = loop.ndim - 1; d >= 0; --d) own.numel *= loop.stride[k][d] != 0 ? loop.shape[d] : 1;
  int64_t stride = own.numel * int64_t(sizeof(C));
  for (int d = 0; d < loop.ndim; ++d) {
    if (loop.stride[k][d] == 0) continue;
    stride /= loop.shape[d];
    own.shape[own.ndim] = loop.shape[d];
    own.stride[0][own.ndim] = stride;
    own.stride[1][own.ndim++] = loop.stride[k][d];
    loop.stride[k][d] = stride;
  }
  if (own.ndim == 0) {
    own.shape[own.ndim] = 1;
    own.stride[0][own.ndim] = sizeof(C);
    own.stride[1][own.ndim++] = 0;
  }
  converted.emplace(own.numel);
  own.data[0] = reinterpret_cast<char*>(converted->get());
  own.data[1] = loop.data[k];
  own.dtype[0] = dtype_of<C>::value;
  own.dtype[1] = loop.dtype[k];
  layout_kernels.copy(own);
  loop.data[k] = own.data[0];
  loop.dtype[k] = own.dtype[0];
}

template <class C, int N>
void run(Kernel<N, C> kernel, Loop<N> loop, unsigned on_host, const double* params, bool selects) {
  constexpr int V = kRun<C>;
  const int last = loop.ndim - 1;
  std::optional<Scratch<C>> converted[N];
  for (int k = 1; k < N; ++k)
    if (!(on_host >> k & 1) && !is_own<C>(loop.dtype[k]) && !(selects && k == 1))
      convert_operand<C>(loop, k, converted[k]);
  Operands<N, C> o(loop);
  bool wide = loop.ndim == 1 || loop.shape[last] % V == 0;
  for (int k = 0; k < N; ++k) {
    o.data[k] = loop.data[k];
    o.dtype[k] = loop.dtype[k];
    if (on_host >> k & 1) {
      o.layout[k] = Layout::Number;
      o.value[k] = *reinterpret_cast<const C*>(loop.data[k]);
      continue;
    }
    o.layout[k] = k > 0 && loop.stride[k][last] == 0 ? Layout::Constant : Layout::Dense;
    if (o.layout[k] == Layout::Constant) continue;
    const int item = item_size(loop.dtype[k]), bytes = V * item < 16 ? V * item : 16;
    wide = wide && loop.stride[k][last] == item && aligned(loop.data[k], size_t(bytes));
    for (int d = 0; d < last; ++d) wide = wide && loop.stride[k][d] % bytes == 0;
  }
  o.numel = loop.numel;
  o.runs = wide ? loop.numel / V : 0;
  for (int i = 0; i < kMaxParams; ++i) o.params[i] = params[i];
  launch(kernel, grid_for(wide ? ceil_div(o.runs, kAtOnce) : o.numel, kThreads, 16), kThreads, 0, o);
}

template <int N>
void evaluate(const Kernels<N>& kernels, DType compute, const Loop<N>& loop, unsigned on_host, const double* params,
              bool selects = false) {
  if (loop.numel == 0) return;
  if (compute == DType::Float32) return run<float>(kernels.single, loop, on_host, params, selects);
  if (compute == DType::Float64) return run<double>(kernels.real, loop, on_host, params, selects);
  run<int64_t>(kernels.whole, loop, on_host, params, selects);
}

void unary(Unary op, DType compute, const Loop<2>& loop, const double* params) {
  evaluate(kUnary[int(op)], compute, loop, 0, params);
}
void unary_backward(Unary op, DType compute, const Loop<3>& loop, const double* params) {
  evaluate(kGrad[int(op)], compute, loop, 0, params);
}
void binary(Binary op, DType compute, const Loop<3>& loop, unsigned on_host, const double* params) {
  evaluate(kBinary[int(op)], compute, loop, on_host, params);
}
void ternary(Ternary op, DType compute, const Loop<4>& loop, unsigned on_host, const double* params) {
  evaluate(kTernary[int(op)], compute, loop, on_host, params, op == Ternary::Where);
}

// Whoever finds a zero says so: all write the same.
__global__ void has_zero_kernel(const char* x, DType t, int64_t n, const __grid_constant__ Offsets<1> at, int* found) {
  for (int64_t i = first_item(); i < n; i += item_step()) {
    int64_t offset[1];
    at.at(i, offset);
    int64_t value[1];
    load_any(t, x + offset[0], value);
    if (value[0] == 0) atomicOr(found, 1);
  }
}

bool has_zero(const Loop<1>& loop) {
  if (loop.numel == 0) return false;
  Scratch<int> found(1);
  zero(found, sizeof(int));
  launch(has_zero_kernel, grid_for(loop.numel, kThreads), kThreads, 0, loop.data[0], loop.dtype[0], loop.numel,
         Offsets<1>(loop), found.get());
  return read(found.get()) != 0;
}

}  // namespace

const ElementwiseKernels elementwise_kernels = {unary, unary_backward, binary, ternary, has_zero};

}  // namespace gg::cuda
