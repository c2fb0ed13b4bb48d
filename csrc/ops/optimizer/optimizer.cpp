// Fronts of the optimizer steps: checks, step counts, the constants that depend on them, slices.
#include "ops/optimizer/optimizer.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "core/check.h"
#include "ops/layout/layout.h"
#include "python/bind.h"

namespace gg {
namespace {

using Arrays = std::vector<Array>;

constexpr int64_t kSlice = 16384;  // elements; a parameter smaller than that is one slice

void cut(const OptimizerSlice& whole, std::vector<OptimizerSlice>* slices) {
  const int64_t item = item_size(whole.dtype);
  auto at = [](auto* data, int64_t bytes) -> decltype(data) {
    return data ? const_cast<char*>(static_cast<const char*>(data)) + bytes : nullptr;
  };
  for (int64_t begin = 0; begin < whole.n; begin += kSlice) {
    OptimizerSlice slice = whole;
    slice.param = at(whole.param, begin * item);
    slice.grad = at(whole.grad, begin * item);
    for (void*& s : slice.state) s = at(s, begin * item);
    slice.n = whole.n - begin < kSlice ? whole.n - begin : kSlice;
    slices->push_back(slice);
  }
}

// The tensors of one step. States are lists as long as params, or empty where the rule keeps none.
struct Step {
  const char* op;
  const Arrays& params;
  std::vector<OptimizerSlice> slices;
  Arrays held;                                // dense copies of strided operands, alive until the kernel is done
  std::vector<std::pair<Array, Array>> back;  // strided tensors and the dense copies that replace their values

  Step(const char* name, const Arrays& p, const Arrays& grads, std::initializer_list<const Arrays*> states)
      : op(name), params(p) {
    check<ValueError>(grads.size() == p.size(), op, ": ", p.size(), " parameters and ", grads.size(), " gradients");
    for (size_t i = 0; i < p.size(); ++i) {
      check_floating(op, "parameter", p[i]);
      check_operand("gradient", p[i], grads[i]);
      check_same_device(op, p[0], p[i]);
      for (const Arrays* s : states)
        if (!s->empty()) {
          check<ValueError>(s->size() == p.size(), op, ": ", p.size(), " parameters and ", s->size(), " states");
          check_operand("state", p[i], (*s)[i]);
        }
    }
  }

  void check_operand(const char* what, const Array& param, const Array& x) const {
    check<ShapeError>(x.shape() == param.shape(), op, ": parameter ", param, " and ", what, " ", x, ": shapes differ");
    check<DTypeError>(x.dtype() == param.dtype(), op, ": parameter ", param, " and ", what, " ", x, ": dtypes differ");
    check_same_device(op, param, x);
  }

  void* written(const Array& x) {
    if (x.is_contiguous()) return x.bytes();
    back.emplace_back(x, x.contiguous());
    return back.back().second.bytes();
  }

  // Adds parameter i with its states and constants, cut to size.
  void add(size_t i, const Array& grad, std::initializer_list<const Arrays*> states, std::initializer_list<double> k) {
    const Array& p = params[i];
    OptimizerSlice whole{written(p), nullptr, {nullptr, nullptr, nullptr}, p.numel(), p.dtype(), {}};
    held.push_back(grad.contiguous());
    whole.grad = held.back().bytes();
    int at = 0;
    for (const Arrays* s : states) {
      whole.state[at] = s->empty() ? nullptr : written((*s)[i]);
      ++at;
    }
    at = 0;
    for (double value : k) whole.k[at++] = value;
    cut(whole, &slices);
    bump_version(p);
    for (const Arrays* s : states)
      if (!s->empty()) bump_version((*s)[i]);
  }

