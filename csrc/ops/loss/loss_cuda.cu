// Losses on a GPU: pointwise ones in one pass over input and target, sums in two steps cut by size; CTC by the
// forward-backward algorithm in log space (Graves et al., 2006), a block for each sequence, its threads along the
// states of one time step.
#include "ops/loss/loss.h"

#include "cuda/block.h"
#include "cuda/convert.h"
#include "cuda/launch.h"
#include "cuda/math.h"

#define GG_ISA cuda  // the namespace of the rules
#include "ops/loss/loss_rules.h"

namespace gg::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kPart = 16384;  // elements of a block's partial sum
template <class T> constexpr int kRun = 16 / int(sizeof(T)) < 4 ? 16 / int(sizeof(T)) : 4;  // of a thread's access

// f(i, count<N>) for runs of N elements from a thread's share of [first, last), then for the rest one by one.
template <int N> struct Count { static constexpr int value = N; };
template <int N, class F> __device__ inline void for_runs(int64_t first, int64_t last, bool aligned, F f) {
  const int64_t runs = aligned ? (last - first) / N : 0;
  for (int64_t r = threadIdx.x; r < runs; r += blockDim.x) f(first + r * N, Count<N>{});
  for (int64_t i = first + runs * N + threadIdx.x; i < last; i += blockDim.x) f(i, Count<1>{});
}

struct Partial { double warps[kThreads / 32]; };

// A block takes parts of kPart elements. kReduce: a part's sum goes to sums[part]; else values go to out.
template <PointwiseLoss kind, class T, bool kReduce>
__global__ void __launch_bounds__(kThreads)
    pointwise_forward_kernel(const T* __restrict__ x, const T* __restrict__ target, T* __restrict__ out,
                             double* __restrict__ sums, int64_t n, compute_t<T> parameter, bool aligned) {
  using C = compute_t<T>;
  for (int64_t part = blockIdx.x; part * kPart < n; part += gridDim.x) {
    const int64_t first = part * kPart, last = first + kPart < n ? first + kPart : n;
    C sum = 0;
    for_runs<kRun<T>>(first, last, aligned, [&](int64_t i, auto count) {
      constexpr int N = decltype(count)::value;
      C a[N], b[N], y[N];
      load_run(x + i, a);
      load_run(target + i, b);
#pragma unroll
      for (int j = 0; j < N; ++j) {
        y[j] = loss_value<kind>(a[j], b[j], parameter);
        sum += y[j];
      }
      if constexpr (!kReduce) store_run(out + i, y);
    });
    if constexpr (kReduce) {
      const double total = block_reduce<Sum>(double(sum), shared<Partial>().warps);
      if (threadIdx.x == 0) sums[part] = total;
    }
  }
}

// out = factor times the sum of the parts' sums.
template <class T>
__global__ void __launch_bounds__(kThreads)
    total_kernel(const double* __restrict__ sums, int64_t parts, double factor, T* __restrict__ out) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < parts; i += blockDim.x) sum += sums[i];
  sum = block_reduce<Sum>(sum, shared<Partial>().warps);
  if (threadIdx.x == 0) store(out, compute_t<T>(sum * factor));
}

template <PointwiseLoss kind, class T>
__global__ void __launch_bounds__(kThreads)
    pointwise_backward_kernel(const T* __restrict__ dy, const T* __restrict__ x, const T* __restrict__ target,
                              T* __restrict__ dx, T* __restrict__ dtarget, int64_t n, compute_t<T> parameter,
                              bool per_element, compute_t<T> factor, bool aligned) {
  using C = compute_t<T>;
  const C one = per_element ? C(1) : load(dy) * factor;
  for (int64_t first = int64_t(blockIdx.x) * kPart; first < n; first += int64_t(gridDim.x) * kPart) {
    const int64_t last = first + kPart < n ? first + kPart : n;
    for_runs<kRun<T>>(first, last, aligned, [&](int64_t i, auto count) {
      constexpr int N = decltype(count)::value;
      C a[N], b[N], g[N], negative[N];
      load_run(x + i, a);
      load_run(target + i, b);
#pragma unroll
      for (int j = 0; j < N; ++j) g[j] = one;
      if (per_element) {
        load_run(dy + i, g);
#pragma unroll
        for (int j = 0; j < N; ++j) g[j] *= factor;
      }
#pragma unroll
      for (int j = 0; j < N; ++j) {
        g[j] *= loss_slope<kind>(a[j], b[j], parameter);
        negative[j] = -g[j];
      }
      if (dx) store_run(dx + i, g);
      if (dtarget) store_run(dtarget + i, negative);
    });
  }
}

