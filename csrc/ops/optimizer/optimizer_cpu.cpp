// Optimizer steps on the CPU: every array is read and written once, whatever the rule. 16-bit floats compute in
// float32.
#include "ops/optimizer/optimizer.h"

#include "core/dispatch.h"
#include "core/parallel.h"
#include "cpu/math.h"
#include "cpu/rows.h"

namespace gg::GG_ISA {
namespace {

constexpr int64_t kEnough = 16384;  // elements that are worth waking a thread for

// Calls rule.step(p, g, s0, s1, s2, k) on vectors of every slice: s are the first `States` states where not null (zeros
// else); p and s are written back. k are the slice's constants.
template <int States, class Rule> void run(const OptimizerSlice* slices, int64_t count, const Rule& rule) {
  int64_t total = 0;
  for (int64_t i = 0; i < count; ++i) total += slices[i].n;
  parallel_for(count, total < 2 * kEnough ? count : 1, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      const OptimizerSlice& slice = slices[at];
      dispatch_floating(slice.dtype, [&]<class T>() {
        using C = compute_t<T>;
        T* param = static_cast<T*>(slice.param);
        const T* grad = static_cast<const T*>(slice.grad);
        T* state[3] = {static_cast<T*>(slice.state[0]), static_cast<T*>(slice.state[1]),
                       static_cast<T*>(slice.state[2])};
        const C k[4] = {C(slice.k[0]), C(slice.k[1]), C(slice.k[2]), C(slice.k[3])};
        for_vectors<C>(slice.n, [&](int64_t i, auto part) {
          Vec<C> p = load_part(param + i, part), g = load_part(grad + i, part), s[3] = {};
          for (int j = 0; j < States; ++j)
            if (state[j]) s[j] = load_part(state[j] + i, part);
          rule.step(p, g, s[0], s[1], s[2], k);
          for (int j = 0; j < States; ++j)
            if (state[j]) store_part(state[j] + i, s[j], part);
          store_part(param + i, p, part);
        });
      });
    }
  });
}

// What all rules share: the sign of the gradient, and weight decay as an L2 term of it.
template <class V> inline void decay(V p, V& g, double weight_decay, bool maximize) {
  using C = lane_t<V>;
  if (maximize) g = -g;
  if (weight_decay != 0) g += C(weight_decay) * p;
}

//   buf = momentum buf + (1 - dampening) g, the first buf = g;   p -= lr (nesterov ? g + momentum buf : buf)
struct Sgd {
  SgdOptions o;
  template <class V, class C> void step(V& p, V g, V& buf, V&, V&, const C* k) const {
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
  template <class V, class C> void step(V& p, V g, V& m, V& v, V& largest, const C* k) const {
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
  template <class V, class C> void step(V& p, V g, V& v, V& mean, V& buf, const C*) const {
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
  template <class V, class C> void step(V& p, V g, V& sum, V&, V&, const C* k) const {
    decay(p, g, o.weight_decay, o.maximize);
    sum += g * g;
    p -= k[0] * g / (sqrt(sum) + C(o.eps));
  }
};

//   v = rho v + (1 - rho) g^2;   u = sqrt(d + eps) / sqrt(v + eps) g;   d = rho d + (1 - rho) u^2;   p -= lr u (Zeiler,
//   2012)
struct Adadelta {
  AdadeltaOptions o;
  template <class V, class C> void step(V& p, V g, V& v, V& d, V&, const C*) const {
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
  template <class V, class C> void step(V& p, V g, V& m, V& u, V&, const C* k) const {
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
  template <class V, class C> void step(V& p, V g, V& m, V& v, V&, const C* k) const {
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
  template <class V, class C> void step(V& p, V g, V& m, V& v, V&, const C* k) const {
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
  template <class V, class C> void step(V& p, V g, V& previous, V& size, V&, const C*) const {
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

}  // namespace

const OptimizerKernels optimizer_kernels = {sgd, adam, rmsprop, adagrad, adadelta, adamax, nadam, radam, rprop};

}  // namespace gg::GG_ISA