  template <class Options> void run(void (*kernel)(const OptimizerSlice*, int64_t, const Options&), const Options& o) {
    if (!slices.empty()) kernel(slices.data(), int64_t(slices.size()), o);
    for (auto& [strided, dense] : back) copy(strided, dense);
  }
  const OptimizerKernels& kernels() const { return optimizer_kernels(params.empty() ? Device{} : params[0].device()); }
};

// Counts one more step in a 0-d float32 or float64 tensor, PyTorch's layout of an optimizer's state.
double count_step(const char* op, const Array& step) {
  check<DTypeError>(step.numel() == 1 && (step.dtype() == DType::Float32 || step.dtype() == DType::Float64), op,
                    ": step ", step, ": a float32 tensor of one element is needed");
  bump_version(step);
  if (step.device() != Device{}) {
    const double t = step.item() + 1;
    fill(step, Array::scalar(t, step.dtype()));
    return t;
  }
  if (step.dtype() == DType::Float64) return *step.data<double>() += 1;
  return double(*step.data<float>() += 1);
}

void check_steps(const char* op, const Arrays& params, const Arrays& steps) {
  check<ValueError>(steps.size() == params.size(), op, ": ", params.size(), " parameters and ", steps.size(), " steps");
}

bool floats_of_cpu(const Arrays& tensors) {
  for (const Array& x : tensors)
    if (!is_floating(x.dtype()) || x.device() != Device{}) return false;
  return true;
}

}  // namespace

void sgd_step(const Arrays& params, const Arrays& grads, const Arrays& buffers, const std::vector<bool>& fresh,
              double lr, double momentum, double dampening, double weight_decay, bool nesterov, bool maximize) {
  Step s("sgd_step", params, grads, {&buffers});
  for (size_t i = 0; i < params.size(); ++i) s.add(i, grads[i], {&buffers}, {i < fresh.size() && fresh[i] ? 1.0 : 0.0});
  s.run(s.kernels().sgd, SgdOptions{lr, momentum, dampening, weight_decay, nesterov, maximize});
}

void adam_step(const Arrays& params, const Arrays& grads, const Arrays& exp_avgs, const Arrays& exp_avg_sqs,
               const Arrays& max_exp_avg_sqs, const Arrays& steps, double lr, double beta1, double beta2, double eps,
               double weight_decay, bool decoupled, bool maximize) {
  Step s("adam_step", params, grads, {&exp_avgs, &exp_avg_sqs, &max_exp_avg_sqs});
  check_steps(s.op, params, steps);
  for (size_t i = 0; i < params.size(); ++i) {
    double t = count_step(s.op, steps[i]);
    s.add(i, grads[i], {&exp_avgs, &exp_avg_sqs, &max_exp_avg_sqs},
          {lr / (1 - std::pow(beta1, t)), 1 / std::sqrt(1 - std::pow(beta2, t))});
  }
  s.run(s.kernels().adam,
        AdamOptions{lr, beta1, beta2, eps, weight_decay, !max_exp_avg_sqs.empty(), decoupled, maximize});
}

void rmsprop_step(const Arrays& params, const Arrays& grads, const Arrays& square_avgs, const Arrays& grad_avgs,
                  const Arrays& buffers, const Arrays& steps, double lr, double alpha, double eps, double weight_decay,
                  double momentum, bool maximize) {
  Step s("rmsprop_step", params, grads, {&square_avgs, &grad_avgs, &buffers});
  check_steps(s.op, params, steps);
  for (size_t i = 0; i < params.size(); ++i) {
    count_step(s.op, steps[i]);
    s.add(i, grads[i], {&square_avgs, &grad_avgs, &buffers}, {});
  }
  s.run(s.kernels().rmsprop, RmspropOptions{lr, alpha, eps, weight_decay, momentum, !grad_avgs.empty(), maximize});
}

void adagrad_step(const Arrays& params, const Arrays& grads, const Arrays& sums, const Arrays& steps, double lr,
                  double lr_decay, double eps, double weight_decay, bool maximize) {
  Step s("adagrad_step", params, grads, {&sums});
  check_steps(s.op, params, steps);
  for (size_t i = 0; i < params.size(); ++i) {
    double t = count_step(s.op, steps[i]);
    s.add(i, grads[i], {&sums}, {lr / (1 + (t - 1) * lr_decay)});
  }
  s.run(s.kernels().adagrad, AdagradOptions{eps, weight_decay, maximize});
}

void adadelta_step(const Arrays& params, const Arrays& grads, const Arrays& square_avgs, const Arrays& acc_deltas,
                   const Arrays& steps, double lr, double rho, double eps, double weight_decay, bool maximize) {
  Step s("adadelta_step", params, grads, {&square_avgs, &acc_deltas});
  check_steps(s.op, params, steps);
  for (size_t i = 0; i < params.size(); ++i) {
    count_step(s.op, steps[i]);
    s.add(i, grads[i], {&square_avgs, &acc_deltas}, {});
  }
  s.run(s.kernels().adadelta, AdadeltaOptions{lr, rho, eps, weight_decay, maximize});
}

void adamax_step(const Arrays& params, const Arrays& grads, const Arrays& exp_avgs, const Arrays& exp_infs,
                 const Arrays& steps, double lr, double beta1, double beta2, double eps, double weight_decay,
                 bool maximize) {
  Step s("adamax_step", params, grads, {&exp_avgs, &exp_infs});
  check_steps(s.op, params, steps);
  for (size_t i = 0; i < params.size(); ++i) {
    double t = count_step(s.op, steps[i]);
    s.add(i, grads[i], {&exp_avgs, &exp_infs}, {lr / (1 - std::pow(beta1, t))});
  }
  s.run(s.kernels().adamax, AdamaxOptions{beta1, beta2, eps, weight_decay, maximize});
}

// mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2) weighs the momentum of step t; mu_products holds their product so far.
void nadam_step(const Arrays& params, const Arrays& grads, const Arrays& exp_avgs, const Arrays& exp_avg_sqs,
                const Arrays& mu_products, const Arrays& steps, double lr, double beta1, double beta2, double eps,
                double weight_decay, double momentum_decay, bool decoupled, bool maximize) {
  Step s("nadam_step", params, grads, {&exp_avgs, &exp_avg_sqs});
  check_steps(s.op, params, steps);
  check_steps(s.op, params, mu_products);
  for (size_t i = 0; i < params.size(); ++i) {
    double t = count_step(s.op, steps[i]);
    double mu = beta1 * (1 - 0.5 * std::pow(0.96, t * momentum_decay));
    double next = beta1 * (1 - 0.5 * std::pow(0.96, (t + 1) * momentum_decay));
    double product = mu_products[i].item() * mu;
    copy(mu_products[i], Array::scalar(product, mu_products[i].dtype()));
    product = mu_products[i].item();
    s.add(i, grads[i], {&exp_avgs, &exp_avg_sqs},
          {lr * (1 - mu) / (1 - product), lr * next / (1 - product * next), 1 / std::sqrt(1 - std::pow(beta2, t))});
  }
  s.run(s.kernels().nadam, NadamOptions{beta1, beta2, eps, weight_decay, lr, decoupled, maximize});
}

void radam_step(const Arrays& params, const Arrays& grads, const Arrays& exp_avgs, const Arrays& exp_avg_sqs,
                const Arrays& steps, double lr, double beta1, double beta2, double eps, double weight_decay,
                bool decoupled, bool maximize) {
  Step s("radam_step", params, grads, {&exp_avgs, &exp_avg_sqs});
  check_steps(s.op, params, steps);
  double rho_inf = 2 / (1 - beta2) - 1;
  for (size_t i = 0; i < params.size(); ++i) {
    double t = count_step(s.op, steps[i]), power = std::pow(beta2, t);
    double rho = rho_inf - 2 * t * power / (1 - power), rectified = 0;
    if (rho > 5)
      rectified =
          std::sqrt(1 - power) * std::sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho));
    s.add(i, grads[i], {&exp_avgs, &exp_avg_sqs}, {lr / (1 - std::pow(beta1, t)), rectified});
  }
  s.run(s.kernels().radam, RadamOptions{beta1, beta2, eps, weight_decay, lr, decoupled, maximize});
}

