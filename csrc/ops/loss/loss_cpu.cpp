// Losses on the CPU: pointwise ones in one pass over input and target, sums by fixed blocks; CTC by the
// forward-backward algorithm in log space (Graves et al., 2006).
#include "ops/loss/loss.h"

#include <math.h>

#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/math.h"
#include "cpu/rows.h"
#include "cpu/scratch.h"
#include "ops/loss/loss_rules.h"

namespace gg::GG_ISA {
namespace {

constexpr int64_t kBlock = 16384;  // elements of a parallel piece, and of a partial sum

void pointwise_forward(PointwiseLoss kind, DType t, const void* x_, const void* target_, void* out_, int64_t n,
                       double parameter, bool reduce, double factor) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const T* x = static_cast<const T*>(x_);
    const T* target = static_cast<const T*>(target_);
    T* out = static_cast<T*>(out_);
    C p = C(parameter);
    dispatch_kind(kind, [&](auto k) {
      auto value = [&](int64_t i, auto part) {
        return loss_value<decltype(k)::kind>(load_part(x + i, part), load_part(target + i, part), p);
      };
      if (!reduce)
        return parallel_for(n, kBlock, [&](int64_t begin, int64_t end) {
          for_vectors<C>(end - begin,
                         [&](int64_t i, auto part) { store_part(out + begin + i, value(begin + i, part), part); });
        });
      int64_t blocks = (n + kBlock - 1) / kBlock;
      Scratch<C> partial(blocks + 1);
      parallel_for(n, kBlock, [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; at += kBlock)
          partial[at / kBlock] = sum_row<C>(end - at < kBlock ? end - at : kBlock, [&](int64_t i, auto part) {
            return keep_part(value(at + i, part), C(0), part);
          });
      });
      double sum = 0;
      for (int64_t b = 0; b < blocks; ++b) sum += double(partial[b]);
      store1(out, C(sum * factor));
    });
  });
}

void pointwise_backward(PointwiseLoss kind, DType t, const void* dy_, const void* x_, const void* target_, void* dx_,
                        void* dtarget_, int64_t n, double parameter, bool per_element, double factor) {
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const T* dy = static_cast<const T*>(dy_);
    const T* x = static_cast<const T*>(x_);
    const T* target = static_cast<const T*>(target_);
    T* dx = static_cast<T*>(dx_);
    T* dtarget = static_cast<T*>(dtarget_);
    C p = C(parameter), f = C(factor);
    dispatch_kind(kind, [&](auto k) {
      parallel_for(n, kBlock, [&](int64_t begin, int64_t end) {
        C one = per_element ? C(1) : load1(dy) * f;
        for_vectors<C>(end - begin, [&](int64_t j, auto part) {
          int64_t i = begin + j;
          Vec<C> g = loss_slope<decltype(k)::kind>(load_part(x + i, part), load_part(target + i, part), p);
          g = per_element ? g * (load_part(dy + i, part) * f) : g * one;
          if (dx) store_part(dx + i, g, part);
          if (dtarget) store_part(dtarget + i, -g, part);
        });
      });
    });
  });
}

bool within(DType t, const void* x_, int64_t n, double low, double high) {
  bool all = true;
  dispatch_floating(t, [&]<class T>() {
    using C = compute_t<T>;
    const T* x = static_cast<const T*>(x_);
    C a = C(low), b = C(high);
    Mask<C> outside{};
    for_vectors<C>(n, [&](int64_t i, auto part) {
      Vec<C> v = keep_part(load_part(x + i, part), a, part);
      outside |= ~((v >= a) & (v <= b));
    });
    for (int k = 0; k < kLanes<C>; ++k) all = all && !outside[k];
  });
  return all;
}

// Logarithms of probabilities reach -1000, where a float32 holds the probability itself to 1e-4 only: double
// throughout.
inline double log_add(double a, double b) {
  double m = a > b ? a : b;
  return m == -kInfinity ? m : m + ::log1p(::exp((a < b ? a : b) - m));
}

