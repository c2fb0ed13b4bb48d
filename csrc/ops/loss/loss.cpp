// Fronts of the pointwise losses and of CTC: checks, shapes, device switch.
#include "ops/loss/loss.h"

#include <string>
#include <utility>
#include <vector>

#include "core/check.h"
#include "python/bind.h"

namespace gg {
namespace {

constexpr const char* kPointwiseName[kPointwiseLosses] = {"mse_loss",
                                                          "l1_loss",
                                                          "smooth_l1_loss",
                                                          "huber_loss",
                                                          "binary_cross_entropy",
                                                          "binary_cross_entropy_with_logits",
                                                          "soft_margin_loss",
                                                          "kl_div",
                                                          "kl_div_log",
                                                          "poisson_nll_loss"};

PointwiseLoss pointwise_kind(const std::string& name) {
  for (int i = 0; i < kPointwiseLosses; ++i)
    if (name == kPointwiseName[i]) return PointwiseLoss(i);
  throw ValueError("pointwise loss: '" + name + "' is not one");
}

double mean_factor(const std::string& reduction, int64_t n) { return reduction == "mean" ? 1.0 / double(n) : 1.0; }

}  // namespace

void check_loss_shapes(const std::string& op, const Array& input, const Array& target) {
  check<ShapeError>(input.shape() == target.shape(), op, ": input ", input, " and target ", target,
                    ": shapes differ, and a loss does not broadcast; a target of shape ", input.shape(), " would fit");
}

// 0-d, or x's shape where reduction is "none". Both operands have one floating dtype.
Array pointwise_loss_forward(const std::string& name, const Array& x, const Array& target, double parameter,
                             const std::string& reduction) {
  PointwiseLoss kind = pointwise_kind(name);
  check_loss_shapes(name, x, target);
  check_floating(name.c_str(), "input", x);
  check_same_dtype(name.c_str(), "input", x, "target", target);
  check_same_device(name.c_str(), x, target);
  const LossKernels& kernels = loss_kernels(x.device());
  Array xd = x.contiguous(), td = target.contiguous();
  if (kind == PointwiseLoss::Bce)
    check<ValueError>(kernels.within(x.dtype(), xd.bytes(), x.numel(), 0, 1) &&
                          kernels.within(x.dtype(), td.bytes(), x.numel(), 0, 1),
                      name, ": input ", x, " and target ", target,
                      ": probabilities in [0, 1] are needed; binary_cross_entropy_with_logits takes any input");
  bool reduce = reduction != "none";
  Array out = Array::empty(reduce ? Dims{} : x.shape(), x.dtype(), x.device());
  if (out.numel())
    kernels.pointwise_forward(kind, x.dtype(), xd.bytes(), td.bytes(), out.bytes(), x.numel(), parameter, reduce,
                              mean_factor(reduction, x.numel()));
  return out;
}

// dx and, where symmetric (a loss of x - target), the target's gradient.
std::vector<Array> pointwise_loss_backward(const std::string& name, const Array& dy, const Array& x,
                                           const Array& target, double parameter, const std::string& reduction,
                                           bool need_dx, bool need_dtarget) {
  bool per_element = reduction == "none";
  check_same_device(name.c_str(), x, dy);
  check_same_device(name.c_str(), x, target);
  Array xd = x.contiguous(), td = target.contiguous(), dyd = dy.to(x.dtype()).contiguous();
  Array dx, dt;
  if (need_dx) dx = Array::empty(x.shape(), x.dtype(), x.device());
  if (need_dtarget) dt = Array::empty(x.shape(), x.dtype(), x.device());
  if (x.numel())
    loss_kernels(x.device())
        .pointwise_backward(pointwise_kind(name), x.dtype(), dyd.bytes(), xd.bytes(), td.bytes(),
                            need_dx ? dx.bytes() : nullptr, need_dtarget ? dt.bytes() : nullptr, x.numel(), parameter,
                            per_element, mean_factor(reduction, x.numel()));
  std::vector<Array> wanted;
  if (need_dx) wanted.push_back(dx);
  if (need_dtarget) wanted.push_back(dt);
  return wanted;
}

namespace {

// Dense operands of a CTC loss; labels are (N, S) padded, or all of them in one row.
struct CtcOperands {
  Array log_probs, labels, lengths;
  CtcArgs args{};