template <class T> bool all_aligned(std::initializer_list<const void*> arrays) {
  for (const void* p : arrays)
    if (!aligned(p, sizeof(T) * kRun<T>)) return false;
  return true;
}

void pointwise_forward(PointwiseLoss kind, DType t, const void* x, const void* target, void* out, int64_t n,
                       double parameter, bool reduce, double factor) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const int64_t parts = ceil_div(n, kPart);
    const bool wide = all_aligned<T>({x, target, reduce ? x : out});
    Scratch<double> sums(reduce ? parts : 1);
    dispatch_kind(kind, [&](auto k) {
      constexpr PointwiseLoss which = decltype(k)::kind;
      launch(reduce ? pointwise_forward_kernel<which, T, true> : pointwise_forward_kernel<which, T, false>,
             grid_for(parts, 1), dim3(kThreads), sizeof(Partial), static_cast<const T*>(x),
             static_cast<const T*>(target), static_cast<T*>(out), sums.get(), n, C(parameter), wide);
    });
    if (reduce)
      launch(total_kernel<T>, dim3(1), dim3(kThreads), sizeof(Partial), static_cast<const double*>(sums.get()), parts,
             factor, static_cast<T*>(out));
  });
}

void pointwise_backward(PointwiseLoss kind, DType t, const void* dy, const void* x, const void* target, void* dx,
                        void* dtarget, int64_t n, double parameter, bool per_element, double factor) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const bool wide = all_aligned<T>({x, target, per_element ? dy : x, dx ? dx : x, dtarget ? dtarget : x});
    dispatch_kind(kind, [&](auto k) {
      launch(pointwise_backward_kernel<decltype(k)::kind, T>, grid_for(ceil_div(n, kPart), 1), dim3(kThreads), 0,
             static_cast<const T*>(dy), static_cast<const T*>(x), static_cast<const T*>(target), static_cast<T*>(dx),
             static_cast<T*>(dtarget), n, C(parameter), per_element, C(factor), wide);
    });
  });
}

template <class T>
__global__ void within_kernel(const T* __restrict__ x, int64_t n, double low, double high, int* out) {
  using C = compute_t<T>;
  for (int64_t i = first_item(); i < n; i += item_step()) {
    const C v = load(x + i);
    if (!(v >= C(low) && v <= C(high))) atomicOr(out, 1);
  }
}
bool within(DType t, const void* x, int64_t n, double low, double high) {
  Scratch<int> outside(1);
  zero(outside, sizeof(int));
  dispatch_floating(t, [&]<class T>() {
    launch(within_kernel<T>, grid_for(n, kThreads), dim3(kThreads), 0, static_cast<const T*>(x), n, low, high,
           outside.get());
  });
  return read(outside.get()) == 0;
}

// Logarithms of probabilities reach -1000, where a float32 holds the probability itself to 1e-4 only: double
// throughout.
__device__ inline double log_add(double a, double b) {
  const double m = a > b ? a : b;
  return m == -INFINITY ? m : m + log1p(exp((a < b ? a : b) - m));
}

// One sequence: states 0 .. 2L are blank, label 1, blank, label 2, ..., blank.
template <class C> struct CtcSequence {
  const C* log_probs;
  const int64_t* labels;
  int64_t states, steps, blank, row;  // row: from one step to the next
  int64_t width;                      // of alpha's rows
  double* alpha;

  __device__ CtcSequence(const CtcArgs& a, int64_t sequence)
      : log_probs(static_cast<const C*>(a.log_probs) + sequence * a.C),
        labels(a.labels + a.label_begin[sequence]),
        states(2 * a.label_lengths[sequence] + 1),
        steps(a.input_lengths[sequence]),
        blank(a.blank),
        row(a.N * a.C),
        width(a.states),
        alpha(a.alpha + sequence * a.T * a.states) {}

  __device__ int64_t symbol(int64_t s) const { return s % 2 ? labels[s / 2] : blank; }
  __device__ double log_prob(int64_t t, int64_t s) const { return log_probs[t * row + symbol(s)]; }
  // Whether a path may step from state s - 2 to s: not over the blank between two equal labels.
  __device__ bool skips(int64_t s) const { return s % 2 && s >= 2 && labels[s / 2] != labels[s / 2 - 1]; }
  __device__ double loss() const {
    const double* last = alpha + (steps - 1) * width;
    return -(states == 1 ? last[0] : log_add(last[states - 1], last[states - 2]));
  }
};