// One sequence: states 0 .. 2L are blank, label 1, blank, label 2, ..., blank.
template <class C> struct CtcSequence {
  const CtcArgs& a;
  int64_t sequence;
  const C* log_probs = static_cast<const C*>(a.log_probs) + sequence * a.C;
  const int64_t* labels = a.labels + a.label_begin[sequence];
  int64_t states = 2 * a.label_lengths[sequence] + 1, steps = a.input_lengths[sequence];
  double* alpha = a.alpha + sequence * a.T * a.states;

  int64_t symbol(int64_t s) const { return s % 2 ? labels[s / 2] : a.blank; }
  double log_prob(int64_t t, int64_t s) const { return log_probs[t * a.N * a.C + symbol(s)]; }
  // Whether a path may step from state s - 2 to s: not over the blank between two equal labels.
  bool skips(int64_t s) const { return s % 2 && s >= 2 && labels[s / 2] != labels[s / 2 - 1]; }

  // alpha_t(s): log of the probability of all beginnings of paths that stand on state s at time t.
  double forward() const {
    if (steps == 0) return states == 1 ? 0 : kInfinity;
    for (int64_t s = 0; s < states; ++s) alpha[s] = s < 2 ? log_prob(0, s) : -kInfinity;
    for (int64_t t = 1; t < steps; ++t) {
      const double* before = alpha + (t - 1) * a.states;
      double* now = alpha + t * a.states;
      for (int64_t s = 0; s < states; ++s) {
        double sum = before[s];
        if (s >= 1) sum = log_add(sum, before[s - 1]);
        if (skips(s)) sum = log_add(sum, before[s - 2]);
        now[s] = sum + log_prob(t, s);
      }
    }
    return loss();
  }
  double loss() const {
    const double* last = alpha + (steps - 1) * a.states;
    return -(states == 1 ? last[0] : log_add(last[states - 1], last[states - 2]));
  }

  // beta_t(s), the same for ends of paths, runs from the last step; the paths through s at t then weigh
  // alpha + beta - log p. With G_c their sum over the states of class c,  d loss / d log p_c = -exp(G_c + loss).
  // log_probs come from log_softmax, so exp(log p_c) is added: the gradient with respect to the logits themselves,
  // which log_softmax's own backward leaves as it is (its rows sum to zero).
  void backward(C dy, C* dx, bool zero_infinity) const {
    dx += sequence * a.C;
    if (steps == 0) return;
    const double loss = this->loss();
    if (zero_infinity && loss == kInfinity) return;
    Scratch<double> work(2 * states + a.C);
    double *beta = work.data(), *next = beta + states, *classes = next + states;
    for (int64_t t = steps - 1; t >= 0; --t) {
      for (int64_t s = 0; s < states; ++s) {
        double sum = -kInfinity;
        if (t == steps - 1) {
          sum = s >= states - 2 ? 0 : sum;
        } else {
          sum = next[s];
          if (s + 1 < states) sum = log_add(sum, next[s + 1]);
          if (s + 2 < states && skips(s + 2)) sum = log_add(sum, next[s + 2]);
        }
        beta[s] = sum + log_prob(t, s);
      }
      for (int64_t c = 0; c < a.C; ++c) classes[c] = -kInfinity;
      for (int64_t s = 0; s < states; ++s) {
        double& sum = classes[symbol(s)];
        sum = log_add(sum, alpha[t * a.states + s] + beta[s]);
      }
      const C* lp = log_probs + t * a.N * a.C;
      C* d = dx + t * a.N * a.C;
      for (int64_t c = 0; c < a.C; ++c) d[c] = C(::exp(double(lp[c])) - ::exp(classes[c] + loss - lp[c])) * dy;
      double* swap = beta;
      beta = next;
      next = swap;
    }
  }
};

template <class F> void dispatch_compute(DType c, const F& f) {
  if (c == DType::Float64)
    f.template operator()<double>();
  else
    f.template operator()<float>();
}

void ctc_forward(DType c, const CtcArgs& a, void* losses) {
  dispatch_compute(c, [&]<class C>() {
    parallel_for(a.N, 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) static_cast<C*>(losses)[n] = C(CtcSequence<C>{a, n}.forward());
    });
  });
}

void ctc_backward(DType c, const CtcArgs& a, const void* dy, void* dx, bool zero_infinity) {
  dispatch_compute(c, [&]<class C>() {
    memset(dx, 0, size_t(a.T * a.N * a.C) * sizeof(C));
    parallel_for(a.N, 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n)
        CtcSequence<C>{a, n}.backward(static_cast<const C*>(dy)[n], static_cast<C*>(dx), zero_infinity);
    });
  });
}

}  // namespace

const LossKernels loss_kernels = {pointwise_forward, pointwise_backward, within, ctc_forward, ctc_backward};

}  // namespace gg::GG_ISA