void rprop_step(const Arrays& params, const Arrays& grads, const Arrays& previous, const Arrays& step_sizes,
                const Arrays& steps, double eta_minus, double eta_plus, double step_min, double step_max,
                bool maximize) {
  Step s("rprop_step", params, grads, {&previous, &step_sizes});
  check_steps(s.op, params, steps);
  for (size_t i = 0; i < params.size(); ++i) {
    count_step(s.op, steps[i]);
    s.add(i, grads[i], {&previous, &step_sizes}, {});
  }
  s.run(s.kernels().rprop, RpropOptions{eta_minus, eta_plus, step_min, step_max, maximize});
}

// The Euclidean norm of all tensors as if they were one vector, in the first one's dtype; nothing unless all are floats
// of the CPU.
std::optional<Array> total_norm(const Arrays& tensors) {
  if (!floats_of_cpu(tensors)) return std::nullopt;
  std::vector<OptimizerSlice> slices;
  Arrays held;
  for (const Array& x : tensors) {
    held.push_back(x.contiguous());
    cut({nullptr, held.back().bytes(), {}, x.numel(), x.dtype(), {}}, &slices);
  }
  const double sum = optimizer_kernels({}).square_sum(slices.data(), int64_t(slices.size()));
  return Array::scalar(std::sqrt(sum), tensors.empty() ? DType::Float32 : tensors[0].dtype());
}

