// Optimizer steps: one launch for all parameters, which reads and writes each array once. 16-bit floats compute in
// float32.
//
// Neighbouring slices of a tensor are one piece again, so that the table of pieces is short: it goes to the device
// behind the rule, by a copy that a graph can repeat with a later step's values. A block finds the piece that its part
// of kPart elements lies in by halving.
#include "ops/optimizer/optimizer.h"

#include <vector>

#include "cuda/convert.h"
#include "cuda/launch.h"
#include "cuda/math.h"

#define GG_ISA cuda  // the namespace of the rules
#include "ops/optimizer/optimizer_rules.h"

namespace gg::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kPart = 4096;  // elements of a block: a few packs for each thread

struct Piece {
  OptimizerSlice slice;
  int64_t first_part;
};
template <class Rule> struct alignas(16) Head { Rule rule; };

// Elements [first, end) of a piece, by packs of 16 bytes where its arrays are aligned.
template <class T, int States, class Rule>
__device__ inline void step_part(const Rule& rule, const OptimizerSlice& slice, int64_t first, int64_t end) {
  using C = compute_t<T>;
  T* param = global_pointer(static_cast<T*>(slice.param));
  const T* grad = global_pointer(static_cast<const T*>(slice.grad));
  T* state[3] = {};
  uintptr_t addresses = reinterpret_cast<uintptr_t>(param) | reinterpret_cast<uintptr_t>(grad);
#pragma unroll
  for (int j = 0; j < States; ++j) {
    state[j] = global_pointer(static_cast<T*>(slice.state[j]));
    addresses |= reinterpret_cast<uintptr_t>(state[j]);
  }
  const C k[4] = {C(slice.k[0]), C(slice.k[1]), C(slice.k[2]), C(slice.k[3])};

  auto step = [&]<int N>(int64_t i) {
    C p[N], g[N], s[3][N] = {};
    load_run(param + i, p);
    load_run(grad + i, g);
#pragma unroll
    for (int j = 0; j < States; ++j)
      if (state[j]) load_run(state[j] + i, s[j]);
#pragma unroll
    for (int e = 0; e < N; ++e) rule.step(p[e], g[e], s[0][e], s[1][e], s[2][e], k);
#pragma unroll
    for (int j = 0; j < States; ++j)
      if (state[j]) store_run(state[j] + i, s[j]);
    store_run(param + i, p);
  };
  constexpr int N = kPack<T>;
  const int64_t packed = addresses % 16 == 0 ? first + (end - first) / N * N : first;
  for (int64_t i = first + threadIdx.x * N; i < packed; i += kThreads * N) step.template operator()<N>(i);
  for (int64_t i = packed + threadIdx.x; i < end; i += kThreads) step.template operator()<1>(i);
}

// hot: no spills
template <int States, class Rule>
__global__ void step_kernel(const Head<Rule>* __restrict__ table, int count, int64_t parts) {
  const Piece* pieces = reinterpret_cast<const Piece*>(table + 1);
  const Rule rule = table->rule;
  int low = 0;
  for (int64_t part = blockIdx.x; part < parts; part += gridDim.x) {
    int high = count - 1;  // the last piece that starts at this part or before; not before the last part's
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (pieces[middle].first_part <= part)
        low = middle;
      else
        high = middle - 1;
    }
    const OptimizerSlice& slice = pieces[low].slice;
    const int64_t first = (part - pieces[low].first_part) * kPart;
    const int64_t end = first + kPart < slice.n ? first + kPart : slice.n;
    dispatch_floating(slice.dtype, [&]<class T>() { step_part<T, States>(rule, slice, first, end); });
  }
}

// Whether b goes on where a ends, in every array.
bool continues(const OptimizerSlice& a, const OptimizerSlice& b) {
  const int64_t bytes = a.n * item_size(a.dtype);
  auto follows = [&](const void* x, const void* y) {
    return x ? static_cast<const char*>(x) + bytes == static_cast<const char*>(y) : !y;
  };
  bool ok = a.dtype == b.dtype && follows(a.param, b.param) && follows(a.grad, b.grad);
  for (int j = 0; j < 3; ++j) ok = ok && follows(a.state[j], b.state[j]);
  for (int j = 0; j < 4; ++j) ok = ok && a.k[j] == b.k[j];
  return ok;
}

template <int States, class Rule> void run(const OptimizerSlice* slices, int64_t count, const Rule& rule) {
  std::vector<Piece> pieces;
  for (int64_t i = 0; i < count; ++i) {
    if (!pieces.empty() && continues(pieces.back().slice, slices[i]))
      pieces.back().slice.n += slices[i].n;
    else
      pieces.push_back({slices[i], 0});
  }
  int64_t parts = 0;
  for (Piece& piece : pieces) {
    piece.first_part = parts;
    parts += ceil_div(piece.slice.n, kPart);
  }
  const Head<Rule> head{rule};
  const size_t bytes = sizeof head + pieces.size() * sizeof(Piece);
  std::vector<char> table(bytes);
  memcpy(table.data(), &head, sizeof head);
  memcpy(table.data() + sizeof head, pieces.data(), pieces.size() * sizeof(Piece));
  Scratch<char> on_device(int64_t(table.size()));
  copy_in(on_device, table.data(), bytes);
  launch(step_kernel<States, Rule>, grid_for(parts, 1), kThreads, 0,
         reinterpret_cast<const Head<Rule>*>(on_device.get()), int(pieces.size()), parts);
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

}  // namespace

const OptimizerKernels optimizer_kernels = {sgd,   adam,  rmsprop, adagrad, adadelta, adamax,
                                            nadam, radam, rprop,   nullptr, nullptr};

}  // namespace gg::cuda
