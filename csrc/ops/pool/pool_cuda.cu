// CUDA kernels of pool.h: a thread, or a warp where windows are wide, gathers a window for an output, or for an input
// the outputs whose windows hold it. Scatters along any indices go through cuda/destinations.h.
#include "ops/pool/pool.h"

#include <type_traits>

#include "core/dispatch.h"
#include "cuda/destinations.h"
#include "cuda/first_bad.h"
#include "cuda/number.h"
#include "cuda/offsets.h"

namespace gg::cuda {
namespace {

constexpr int kThreads = 256;

template <class F> void dispatch_pooled(DType t, F&& f) {
  if (t == DType::Int64) return f.template operator()<int64_t>();
  dispatch_floating(t, f);
}

int64_t volume(const int64_t (&n)[3]) { return n[0] * n[1] * n[2]; }

// Indices of either width.
struct Places {
  const void* data;
  bool wide;
  __device__ int64_t operator[](int64_t i) const {
    return wide ? static_cast<const int64_t*>(data)[i] : int64_t(static_cast<const int32_t*>(data)[i]);
  }
};

// Coordinates begin, begin + step, ... below end.
template <class I> struct Range { I begin, end, step; };

// I: 32 bits where every coordinate fits, padding included.
template <class I_> struct Sliding {
  using I = I_;
  I in[3], out[3], kernel[3], stride[3], pad[3], dilation[3];

  explicit Sliding(const PoolShape& s) {
    for (int i = 0; i < 3; ++i) {
      in[i] = I(s.in[i]);
      out[i] = I(s.out[i]);
      kernel[i] = I(s.kernel[i]);
      stride[i] = I(s.stride[i]);
      pad[i] = I(s.pad[i]);
      dilation[i] = I(s.dilation[i]);
    }
  }
  // The inputs of an output's window.
  __device__ Range<I> window(int axis, I o) const {
    const I start = o * stride[axis] - pad[axis], stop = start + (kernel[axis] - 1) * dilation[axis] + 1;
    const I skipped = start < 0 ? (-start + dilation[axis] - 1) / dilation[axis] * dilation[axis] : 0;
    return {start + skipped, stop < in[axis] ? stop : in[axis], dilation[axis]};
  }
  // The outputs between whose first and last tap an input lies.
  __device__ Range<I> outputs(int axis, I i) const {
    const I reach = i + pad[axis] - (kernel[axis] - 1) * dilation[axis], last = (i + pad[axis]) / stride[axis];
    return {reach > 0 ? (reach + stride[axis] - 1) / stride[axis] : 0, last < out[axis] ? last + 1 : out[axis], 1};
  }
};

template <class I_> struct Adaptive {
  using I = I_;
  I in[3], out[3];

  explicit Adaptive(const PoolShape& s) {
    for (int i = 0; i < 3; ++i) {
      in[i] = I(s.in[i]);
      out[i] = I(s.out[i]);
    }
  }
  __device__ Range<I> window(int axis, I o) const { return meets(o, out[axis], in[axis]); }
  __device__ Range<I> outputs(int axis, I i) const { return meets(i, in[axis], out[axis]); }

 private:
  // Of m equal cells of the same stretch, those that cell i of n overlaps.
  static __device__ Range<I> meets(I i, I n, I m) {
    return {I(int64_t(i) * m / n), I(((int64_t(i) + 1) * m + n - 1) / n), 1};
  }
};

bool fits_32_bits(const PoolShape& s) {
  const int64_t limit = int64_t(1) << 31;
  bool fits = volume(s.in) < limit && volume(s.out) < limit;
  for (int i = 0; i < 3; ++i) fits &= s.in[i] + 2 * s.pad[i] + s.stride[i] + s.kernel[i] * s.dilation[i] < limit;
  return fits;
}

// One window over a whole plane is a window over a line.
PoolShape flattened(const PoolShape& s) {
  PoolShape flat = s;
  if (volume(s.out) != 1) return flat;
  flat.in[0] = flat.in[1] = 1;
  flat.in[2] = volume(s.in);
  return flat;
}

// f.template operator()<W>(w): windows of the shape, in 32 bits where they fit.
template <template <class> class W, class F> void dispatch_windows(const PoolShape& s, const F& f) {
  if (fits_32_bits(s))
    f(W<int32_t>(s));
  else
    f(W<int64_t>(s));
}

// Threads for an output: a warp along wide windows.
int lanes_for(int64_t window_width) { return window_width >= 16 ? 32 : 1; }

template <class C> __device__ constexpr C lowest() {
  if constexpr (kWhole<C>)
    return C(INT64_MIN);
  else
    return -C(INFINITY);
}

// A NaN wins, the last of several; of equals the first.
template <class T, class W>
__global__ void max_pool_kernel(const W windows, const T* __restrict__ x, T* __restrict__ y, void* __restrict__ index,
                                bool wide, const Planes out, int64_t n, int lanes) {
  using C = compute_t<T>;
  using I = typename W::I;
  const int64_t in = int64_t(windows.in[0]) * windows.in[1] * windows.in[2];
  const int lane = lanes > 1 ? threadIdx.x % 32 : 0;
  for (int64_t item = first_item(); item < n * lanes; item += item_step()) {
    const int64_t e = lanes > 1 ? item / 32 : item;
    I o[3];
    const T* const plane = x + out.at(e, o) * in;
    const Range<I> d = windows.window(0, o[0]), h = windows.window(1, o[1]), w = windows.window(2, o[2]);
    C best = lowest<C>();
    I at = -1;
    for (I i = d.begin; i < d.end; i += d.step)
      for (I j = h.begin; j < h.end; j += h.step)
        for (I k = w.begin + lane * w.step; k < w.end; k += lanes * w.step) {
          const I here = (i * windows.in[1] + j) * windows.in[2] + k;
          const C v = load(plane + here);
          if (v > best || v != v) {
            best = v;
            at = here;
          }
        }
    for (int step = lanes / 2; step > 0; step /= 2) {
      const C v = shuffle_xor(best, step);
      const I place = shuffle_xor(at, step);
      const bool nan = v != v, mine = best != best;
      const bool take =
          nan == mine ? (nan ? place > at : v > best || (v == best && place >= 0 && (at < 0 || place < at))) : nan;
      if (take) {
        best = v;
        at = place;
      }
    }
    if (lane > 0) continue;
    if (at < 0) {  // nothing above the lowest value: the window's first element
      const I last[3] = {windows.in[0] - 1, windows.in[1] - 1, windows.in[2] - 1};
      at = (min(d.begin, last[0]) * windows.in[1] + min(h.begin, last[1])) * windows.in[2] + min(w.begin, last[2]);
    }
    store(y + e, best);
    if (!index) continue;
    if (wide)
      static_cast<int64_t*>(index)[e] = at;
    else
      static_cast<int32_t*>(index)[e] = int32_t(at);
  }
}

template <class T, class W>
void max_pool(const W& windows, const PoolShape& s, const void* x, void* y, DType index_type, void* index, int lanes) {
  const int64_t n = s.planes * volume(s.out);
  launch(max_pool_kernel<T, W>, grid_for(n * lanes, kThreads), kThreads, 0, windows, static_cast<const T*>(x),
         static_cast<T*>(y), index, index_type == DType::Int64, Planes(s.planes, s.out), n, lanes);
}

void max_pool_forward(DType t, const PoolShape& s, const void* x, void* y, DType index_type, void* index) {
  dispatch_windows<Sliding>(s, [&](const auto& windows) {
    dispatch_pooled(t, [&]<class T>() { max_pool<T>(windows, s, x, y, index_type, index, lanes_for(s.kernel[2])); });
  });
}

void adaptive_max_pool_forward(DType t, const PoolShape& s, const void* x, void* y, DType index_type, void* index) {
  const PoolShape flat = flattened(s);
  dispatch_windows<Adaptive>(flat, [&](const auto& windows) {
    dispatch_floating(t, [&]<class T>() {
      max_pool<T>(windows, flat, x, y, index_type, index, lanes_for(flat.in[2] / flat.out[2]));
    });
  });
}

template <class U>
__global__ void pool_gather_kernel(const U* __restrict__ x, Places index, U* __restrict__ y, int64_t n, int64_t in,
                                   Split out) {
  for (int64_t e = first_item(); e < n; e += item_step()) y[e] = x[out.quotient(e) * in + index[e]];
}

void pool_gather(DType t, int64_t planes, int64_t in, int64_t out, const void* x, DType index_type, const void* index,
                 void* y) {
  const int64_t n = planes * out;
  dispatch_size(item_size(t), [&]<class U>() {
    launch(pool_gather_kernel<U>, grid_for(n, kThreads), kThreads, 0, static_cast<const U*>(x),
           Places{index, index_type == DType::Int64}, static_cast<U*>(y), n, in, Split(out, n));
  });
}

// x[i] = the sum of y[o] over the outputs with index i whose windows hold it.
template <class T, class W>
__global__ void pool_scatter_windows_kernel(const W windows, const T* __restrict__ y, Places index, T* __restrict__ x,
                                            const Planes in, int64_t n) {
  using I = typename W::I;
  const int64_t out = int64_t(windows.out[0]) * windows.out[1] * windows.out[2];
  for (int64_t e = first_item(); e < n; e += item_step()) {
    I i[3];
    const int64_t plane = in.at(e, i) * out;
    const I here = (i[0] * windows.in[1] + i[1]) * windows.in[2] + i[2];
    const Range<I> d = windows.outputs(0, i[0]), h = windows.outputs(1, i[1]), w = windows.outputs(2, i[2]);
    compute_t<T> sum = 0;
    for (I a = d.begin; a < d.end; ++a)
      for (I b = h.begin; b < h.end; ++b)
        for (I c = w.begin; c < w.end; ++c) {
          const int64_t o = plane + (a * windows.out[1] + b) * windows.out[2] + c;
          if (index[o] == here) sum += load(y + o);
        }
    store(x + e, sum);
  }
}

__global__ void plane_offsets_kernel(Places index, int64_t* __restrict__ offsets, int64_t n, int64_t in, Split out) {
  for (int64_t e = first_item(); e < n; e += item_step()) offsets[e] = out.quotient(e) * in + index[e];
}

// Sums at offsets: a fold for cuda/destinations.h.
template <class T> struct OffsetSums {
  using Value = compute_t<T>;
  const T* y;
  T* x;
  __device__ Value read(int64_t, int64_t o, int64_t) const { return load(y + o); }
  __device__ Value combine(Value a, Value b) const { return a + b; }
  __device__ void write(int64_t i, int64_t, Value sum) const { store(x + i, sum); }
};

void pool_scatter(DType t, int64_t planes, int64_t in, int64_t out, const void* y, DType index_type, const void* index,
                  void* x, const PoolShape* windows) {
  dispatch_floating(t, [&]<class T>() {
    T* const to = static_cast<T*>(x);
    const T* const from = static_cast<const T*>(y);
    const Places places{index, index_type == DType::Int64};
    if (windows) {
      const int64_t n = planes * in;
      auto gather = [&](const auto& w) {
        launch(pool_scatter_windows_kernel<T, std::decay_t<decltype(w)>>, grid_for(n, kThreads), kThreads, 0, w, from,
               places, to, Planes(planes, windows->in), n);
      };
      if (windows->kernel[2])
        dispatch_windows<Sliding>(*windows, gather);
      else
        dispatch_windows<Adaptive>(*windows, gather);
      return;
    }
    zero(x, size_t(planes * in) * sizeof(T));
    const int64_t together = Destinations::kMost / out;  // planes that can be ordered at once
    for (int64_t first = 0; first < planes; first += together) {
      const int64_t count = planes - first < together ? planes - first : together, n = count * out;
      const char* part = static_cast<const char*>(index) + first * out * item_size(index_type);
      Scratch<int64_t> offsets(n);
      launch(plane_offsets_kernel, grid_for(n, kThreads), kThreads, 0, Places{part, places.wide}, offsets.get(), n, in,
             Split(out, n));
      Destinations at(offsets, n, count * in);
      fold_ordered(OffsetSums<T>{from + first * out, to + first * in}, at.ordered(), 1, false);
    }
  });
}

// last[i]: 1 + the last output that is put there.
__global__ void last_output_kernel(const int64_t* __restrict__ index, int64_t n, int64_t in, Split out,
                                   unsigned long long* __restrict__ last, BadPosition* __restrict__ bad) {
  for (int64_t e = first_item(); e < n; e += item_step()) {
    if (uint64_t(index[e]) >= uint64_t(in))
      report_bad(bad, e);
    else
      atomicMax(last + out.quotient(e) * in + index[e], (unsigned long long)(e + 1));
  }
}

template <class U>
__global__ void max_unpool_kernel(const U* __restrict__ y, const unsigned long long* __restrict__ last,
                                  U* __restrict__ x, int64_t n) {
  for (int64_t i = first_item(); i < n; i += item_step()) x[i] = last[i] ? y[last[i] - 1] : U(0);
}

bool max_unpool_forward(int item_size, int64_t planes, int64_t in, int64_t out, const void* y, const int64_t* index,
                        void* x) {
  const int64_t inputs = planes * in, outputs = planes * out;
  if (inputs == 0 && outputs == 0) return true;
  FirstBad bad;
  Scratch<unsigned long long> last(inputs);
  zero(last, size_t(inputs) * sizeof(unsigned long long));
  if (outputs)
    launch(last_output_kernel, grid_for(outputs, kThreads), kThreads, 0, index, outputs, in, Split(out, outputs),
           last.get(), bad.get());
  if (bad.result() >= 0) return false;
  if (inputs)
    dispatch_size(item_size, [&]<class U>() {
      launch(max_unpool_kernel<U>, grid_for(inputs, kThreads), kThreads, 0, static_cast<const U*>(y),
             static_cast<const unsigned long long*>(last.get()), static_cast<U*>(x), inputs);
    });
  return true;
}

// By what an output's sum is divided: the elements of its window, with or without padding, or a number for all.
template <class C, class I> struct Counts {
  gg::Divisor divisor;
  __device__ C axis(const Sliding<I>& s, int axis, I o) const {
    I begin = o * s.stride[axis] - s.pad[axis];
    I end = min(begin + s.kernel[axis], s.in[axis] + s.pad[axis]);
    if (!divisor.count_pad) {
      begin = max(begin, I(0));
      end = min(end, s.in[axis]);
    }
    return C(end - begin);
  }
  __device__ C of(const Sliding<I>& s, I d, I h, I w) const {
    if (divisor.override) return C(divisor.override);
    return axis(s, 0, d) * axis(s, 1, h) * axis(s, 2, w);
  }
};
template <class C, class I> struct AdaptiveCounts {
  __device__ C of(const Adaptive<I>& s, I d, I h, I w) const {
    const Range<I> a = s.window(0, d), b = s.window(1, h), c = s.window(2, w);
    return C((a.end - a.begin) * (b.end - b.begin) * (c.end - c.begin));
  }
};

template <class T, class W, class Counts>
__global__ void avg_pool_kernel(const W windows, Counts counts, const T* __restrict__ x, T* __restrict__ y,
                                const Planes out, int64_t n, int lanes) {
  using C = compute_t<T>;
  using I = typename W::I;
  const int64_t in = int64_t(windows.in[0]) * windows.in[1] * windows.in[2];
  const int lane = lanes > 1 ? threadIdx.x % 32 : 0;
  for (int64_t item = first_item(); item < n * lanes; item += item_step()) {
    const int64_t e = lanes > 1 ? item / 32 : item;
    I o[3];
    const T* const plane = x + out.at(e, o) * in;
    const Range<I> d = windows.window(0, o[0]), h = windows.window(1, o[1]), w = windows.window(2, o[2]);
    C sum = 0;
    for (I i = d.begin; i < d.end; ++i)
      for (I j = h.begin; j < h.end; ++j)
        for (I k = w.begin + lane; k < w.end; k += lanes)
          sum += load(plane + (i * windows.in[1] + j) * windows.in[2] + k);
    if (lanes > 1) sum = warp_reduce<Sum>(sum);
    if (lane == 0) store(y + e, sum / counts.of(windows, o[0], o[1], o[2]));
  }
}

// dx[i] = the sum of dy[o] / count(o) over the windows that hold i.
template <class T, class W, class Counts>
__global__ void avg_pool_backward_kernel(const W windows, Counts counts, const T* __restrict__ dy, T* __restrict__ dx,
                                         const Planes in, int64_t n) {
  using C = compute_t<T>;
  using I = typename W::I;
  const int64_t out = int64_t(windows.out[0]) * windows.out[1] * windows.out[2];
  for (int64_t e = first_item(); e < n; e += item_step()) {
    I i[3];
    const T* const plane = dy + in.at(e, i) * out;
    const Range<I> d = windows.outputs(0, i[0]), h = windows.outputs(1, i[1]), w = windows.outputs(2, i[2]);
    C sum = 0;
    for (I a = d.begin; a < d.end; ++a)
      for (I b = h.begin; b < h.end; ++b)
        for (I c = w.begin; c < w.end; ++c)
          sum += load(plane + (a * windows.out[1] + b) * windows.out[2] + c) / counts.of(windows, a, b, c);
    store(dx + e, sum);
  }
}

template <class T, class W, class Counts>
void avg_pool(const W& windows, Counts counts, const PoolShape& s, const void* x, void* y, int lanes) {
  const int64_t n = s.planes * volume(s.out);
  launch(avg_pool_kernel<T, W, Counts>, grid_for(n * lanes, kThreads), kThreads, 0, windows, counts,
         static_cast<const T*>(x), static_cast<T*>(y), Planes(s.planes, s.out), n, lanes);
}
template <class T, class W, class Counts>
void avg_pool_adjoint(const W& windows, Counts counts, const PoolShape& s, const void* dy, void* dx) {
  const int64_t n = s.planes * volume(s.in);
  launch(avg_pool_backward_kernel<T, W, Counts>, grid_for(n, kThreads), kThreads, 0, windows, counts,
         static_cast<const T*>(dy), static_cast<T*>(dx), Planes(s.planes, s.in), n);
}

void avg_pool_forward(DType t, const PoolShape& s, gg::Divisor divisor, const void* x, void* y) {
  dispatch_windows<Sliding>(s, [&]<class I>(const Sliding<I>& windows) {
    dispatch_pooled(
        t, [&]<class T>() { avg_pool<T>(windows, Counts<compute_t<T>, I>{divisor}, s, x, y, lanes_for(s.kernel[2])); });
  });
}

void avg_pool_backward(DType t, const PoolShape& s, gg::Divisor divisor, const void* dy, void* dx) {
  dispatch_windows<Sliding>(s, [&]<class I>(const Sliding<I>& windows) {
    dispatch_floating(t, [&]<class T>() { avg_pool_adjoint<T>(windows, Counts<compute_t<T>, I>{divisor}, s, dy, dx); });
  });
}

void adaptive_avg_pool_forward(DType t, const PoolShape& s, const void* x, void* y) {
  const PoolShape flat = flattened(s);
  dispatch_windows<Adaptive>(flat, [&]<class I>(const Adaptive<I>& windows) {
    dispatch_floating(t, [&]<class T>() {
      avg_pool<T>(windows, AdaptiveCounts<compute_t<T>, I>{}, flat, x, y, lanes_for(flat.in[2] / flat.out[2]));
    });
  });
}

void adaptive_avg_pool_backward(DType t, const PoolShape& s, const void* dy, void* dx) {
  const PoolShape flat = flattened(s);
  dispatch_windows<Adaptive>(flat, [&]<class I>(const Adaptive<I>& windows) {
    dispatch_floating(
        t, [&]<class T>() { avg_pool_adjoint<T>(windows, AdaptiveCounts<compute_t<T>, I>{}, flat, dy, dx); });
  });
}

}  // namespace

const PoolKernels pool_kernels = {
    max_pool_forward,  adaptive_max_pool_forward, pool_gather,
    pool_scatter,      max_unpool_forward,        avg_pool_forward,
    avg_pool_backward, adaptive_avg_pool_forward, adaptive_avg_pool_backward,
};

}  // namespace gg::cuda