  CtcOperands(const Array& log_probs_, const Array& labels_, const std::vector<int64_t>& input_lengths,
              const std::vector<int64_t>& label_lengths, int64_t blank)
      : log_probs(log_probs_.contiguous()), labels(labels_.to(DType::Int64).contiguous()) {
    const int64_t N = int64_t(label_lengths.size());
    lengths = Array::empty({3, N}, DType::Int64);
    int64_t longest = 0, at = 0;
    for (int64_t n = 0; n < N; ++n) {
      int64_t* column = lengths.data<int64_t>() + n;
      column[0] = labels.ndim() == 2 ? n * labels.size(1) : at;
      column[N] = label_lengths[size_t(n)];
      column[2 * N] = input_lengths[size_t(n)];
      at += column[N];
      longest = longest > column[N] ? longest : column[N];
    }
    lengths = lengths.to_device(log_probs.device());
    const int64_t* begin = lengths.data<int64_t>();
    args = {log_probs.bytes(),
            labels.data<int64_t>(),
            begin,
            begin + N,
            begin + 2 * N,
            nullptr,
            log_probs.size(0),
            log_probs.size(1),
            log_probs.size(2),
            2 * longest + 1,
            blank};
  }
};

void check_ctc(const Array& log_probs, const Array& labels, const std::vector<int64_t>& input_lengths,
               const std::vector<int64_t>& label_lengths, int64_t blank) {
  const char* op = "ctc_loss";
  check_floating(op, "log_probs", log_probs);
  check_ndim(op, "log_probs", log_probs, 3);
  check_integral(op, "targets", labels);
  check_same_device(op, log_probs, labels);
  int64_t T = log_probs.size(0), N = log_probs.size(1), C = log_probs.size(2), sum = 0;
  check<ValueError>(blank >= 0 && blank < C, op, ": blank is ", blank, "; log_probs ", log_probs, " has classes 0 to ",
                    C - 1);
  check<ShapeError>(int64_t(input_lengths.size()) == N && int64_t(label_lengths.size()) == N, op, ": log_probs ",
                    log_probs, ", ", input_lengths.size(), " input lengths and ", label_lengths.size(),
                    " target lengths: one of each is needed for each of ", N, " sequences");
  check<ShapeError>(labels.ndim() == 1 || (labels.ndim() == 2 && labels.size(0) == N), op, ": targets ", labels,
                    ": (N, S) with N = ", N, ", or all labels in one row, are needed");
  for (int64_t n = 0; n < N; ++n) {
    check<ValueError>(input_lengths[n] >= 0 && input_lengths[n] <= T, op, ": input length ", input_lengths[n],
                      " of sequence ", n, " is not in 0 to ", T);
    check<ValueError>(label_lengths[n] >= 0 && (labels.ndim() == 1 || label_lengths[n] <= labels.size(1)), op,
                      ": target length ", label_lengths[n], " of sequence ", n, " does not fit targets ", labels);
    sum += label_lengths[n];
  }
  check<ShapeError>(labels.ndim() == 2 || labels.size(0) == sum, op, ": targets ", labels, ": target lengths sum to ",
                    sum);
}

}  // namespace

// The losses (N) and alpha, which backward reads. Half precision is the caller's to widen.
std::pair<Array, Array> ctc_loss_forward(const Array& log_probs, const Array& labels,
                                         const std::vector<int64_t>& input_lengths,
                                         const std::vector<int64_t>& label_lengths, int64_t blank) {
  check_ctc(log_probs, labels, input_lengths, label_lengths, blank);
  const Array listed = labels.to_device({}).to(DType::Int64).contiguous();
  int64_t at = 0;
  for (size_t n = 0; n < label_lengths.size(); ++n) {
    if (listed.ndim() == 2) at = int64_t(n) * listed.size(1);
    for (int64_t i = 0; i < label_lengths[n]; ++i) {
      int64_t label = listed.data<int64_t>()[at++];
      check<IndexError>(label >= 0 && label < log_probs.size(2), "ctc_loss: sequence ", n, " has label ", label,
                        "; log_probs ", log_probs, " has classes 0 to ", log_probs.size(2) - 1);
    }
  }
  CtcOperands o(log_probs, labels, input_lengths, label_lengths, blank);
  Array losses = Array::empty({o.args.N}, log_probs.dtype(), log_probs.device());
  Array alpha = Array::empty({o.args.N, o.args.T, o.args.states}, DType::Float64, log_probs.device());
  o.args.alpha = alpha.data<double>();
  loss_kernels(log_probs.device()).ctc_forward(log_probs.dtype(), o.args, losses.bytes());
  return {losses, alpha};
}

Array ctc_loss_backward(const Array& dy, const Array& log_probs, const Array& labels,
                        const std::vector<int64_t>& input_lengths, const std::vector<int64_t>& label_lengths,
                        int64_t blank, const Array& alpha, bool zero_infinity) {
  check_same_device("ctc_loss_backward", dy, log_probs);
  CtcOperands o(log_probs, labels, input_lengths, label_lengths, blank);
  o.args.alpha = alpha.data<double>();
  Array dx = Array::empty(log_probs.shape(), log_probs.dtype(), log_probs.device());
  Array dy_dense = dy.to(log_probs.dtype()).contiguous();
  if (dx.numel())
    loss_kernels(log_probs.device())
        .ctc_backward(log_probs.dtype(), o.args, dy_dense.bytes(), dx.bytes(), zero_infinity);
  return dx;
}

void bind_loss(pybind11::module_& m) {
  python::def<&check_loss_shapes>(m, "check_loss_shapes", {"op", "input", "target"});
  python::def<&pointwise_loss_forward>(m, "pointwise_loss_forward",
                                       {"name", "input", "target", "parameter", "reduction"});
  python::def<&pointwise_loss_backward>(
      m, "pointwise_loss_backward",
      {"name", "dy", "input", "target", "parameter", "reduction", "need_dx", "need_dtarget"});
  python::def<&ctc_loss_forward>(m, "ctc_loss_forward",
                                 {"log_probs", "targets", "input_lengths", "target_lengths", "blank"});
  python::def<&ctc_loss_backward>(
      m, "ctc_loss_backward",
      {"dy", "log_probs", "targets", "input_lengths", "target_lengths", "blank", "alpha", "zero_infinity"});
}

}  // namespace gg
