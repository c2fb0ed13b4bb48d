// The pointwise losses' values and slopes, which CPU and CUDA kernels share.
//
// V is a vector of float or double, or one number in a CUDA kernel. Whoever includes this file first includes
// cpu/math.h or cuda/math.h, which have the same functions of either.
#pragma once
#include "core/device_code.h"
#include "ops/loss/loss.h"

namespace gg::GG_ISA {
namespace {

template <class V> GG_DEVICE inline V sign(V x) { return x > 0 ? V{} + 1 : x < 0 ? V{} - 1 : x; }

// value and slope (by x) of one loss; V is a vector, p its parameter.
template <PointwiseLoss kind, class V, class C> GG_DEVICE inline V loss_value(V x, V t, C p) {
  V d = x - t;
  switch (kind) {
    case PointwiseLoss::Mse: return d * d;
    case PointwiseLoss::L1: return abs(d);
    case PointwiseLoss::SmoothL1: return abs(d) < p ? d * d * (C(0.5) / p) : abs(d) - C(0.5) * p;
    case PointwiseLoss::Huber: return abs(d) <= p ? C(0.5) * d * d : p * (abs(d) - C(0.5) * p);
    case PointwiseLoss::Bce: {
      V floor = V{} - 100, a = log(x), b = log1p(-x);
      a = a < floor ? floor : a;
      b = b < floor ? floor : b;
      return (t - 1) * b - t * a;
    }
    case PointwiseLoss::BceWithLogits: return (x > 0 ? x : V{}) - x * t + log1p(exp(-abs(x)));
    case PointwiseLoss::SoftMargin: return log1p_exp(-t * x);
    case PointwiseLoss::KlDiv: return (t == 0 ? V{} : t * log(t)) - t * x;
    case PointwiseLoss::KlDivLog: return exp(t) * (t - x);
    case PointwiseLoss::PoissonLog: return exp(x) - t * x;
  }
  __builtin_unreachable();
}

// The derivatives of the above by x, zero at a kink.
template <PointwiseLoss kind, class V, class C> GG_DEVICE inline V loss_slope(V x, V t, C p) {
  V d = x - t;
  switch (kind) {
    case PointwiseLoss::Mse: return d + d;
    case PointwiseLoss::L1: return d == d ? sign(d) : V{};
    case PointwiseLoss::SmoothL1: return abs(d) < p ? d / p : sign(d);
    case PointwiseLoss::Huber: return abs(d) <= p ? d : p * sign(d);
    case PointwiseLoss::Bce: {
      V variance = (1 - x) * x, least = V{} + C(1e-12f);
      return d / (variance < least ? least : variance);
    }
    case PointwiseLoss::BceWithLogits: return sigmoid(x) - t;
    case PointwiseLoss::SoftMargin: return -t * sigmoid(-t * x);
    case PointwiseLoss::KlDiv: return -t;
    case PointwiseLoss::KlDivLog: return -exp(t);
    case PointwiseLoss::PoissonLog: return exp(x) - t;
  }
  __builtin_unreachable();
}

template <PointwiseLoss k> struct Kind { static constexpr PointwiseLoss kind = k; };
template <int i = 0, class F> inline void dispatch_kind(PointwiseLoss kind, const F& f) {
  if (int(kind) == i)
    f(Kind<PointwiseLoss(i)>{});
  else if constexpr (i + 1 < kPointwiseLosses)
    dispatch_kind<i + 1>(kind, f);
}

}  // namespace
}  // namespace gg::GG_ISA
