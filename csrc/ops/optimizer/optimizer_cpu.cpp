// Optimizer steps on the CPU: every array is read and written once, whatever the rule. 16-bit floats compute in
// float32.
#include "ops/optimizer/optimizer.h"

#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/math.h"
#include "cpu/rows.h"
#include "cpu/scratch.h"
#include "ops/optimizer/optimizer_rules.h"

namespace gg::GG_ISA {
namespace {

constexpr int64_t kEnough = 16384;  // elements that are worth waking a thread for
constexpr int64_t kAhead = 2048;    // bytes from which a line is fetched: measured, the same from 512 to 4096

// Calls f<T>(slice, index) for every slice, T being its dtype.
template <class F> void for_slices(const OptimizerSlice* slices, int64_t count, const F& f) {
  int64_t total = 0;
  for (int64_t i = 0; i < count; ++i) total += slices[i].n;
  parallel_for(count, total < 2 * kEnough ? count : 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      dispatch_floating(slices[i].dtype, [&]<class T>() { f.template operator()<T>(slices[i], i); });
  });
}

// Calls rule.step(p, g, s0, s1, s2, k) on vectors of every slice: s are the first `States` states where not null (zeros
// else); p and s are written back. k are the slice's constants.
template <int States, class Rule> void run(const OptimizerSlice* slices, int64_t count, const Rule& rule) {
  for_slices(slices, count, [&]<class T>(const OptimizerSlice& slice, int64_t) {
    using C = compute_t<T>;
    T* param = static_cast<T*>(slice.param);
    const T* grad = static_cast<const T*>(slice.grad);
    T* state[3] = {static_cast<T*>(slice.state[0]), static_cast<T*>(slice.state[1]), static_cast<T*>(slice.state[2])};
    const C k[4] = {C(slice.k[0]), C(slice.k[1]), C(slice.k[2]), C(slice.k[3])};
    for_vectors<C>(slice.n, [&](int64_t i, auto part) {
      Vec<C> p = load_part(param + i, part), g = load_part(grad + i, part), s[3] = {};
      __builtin_prefetch(reinterpret_cast<const char*>(param + i) + kAhead);
      __builtin_prefetch(reinterpret_cast<const char*>(grad + i) + kAhead);
      for (int j = 0; j < States; ++j)
        if (state[j]) {
          s[j] = load_part(state[j] + i, part);
          __builtin_prefetch(reinterpret_cast<const char*>(state[j] + i) + kAhead);
        }
      rule.step(p, g, s[0], s[1], s[2], k);
      for (int j = 0; j < States; ++j)
        if (state[j]) store_part(state[j] + i, s[j], part);
      store_part(param + i, p, part);
    });
  });
}

void sgd(const OptimizerSlice* s, int64_t n, const SgdOptions& o) { run<1>(s, n, Sgd{o}); }
void adam(const OptimizerSlice* s, int64_t n, const AdamOptions& o) {
  o.amsgrad ? run<3>(s, n, Adam{o}) : run<2>(s, n, Adam{o});
}
void rmsprop(const OptimizerSlice* s, int64_t n, const RmspropOptions& o) { run<3>(s, n, Rmsprop{o}); }
void adagrad(const OptimizerSlice* s, int64_t n, const AdagradOptions& o) { run<1>(s, n, Adagrad{o}); }
void adadelta(const OptimizerSlice* s, int64_t n, const AdadeltaOptions& o) { run<2>(s, n, Adadelta{o}); }
void adamax(const OptimizerSlice* s, int64_t n, const AdamaxOptions& o) { run<2>(s, n, Adamax{o}); }
void nadam(const OptimizerSlice* s, int64_t n, const NadamOptions& o) { run<2>(s, n, Nadam{o}); }
void radam(const OptimizerSlice* s, int64_t n, const RadamOptions& o) { run<2>(s, n, Radam{o}); }
void rprop(const OptimizerSlice* s, int64_t n, const RpropOptions& o) { run<2>(s, n, Rprop{o}); }

double square_sum(const OptimizerSlice* slices, int64_t count) {
  Scratch<double> sums(count);
  for_slices(slices, count, [&]<class T>(const OptimizerSlice& slice, int64_t i) {
    using C = compute_t<T>;
    const T* grad = static_cast<const T*>(slice.grad);
    sums[i] = double(sum_row<C>(slice.n, [&](int64_t at, auto part) {
      __builtin_prefetch(reinterpret_cast<const char*>(grad + at) + kAhead);
      const Vec<C> g = load_part(grad + at, part);
      return g * g;
    }));
  });
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += sums[i];
  return sum;
}
void scale(const OptimizerSlice* slices, int64_t count, double factor) {
  for_slices(slices, count, [&]<class T>(const OptimizerSlice& slice, int64_t) {
    using C = compute_t<T>;
    T* x = static_cast<T*>(slice.param);
    for_vectors<C>(slice.n, [&](int64_t i, auto part) { store_part(x + i, load_part(x + i, part) * C(factor), part); });
  });
}

}  // namespace

const OptimizerKernels optimizer_kernels = {sgd,   adam,  rmsprop, adagrad,    adadelta, adamax,
                                            nadam, radam, rprop,   square_sum, scale};

}  // namespace gg::GG_ISA