// alpha_t(s): log of the probability of all beginnings of paths that stand on state s at time t.
template <class C> __global__ void __launch_bounds__(kThreads) ctc_forward_kernel(const CtcArgs a, C* losses) {
  const int64_t sequence = blockIdx.x;
  const CtcSequence<C> q(a, sequence);
  for (int64_t t = 0; t < q.steps; ++t) {
    const double* before = q.alpha + (t - 1) * q.width;
    for (int64_t s = threadIdx.x; s < q.states; s += blockDim.x) {
      double sum = t == 0 ? (s < 2 ? 0.0 : -INFINITY) : before[s];
      if (t > 0 && s >= 1) sum = log_add(sum, before[s - 1]);
      if (t > 0 && q.skips(s)) sum = log_add(sum, before[s - 2]);
      q.alpha[t * q.width + s] = sum + q.log_prob(t, s);
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) losses[sequence] = C(q.steps == 0 ? (q.states == 1 ? 0.0 : INFINITY) : q.loss());
}

// beta_t(s), the same for ends of paths, runs from the last step; the paths through s at t then weigh
// alpha + beta - log p. With G_c their sum over the states of class c,  d loss / d log p_c = -exp(G_c + loss).
// log_probs come from log_softmax, so exp(log p_c) is added: the gradient with respect to the logits themselves, which
// log_softmax's own backward leaves as it is (its rows sum to zero). A thread owns classes, and meets the states of
// each in their order.
template <class C>
__global__ void __launch_bounds__(kThreads) ctc_backward_kernel(const CtcArgs a, const C* __restrict__ dy,
                                                                C* __restrict__ dx, bool zero_infinity, double* betas) {
  const int64_t sequence = blockIdx.x;
  const CtcSequence<C> q(a, sequence);
  dx += sequence * a.C;
  const double loss = q.steps == 0 ? INFINITY : q.loss();
  const bool none = q.steps == 0 || (zero_infinity && loss == INFINITY);
  for (int64_t t = none ? 0 : q.steps; t < a.T; ++t)
    for (int64_t c = threadIdx.x; c < a.C; c += blockDim.x) dx[t * q.row + c] = 0;
  if (none) return;
  double *beta = betas + sequence * 2 * q.width, *next = beta + q.width;
  for (int64_t t = q.steps - 1; t >= 0; --t) {
    for (int64_t s = threadIdx.x; s < q.states; s += blockDim.x) {
      double sum = s >= q.states - 2 ? 0.0 : -INFINITY;
      if (t < q.steps - 1) {
        sum = next[s];
        if (s + 1 < q.states) sum = log_add(sum, next[s + 1]);
        if (s + 2 < q.states && q.skips(s + 2)) sum = log_add(sum, next[s + 2]);
      }
      beta[s] = sum + q.log_prob(t, s);
    }
    __syncthreads();
    for (int64_t c = threadIdx.x; c < a.C; c += blockDim.x) {
      double paths = -INFINITY;
      for (int64_t s = 0; s < q.states; ++s)
        if (q.symbol(s) == c) paths = log_add(paths, q.alpha[t * q.width + s] + beta[s]);
      const double lp = q.log_probs[t * q.row + c];
      dx[t * q.row + c] = C(exp(lp) - exp(paths + loss - lp)) * dy[sequence];
    }
    __syncthreads();
    double* swap = beta;
    beta = next;
    next = swap;
  }
}

template <class F> void dispatch_compute(DType c, const F& f) {
  if (c == DType::Float64)
    f.template operator()<double>();
  else
    f.template operator()<float>();
}

void ctc_forward(DType c, const CtcArgs& a, void* losses) {
  dispatch_compute(c, [&]<class C>() {
    launch(ctc_forward_kernel<C>, dim3(unsigned(a.N)), dim3(kThreads), 0, a, static_cast<C*>(losses));
  });
}
void ctc_backward(DType c, const CtcArgs& a, const void* dy, void* dx, bool zero_infinity) {
  dispatch_compute(c, [&]<class C>() {
    Scratch<double> betas(a.N * 2 * a.states);
    launch(ctc_backward_kernel<C>, dim3(unsigned(a.N)), dim3(kThreads), 0, a, static_cast<const C*>(dy),
           static_cast<C*>(dx), zero_infinity, betas.get());
  });
}

}  // namespace

const LossKernels loss_kernels = {pointwise_forward, pointwise_backward, within, ctc_forward, ctc_backward};

}  // namespace gg::cuda
