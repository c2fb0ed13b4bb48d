// The optimizers' rules, one struct each: step(p, g, s0, s1, s2, k) changes a parameter and its states by its gradient.
//
// A rule serves vectors of float or double on the CPU and the numbers themselves in a CUDA kernel. Whoever includes
// this file first includes cpu/math.h or cuda/math.h, which have the same functions of either.
#pragma once
#include "core/device_code.h"
#include "ops/optimizer/optimizer.h"

namespace gg::GG_ISA {
namespace {

// What all rules share: the sign of the gradient, and weight decay as an L2 term of it.
template <class V> GG_DEVICE inline void decay(V p, V& g, double weight_decay, bool maximize) {
  using C = lane_t<V>;
  if (maximize) g = -g;
  if (weight_decay != 0) g += C(weight_decay) * p;
}

//   buf = momentum buf + (1 - dampening) g, the first buf = g;   p -= lr (nesterov ? g + momentum buf : buf)
struct Sgd {
  SgdOptions o;
  template <class V, class C> GG_DEVICE void step(V& p, V g, V& buf, V&, V&, const C* k) const {
    decay(p, g, o.weight_decay, o.maximize);
    if (o.momentum != 0) {
      buf = k[0] != 0 ? g : C(o.momentum) * buf + C(1 - o.dampening) * g;
      g = o.nesterov ? g + C(o.momentum) * buf : buf;
    }
    p -= C(o.lr) * g;
  }
};

//   m += (1 - beta1)(g - m);   v = beta2 v + (1 - beta2) g^2;   p -= lr m' / (sqrt(v') + eps), m' and v' without their
//   bias
// (Kingma and Ba, 2015; decoupled decay: Loshchilov and Hutter, 2019; amsgrad: Reddi et al., 2018.)
struct Adam {
  AdamOptions o;
  template <class V, class C> GG_DEVICE void step(V& p, V g, V& m, V& v, V& largest, const C* k) const {
    if (o.decoupled) p *= C(1 - o.lr * o.weight_decay);
    decay(p, g, o.decoupled ? 0 : o.weight_decay, o.maximize);
    m += C(1 - o.beta1) * (g - m);
    v = C(o.beta2) * v + C(1 - o.beta2) * g * g;
    if (o.amsgrad) largest = max(v, largest);
    p -= k[0] * m / (sqrt(o.amsgrad ? largest : v) * k[1] + C(o.eps));
  }
};

//   v = alpha v + (1 - alpha) g^2;   p -= lr g / (sqrt(v - centred mean^2) + eps), through a momentum buffer if any
// (Hinton's lecture 6e, 2012; centred: Graves, 2013.)
struct Rmsprop {
  RmspropOptions o;
  template <class V, class C> GG_DEVICE void step(V& p, V g, V& v, V& mean, V& buf, const C*) const {
    decay(p, g, o.weight_decay, o.maximize);
    v = C(o.alpha) * v + C(1 - o.alpha) * g * g;
    V square = v;
    if (o.centered) {
      mean += C(1 - o.alpha) * (g - mean);
      square = v - mean * mean;
    }
    V update = g / (sqrt(square) + C(o.eps));
    if (o.momentum > 0) update = buf = C(o.momentum) * buf + update;
    p -= C(o.lr) * update;
  }
};

//   sum += g^2;   p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(sum) + eps)      (Duchi, Hazan and Singer, 2011)
struct Adagrad {
  AdagradOptions o;
  template <class V, class C> GG_DEVICE void step(V& p, V g, V& sum, V&, V&, const C* k) const {
    decay(p, g, o.weight_decay, o.maximize);
    sum += g * g;
    p -= k[0] * g / (sqrt(sum) + C(o.eps));
  }
};

//   v = rho v + (1 - rho) g^2;   u = sqrt(d + eps) / sqrt(v + eps) g;   d = rho d + (1 - rho) u^2;   p -= lr u (Zeiler,
//   2012)
struct Adadelta {
  AdadeltaOptions o;
  template <class V, class C> GG_DEVICE void step(V& p, V g, V& v, V& d, V&, const C*) const {
    decay(p, g, o.weight_decay, o.maximize);
    v = C(o.rho) * v + C(1 - o.rho) * g * g;
    V update = sqrt(d + C(o.eps)) / sqrt(v + C(o.eps)) * g;
    d = C(o.rho) * d + C(1 - o.rho) * update * update;
    p -= C(o.lr) * update;
  }
};

//   m += (1 - beta1)(g - m);   u = max(beta2 u, |g| + eps);   p -= lr / (1 - beta1^t) m / u         (Kingma and Ba,
//   2015)
struct Adamax {
  AdamaxOptions o;
  template <class V, class C> GG_DEVICE void step(V& p, V g, V& m, V& u, V&, const C* k) const {
    decay(p, g, o.weight_decay, o.maximize);
    m += C(1 - o.beta1) * (g - m);
    V now = abs(g) + C(o.eps);
    u = max(C(o.beta2) * u, now);
    p -= k[0] * m / u;
  }
};

// Adam with the next step's momentum looked up in advance.                                          (Dozat, 2016)
struct Nadam {
  NadamOptions o;
  template <class V, class C> GG_DEVICE void step(V& p, V g, V& m, V& v, V&, const C* k) const {
    if (o.decoupled) p *= C(1 - o.lr * o.weight_decay);
    decay(p, g, o.decoupled ? 0 : o.weight_decay, o.maximize);
    m += C(1 - o.beta1) * (g - m);
    v = C(o.beta2) * v + C(1 - o.beta2) * g * g;
    V denominator = sqrt(v) * k[2] + C(o.eps);
    p -= (k[0] * g + k[1] * m) / denominator;
  }
};

// Adam whose step is rectified by the variance of 1 / sqrt(v), plain momentum while that is unbounded.  (Liu et al.,
// 2020)
struct Radam {
  RadamOptions o;
  template <class V, class C> GG_DEVICE void step(V& p, V g, V& m, V& v, V&, const C* k) const {
    if (o.decoupled) p *= C(1 - o.lr * o.weight_decay);
    decay(p, g, o.decoupled ? 0 : o.weight_decay, o.maximize);
    m += C(1 - o.beta1) * (g - m);
    v = C(o.beta2) * v + C(1 - o.beta2) * g * g;
    V update = k[0] * m;
    if (k[1] != 0) update *= k[1] / (sqrt(v) + C(o.eps));
    p -= update;
  }
};

// A step size for each element grows while the gradient keeps its sign and shrinks, skipping one update, where it
// turns. (Riedmiller and Braun, 1993)
struct Rprop {
  RpropOptions o;
  template <class V, class C> GG_DEVICE void step(V& p, V g, V& previous, V& size, V&, const C*) const {
    if (o.maximize) g = -g;
    V product = g * previous;
    V factor = product > 0 ? V{} + C(o.eta_plus) : product < 0 ? V{} + C(o.eta_minus) : V{} + 1;
    size *= factor;
    size = size < C(o.step_min) ? V{} + C(o.step_min) : size > C(o.step_max) ? V{} + C(o.step_max) : size;
    g = product < 0 ? V{} : g;
    p -= g > 0 ? size : g < 0 ? -size : V{};
    previous = g;
  }
};

}  // namespace
}  // namespace gg::GG_ISA
