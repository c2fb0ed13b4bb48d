// One kernel for each op and compute type: runs of elements in accesses of up to 16 bytes where every operand is dense
// or constant along the innermost axis, then one by one what is left, or all. The operands' dtypes are looked at while
// the kernel runs, all threads alike.
#include "ops/elementwise/elementwise.h"

#include "cuda/convert.h"
#include "cuda/launch.h"
#include "cuda/math.h"
#include "cuda/offsets.h"

#define GG_ISA cuda  // the namespace of the ops
#include "ops/elementwise/elementwise_ops.h"

namespace gg::cuda {
namespace {

constexpr int kThreads = 128;
#ifndef VV
#define VV 4
#endif
template <class C> constexpr int kRun = sizeof(C) == 8 && !kWhole<C> ? 2 : VV;  // elements of a run

// Operand 0 is the output.
template <int N> struct Operands {
  int64_t runs, numel;
  char* data[N];
  DType dtype[N];
  bool repeats[N];  // one element all along the innermost axis
  double params[kMaxParams];
  Offsets<N> at;

  explicit Operands(const Loop<N>& loop) : at(loop) {}
};

// Runs are of the dtypes that a compute type is natural for; any other operand is read one by one.
template <class C> bool has_runs(DType t) {
  if constexpr (kWhole<C>) return !is_floating(t);
  return sizeof(C) == 8 ? t == DType::Float64 : is_floating(t) && t != DType::Float64;
}
template <class C, class F> __device__ inline void dispatch_run(DType t, F&& f) {
  if constexpr (kWhole<C>) {
    dispatch_all(t, [&]<class T>() {
      if constexpr (!is_floating(dtype_of<T>::value)) f.template operator()<T>();
    });
  } else if constexpr (sizeof(C) == 8) {
    f.template operator()<double>();
  } else {
    if (t == DType::Float16)
      f.template operator()<float16>();
    else if (t == DType::BFloat16)
      f.template operator()<bfloat16>();
    else
      f.template operator()<float>();
  }
}

// Out of line: an element of any dtype is a long way anyhow, and the kernels are many.
template <class C> __device__ __noinline__ C load_other(DType t, const void* p) {
  C x[1];
  load_any(t, p, x);
  return x[0];
}
template <class C> __device__ __noinline__ void store_other(DType t, void* p, C y) {
  const C x[1] = {y};
  store_any(t, p, x);
}
template <class C> __device__ inline C load_one(DType t, const void* p) {
  return t == dtype_of<C>::value ? *static_cast<const C*>(p) : load_other<C>(t, p);
}
template <class C> __device__ inline void store_one(DType t, void* p, C y) {
  if (t == dtype_of<C>::value)
    *static_cast<C*>(p) = y;
  else
    store_other(t, p, y);
}

// What an element of each operand becomes.
template <class Op> struct Forward {
  template <class C> static __device__ C of(const C (&x)[1], Params p) { return Op::forward(x[0], p); }
  template <class C> static __device__ C of(const C (&x)[2], Params p) { return Op::forward(x[0], x[1], p); }
  template <class C> static __device__ C of(const C (&x)[3], Params p) { return Op::forward(x[0], x[1], x[2], p); }
};
template <class Op> struct Grad {
  template <class C> static __device__ C of(const C (&x)[2], Params p) { return Op::grad(x[0], x[1], p); }
};

template <class Rule, class C, int N, bool asks, bool selects>
__global__ void map_kernel(const __grid_constant__ Operands<N> o) {
  constexpr int V = kRun<C>;
  for (int64_t run = first_item(); run < o.runs; run += item_step()) {
    int64_t offset[N];
    o.at.at(run * V, offset);
    C x[V][N - 1], y[V];
#pragma unroll
    for (int k = 1; k < N; ++k) {
      C in[V];
      const char* p = o.data[k] + offset[k];
      if (o.repeats[k]) {
        const C one = load_one<C>(o.dtype[k], p);
#pragma unroll
        for (int v = 0; v < V; ++v) in[v] = one;
      } else if (selects && k == 1) {
        load_run(reinterpret_cast<const bool*>(p), in);
      } else {
        dispatch_run<C>(o.dtype[k], [&]<class T>() { load_run(reinterpret_cast<const T*>(p), in); });
      }
#pragma unroll
      for (int v = 0; v < V; ++v) x[v][k - 1] = in[v];
    }
#pragma unroll
    for (int v = 0; v < V; ++v) y[v] = Rule::of(x[v], o.params);
    char* p = o.data[0] + offset[0];
    if constexpr (asks)
      store_run(reinterpret_cast<bool*>(p), y);
    else
      dispatch_run<C>(o.dtype[0], [&]<class T>() { store_run(reinterpret_cast<T*>(p), y); });
  }
  for (int64_t i = o.runs * V + first_item(); i < o.numel; i += item_step()) {
    int64_t offset[N];
    o.at.at(i, offset);
    C x[N - 1];
#pragma unroll
    for (int k = 1; k < N; ++k) x[k - 1] = load_one<C>(o.dtype[k], o.data[k] + offset[k]);
    store_one(o.dtype[0], o.data[0] + offset[0], Rule::of(x, o.params));
  }
}

template <int N> using Kernel = void (*)(Operands<N>);

// An op's kernels, one for each compute type that its kind allows.
template <int N> struct Kernels { Kernel<N> single = nullptr, real = nullptr, whole = nullptr; };
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

template <class C, int N> void run(Kernel<N> kernel, const Loop<N>& loop, const double* params, bool selects) {
  constexpr int V = kRun<C>;
  const int last = loop.ndim - 1;
  Operands<N> o(loop);
  bool wide = loop.ndim == 1 || loop.shape[last] % V == 0;
  for (int k = 0; k < N; ++k) {
    const DType t = loop.dtype[k];
    const int item = item_size(t), bytes = V * item < 16 ? V * item : 16;
    o.data[k] = loop.data[k];
    o.dtype[k] = t;
    o.repeats[k] = k > 0 && loop.stride[k][last] == 0;
    if (o.repeats[k]) continue;
    const bool held = t == DType::Bool ? k == 0 || (selects && k == 1) || kWhole<C> : has_runs<C>(t);
    wide = wide && held && loop.stride[k][last] == item && aligned(loop.data[k], size_t(bytes));
    for (int d = 0; d < last; ++d) wide = wide && loop.stride[k][d] % bytes == 0;
  }
  o.numel = loop.numel;
  o.runs = wide ? loop.numel / V : 0;
  for (int i = 0; i < kMaxParams; ++i) o.params[i] = params[i];
  launch(kernel, grid_for(wide ? o.runs : o.numel, kThreads, 16), kThreads, 0, o);
}

template <int N>
void evaluate(const Kernels<N>& kernels, DType compute, const Loop<N>& loop, const double* params,
              bool selects = false) {
  if (loop.numel == 0) return;
  if (compute == DType::Float32) return run<float>(kernels.single, loop, params, selects);
  if (compute == DType::Float64) return run<double>(kernels.real, loop, params, selects);
  run<int64_t>(kernels.whole, loop, params, selects);
}

void unary(Unary op, DType compute, const Loop<2>& loop, const double* params) {
  evaluate(kUnary[int(op)], compute, loop, params);
}
void unary_backward(Unary op, DType compute, const Loop<3>& loop, const double* params) {
  evaluate(kGrad[int(op)], compute, loop, params);
}
void binary(Binary op, DType compute, const Loop<3>& loop, const double* params) {
  evaluate(kBinary[int(op)], compute, loop, params);
}
void ternary(Ternary op, DType compute, const Loop<4>& loop, const double* params) {
  evaluate(kTernary[int(op)], compute, loop, params, op == Ternary::Where);
}

// Whoever finds a zero says so: all write the same.
__global__ void has_zero_kernel(const char* x, DType t, int64_t n, const __grid_constant__ Offsets<1> at, int* found) {
  for (int64_t i = first_item(); i < n; i += item_step()) {
    int64_t offset[1];
    at.at(i, offset);
    if (load_one<int64_t>(t, x + offset[0]) == 0) atomicOr(found, 1);
  }
}

bool has_zero(const Loop<1>& loop) {
  Scratch<int> found(1);
  zero(found, sizeof(int));
  launch(has_zero_kernel, grid_for(loop.numel, kThreads), kThreads, 0, loop.data[0], loop.dtype[0], loop.numel,
         Offsets<1>(loop), found.get());
  return read(found.get()) != 0;
}

}  // namespace

const ElementwiseKernels elementwise_kernels = {unary, unary_backward, binary, ternary, has_zero};

}  // namespace gg::cuda