// Multiplies all tensors by a factor in place; false, and nothing done, unless all are dense floats of the CPU that
// share no memory.
bool scale_all(const Arrays& tensors, double factor) {
  if (!floats_of_cpu(tensors)) return false;
  std::vector<OptimizerSlice> slices;
  std::vector<std::pair<const char*, const char*>> ranges;
  for (const Array& x : tensors) {
    if (!x.is_contiguous()) return false;
    ranges.emplace_back(x.bytes(), x.bytes() + x.numel() * item_size(x.dtype()));
    cut({x.bytes(), nullptr, {}, x.numel(), x.dtype(), {}}, &slices);
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i)
    if (ranges[i].first < ranges[i - 1].second) return false;
  optimizer_kernels({}).scale(slices.data(), int64_t(slices.size()), factor);
  for (const Array& x : tensors) bump_version(x);
  return true;
}

void bind_optimizer(pybind11::module_& m) {
  python::def<&sgd_step>(m, "sgd_step",
                         {"params", "grads", "momentum_buffers", "fresh", "lr", "momentum", "dampening", "weight_decay",
                          "nesterov", "maximize"});
  python::def<&adam_step>(m, "adam_step",
                          {"params", "grads", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs", "steps", "lr", "beta1",
                           "beta2", "eps", "weight_decay", "decoupled", "maximize"});
  python::def<&rmsprop_step>(m, "rmsprop_step",
                             {"params", "grads", "square_avgs", "grad_avgs", "momentum_buffers", "steps", "lr", "alpha",
                              "eps", "weight_decay", "momentum", "maximize"});
  python::def<&adagrad_step>(m, "adagrad_step",
                             {"params", "grads", "sums", "steps", "lr", "lr_decay", "eps", "weight_decay", "maximize"});
  python::def<&adadelta_step>(
      m, "adadelta_step",
      {"params", "grads", "square_avgs", "acc_deltas", "steps", "lr", "rho", "eps", "weight_decay", "maximize"});
  python::def<&adamax_step>(
      m, "adamax_step",
      {"params", "grads", "exp_avgs", "exp_infs", "steps", "lr", "beta1", "beta2", "eps", "weight_decay", "maximize"});
  python::def<&nadam_step>(m, "nadam_step",
                           {"params", "grads", "exp_avgs", "exp_avg_sqs", "mu_products", "steps", "lr", "beta1",
                            "beta2", "eps", "weight_decay", "momentum_decay", "decoupled", "maximize"});
  python::def<&radam_step>(m, "radam_step",
                           {"params", "grads", "exp_avgs", "exp_avg_sqs", "steps", "lr", "beta1", "beta2", "eps",
                            "weight_decay", "decoupled", "maximize"});
  python::def<&rprop_step>(m, "rprop_step",
                           {"params", "grads", "previous", "step_sizes", "steps", "eta_minus", "eta_plus", "step_min",
                            "step_max", "maximize"});
  python::def<&total_norm>(m, "total_norm", {"tensors"});
  python::def<&scale_all>(m, "scale_all", {"tensors", "factor"});
}

}  // namespace gg
