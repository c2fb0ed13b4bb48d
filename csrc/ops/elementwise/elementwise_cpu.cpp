// Block evaluation: a loop is walked in blocks that fit the first-level cache; an operand that already lies densely in
// the compute type is used in place, any other is gathered and converted into a block buffer, and results leave the
// same way. An op is thus compiled once per compute type and sees dense blocks only.
#include "ops/elementwise/elementwise.h"

#include "core/parallel.h"
#include "cpu/convert.h"
#include "cpu/math.h"
#include "ops/elementwise/elementwise_ops.h"

namespace gg::GG_ISA {
namespace {

using BlockFunction = void (*)(void* y, const void* const* x, int64_t n, const double* params);

// Bytes between a load and the line that is fetched meanwhile: the hardware's own fetching ends with every page.
constexpr int64_t kAhead = 1024;
template <class C> inline Vec<C> load_ahead(const C* p) {
  __builtin_prefetch(reinterpret_cast<const char*>(p) + kAhead);
  return load(p);
}

template <class Op, class C> void unary_block(void* out, const void* const* in, int64_t n, const double* params) {
  const double p[kMaxParams] = {params[0], params[1], params[2]};  // a copy that stores to y cannot change
  const C* x = static_cast<const C*>(in[0]);
  C* y = static_cast<C*>(out);
  int64_t i = 0;
  for (; i + kLanes<C> <= n; i += kLanes<C>) store(y + i, Op::forward(load_ahead(x + i), p));
  if (i < n) store_n(y + i, Op::forward(load_n(x + i, n - i), p), n - i);
}
template <class Op, class C> void grad_block(void* out, const void* const* in, int64_t n, const double* params) {
  const double p[kMaxParams] = {params[0], params[1], params[2]};
  const C* saved = static_cast<const C*>(in[0]);
  const C* dy = static_cast<const C*>(in[1]);
  C* dx = static_cast<C*>(out);
  int64_t i = 0;
  for (; i + kLanes<C> <= n; i += kLanes<C>) store(dx + i, Op::grad(load_ahead(saved + i), load_ahead(dy + i), p));
  if (i < n) store_n(dx + i, Op::grad(load_n(saved + i, n - i), load_n(dy + i, n - i), p), n - i);
}
template <class Op, class C> void binary_block(void* out, const void* const* in, int64_t n, const double* params) {
  const double p[kMaxParams] = {params[0], params[1], params[2]};
  const C* a = static_cast<const C*>(in[0]);
  const C* b = static_cast<const C*>(in[1]);
  C* y = static_cast<C*>(out);
  int64_t i = 0;
  for (; i + kLanes<C> <= n; i += kLanes<C>) store(y + i, Op::forward(load_ahead(a + i), load_ahead(b + i), p));
  if (i < n) store_n(y + i, Op::forward(load_n(a + i, n - i), load_n(b + i, n - i), p), n - i);
}
template <class Op, class C> void ternary_block(void* out, const void* const* in, int64_t n, const double* params) {
  const double p[kMaxParams] = {params[0], params[1], params[2]};
  const C* a = static_cast<const C*>(in[0]);
  const C* b = static_cast<const C*>(in[1]);
  const C* c = static_cast<const C*>(in[2]);
  C* y = static_cast<C*>(out);
  int64_t i = 0;
  for (; i + kLanes<C> <= n; i += kLanes<C>)
    store(y + i, Op::forward(load_ahead(a + i), load_ahead(b + i), load_ahead(c + i), p));
  if (i < n) store_n(y + i, Op::forward(load_n(a + i, n - i), load_n(b + i, n - i), load_n(c + i, n - i), p), n - i);
}

// An op's block functions, one per compute type that its kind allows.
struct Blocks {
  BlockFunction single = nullptr, real = nullptr, whole = nullptr;
  int64_t piece_bytes = 0;  // of the compute type that are worth a piece of their own

  BlockFunction of(DType compute) const {
    return compute == DType::Float32 ? single : compute == DType::Float64 ? real : whole;
  }
};
constexpr bool takes_floats(Kind k) { return k != Kind::Integral && k != Kind::Whole; }
constexpr bool takes_wholes(Kind k) { return k != Kind::Math && k != Kind::Floating; }
// A piece lasts a few microseconds: about one is what a second thread costs, and five if it has to be woken.
constexpr int64_t kMovedBytes = int64_t(256) << 10, kComputedBytes = int64_t(64) << 10;
constexpr int64_t piece_bytes_of(Kind k) {
  return k == Kind::Math || k == Kind::Floating ? kComputedBytes : kMovedBytes;
}

template <class Op, Kind kind> constexpr Blocks unary_blocks() {
  Blocks b;
  b.piece_bytes = piece_bytes_of(kind);
  if constexpr (takes_floats(kind)) b.single = unary_block<Op, float>, b.real = unary_block<Op, double>;
  if constexpr (takes_wholes(kind)) b.whole = unary_block<Op, int64_t>;
  return b;
}
template <class Op, Kind kind, bool has_grad> constexpr Blocks grad_blocks() {
  Blocks b;
  b.piece_bytes = piece_bytes_of(kind);
  if constexpr (has_grad) b.single = grad_block<Op, float>, b.real = grad_block<Op, double>;
  return b;
}
template <class Op, Kind kind> constexpr Blocks binary_blocks() {
  Blocks b;
  b.piece_bytes = piece_bytes_of(kind);
  if constexpr (takes_floats(kind)) b.single = binary_block<Op, float>, b.real = binary_block<Op, double>;
  if constexpr (takes_wholes(kind)) b.whole = binary_block<Op, int64_t>;
  return b;
}
template <class Op, Kind kind> constexpr Blocks ternary_blocks() {
  Blocks b;
  b.piece_bytes = piece_bytes_of(kind);
  if constexpr (takes_floats(kind)) b.single = ternary_block<Op, float>, b.real = ternary_block<Op, double>;
  if constexpr (takes_wholes(kind)) b.whole = ternary_block<Op, int64_t>;
  return b;
}

#define GG_UNARY(Name, name, kind, ...) unary_blocks<Name, Kind::kind>(),
#define GG_GRAD(Name, name, kind, has_grad, ...) grad_blocks<Name, Kind::kind, has_grad>(),
#define GG_BINARY(Name, name, kind, ...) binary_blocks<Name, Kind::kind>(),
#define GG_TERNARY(Name, name, kind, ...) ternary_blocks<Name, Kind::kind>(),
constexpr Blocks kUnary[] = {GG_UNARY_OPS(GG_UNARY)};
constexpr Blocks kGrad[] = {GG_UNARY_OPS(GG_GRAD)};
constexpr Blocks kBinary[] = {GG_BINARY_OPS(GG_BINARY)};
constexpr Blocks kTernary[] = {GG_TERNARY_OPS(GG_TERNARY)};

constexpr int64_t kBlockBytes = 4096;  // four of them leave room in a first-level cache of 32 KB
constexpr int64_t kLongRow = 256;      // elements along the innermost axis above which blocks keep to one row
// A result of more bytes than this goes past the caches: measured, a plain store costs 1.7 times as much there.
constexpr int64_t kStreamBytes = int64_t(32) << 20;

// One loop over N operands, computed in C.
template <int N, class C> class Walk {
 public:
  Walk(const Loop<N>& loop, BlockFunction block, const double* params) : loop_(loop), block_(block), params_(params) {
    all_dense_ = true;
    for (int k = 0; k < N; ++k) {
      item_[k] = item_size(loop.dtype[k]);
      same_[k] = loop.dtype[k] == dtype_of<C>::value;
      flat_[k] = true;
      constant_[k] = periodic_[k] = k > 0;
      int64_t expected = item_[k];
      for (int d = loop.ndim - 1; d >= 0; --d) {
        flat_[k] &= loop.shape[d] == 1 || loop.stride[k][d] == expected;
        constant_[k] &= loop.stride[k][d] == 0;
        periodic_[k] &= d == loop.ndim - 1 || loop.stride[k][d] == 0;
        expected *= loop.shape[d];
      }
      dense_[k] = flat_[k] && same_[k];
      all_dense_ &= dense_[k];
      needs_rows_ |= !flat_[k] && !constant_[k];
    }
    inner_ = loop.shape[loop.ndim - 1];
    streams_ = dense_[0] && loop.numel * int64_t(sizeof(C)) >= kStreamBytes && uintptr_t(loop.data[0]) % 64 == 0;
    for (int k = 1; k < N; ++k)
      streams_ &= loop.data[k] != loop.data[0];  // in place the lines are in the cache already
  }

  void run(int64_t begin, int64_t end) const {
    if (loop_.ndim > 1 && needs_rows_ && inner_ >= kLongRow)
      rows(begin, end);
    else
      blocks(begin, end);
  }

 private:
  static constexpr int64_t kBlock = kBlockBytes / int64_t(sizeof(C));

  // Blocks of consecutive elements, across rows; what is not dense is gathered.
  void blocks(int64_t begin, int64_t end) const {
    if (all_dense_ && !streams_) {
      const void* in[N - 1];
      for (int k = 1; k < N; ++k) in[k - 1] = loop_.data[k] + begin * int64_t(sizeof(C));
      return block_(loop_.data[0] + begin * int64_t(sizeof(C)), in, end - begin, params_);
    }
    alignas(64) char buffer[N][kBlockBytes];
    int64_t filled[N] = {};  // elements of a repeating operand that its buffer holds already
    const int64_t size = loop_.ndim > 1 && inner_ < kBlock ? kBlock / inner_ * inner_ : kBlock;
    for (int64_t i = begin; i < end; i += size) {
      const int64_t n = end - i < size ? end - i : size;
      const void* in[N - 1];
      for (int k = 1; k < N; ++k) {
        if (dense_[k]) {
          in[k - 1] = loop_.data[k] + i * int64_t(sizeof(C));
          continue;
        }
        in[k - 1] = buffer[k];
        if (flat_[k]) {
          load_block(loop_.dtype[k], loop_.data[k] + i * item_[k], item_[k], reinterpret_cast<C*>(buffer[k]), n);
          continue;
        }
        if (filled[k] >= n) continue;
        gather_block(loop_.dtype[k], loop_.data[k], loop_.ndim, loop_.shape, loop_.stride[k], i,
                     reinterpret_cast<C*>(buffer[k]), n);
        const bool repeats = constant_[k] || (periodic_[k] && loop_.ndim > 1 && size % inner_ == 0);
        if (repeats) filled[k] = n;
      }
      char* y = loop_.data[0] + i * item_[0];
      if (streams_ && n == kBlock) {
        block_(buffer[0], in, n, params_);
        stream(y, buffer[0], kBlockBytes);
      } else if (dense_[0]) {
        block_(y, in, n, params_);
      } else if (flat_[0]) {
        block_(buffer[0], in, n, params_);
        store_block(loop_.dtype[0], y, item_[0], reinterpret_cast<const C*>(buffer[0]), n);
      } else {
        block_(buffer[0], in, n, params_);
        scatter_block(loop_.dtype[0], loop_.data[0], loop_.ndim, loop_.shape, loop_.stride[0], i,
                      reinterpret_cast<const C*>(buffer[0]), n);
      }
    }
    if (streams_) stream_done();
  }

  // Blocks within one row of the innermost axis: an operand that is dense along it needs no copy.
  void rows(int64_t begin, int64_t end) const {
    alignas(64) char buffer[N][kBlockBytes];
    const int last = loop_.ndim - 1;
    for (int64_t i = begin; i < end;) {
      int64_t position = i % inner_, row = i / inner_, offset[N] = {};
      for (int d = last - 1; d >= 0; --d) {
        for (int k = 0; k < N; ++k) offset[k] += row % loop_.shape[d] * loop_.stride[k][d];
        row /= loop_.shape[d];
      }
      int64_t filled[N] = {};
      const int64_t stop = end - i < inner_ - position ? end : i + inner_ - position;
      for (; i < stop; i += kBlock, position += kBlock) {
        const int64_t n = stop - i < kBlock ? stop - i : kBlock;
        const void* in[N - 1];
        for (int k = 1; k < N; ++k) {
          const int64_t stride = loop_.stride[k][last];
          const char* p = loop_.data[k] + offset[k] + position * stride;
          if (same_[k] && stride == int64_t(sizeof(C))) {
            in[k - 1] = p;
            continue;
          }
          in[k - 1] = buffer[k];
          if (filled[k] >= n) continue;
          load_block(loop_.dtype[k], p, stride, reinterpret_cast<C*>(buffer[k]), n);
          if (stride == 0) filled[k] = n;
        }
        const int64_t stride = loop_.stride[0][last];
        char* y = loop_.data[0] + offset[0] + position * stride;
        if (same_[0] && stride == int64_t(sizeof(C))) {
          block_(y, in, n, params_);
        } else {
          block_(buffer[0], in, n, params_);
          store_block(loop_.dtype[0], y, stride, reinterpret_cast<const C*>(buffer[0]), n);
        }
      }
      i = stop;
    }
  }

  const Loop<N>& loop_;
  BlockFunction block_;
  const double* params_;
  int64_t inner_;
  int64_t item_[N];
  // same_: of the compute type. flat_: one run of memory; dense_: both. constant_: one element. periodic_: repeats by
  // row.
  bool same_[N], flat_[N], dense_[N], constant_[N], periodic_[N], all_dense_, streams_, needs_rows_ = false;
};

// The length of pieces of at most `most` elements. While they are few there are 2, 4, 8 or 16, equal up to a cache line
// of bytes, so that two or four threads end together.
int64_t piece_length(int64_t n, int64_t most) {
  int64_t pieces = 1;
  while (pieces * most < n && pieces < 16) pieces *= 2;
  if (pieces * most < n) return most;
  return ((n + pieces - 1) / pieces + 63) / 64 * 64;
}

template <int N> void evaluate(const Blocks& blocks, DType compute, const Loop<N>& loop, const double* params) {
  auto walk = [&]<class C>(const Walk<N, C>& w) {
    parallel_for(loop.numel, piece_length(loop.numel, blocks.piece_bytes / int64_t(sizeof(C))),
                 [&](int64_t begin, int64_t end) { w.run(begin, end); });
  };
  BlockFunction block = blocks.of(compute);
  if (compute == DType::Float32) return walk(Walk<N, float>(loop, block, params));
  if (compute == DType::Float64) return walk(Walk<N, double>(loop, block, params));
  return walk(Walk<N, int64_t>(loop, block, params));
}

// Blocks of an op in its operands' own type. Taken where int64 would give the same: sums and products agree modulo
// 2^bits, comparisons and bits as they are. A bool is a uint8 that is 0 or 1, for which + is "or" and * is "and".

template <> struct int_of<uint8_t> { using type = int8_t; };
template <> struct lane_of<Vec<uint8_t>> { using type = uint8_t; };
template <> struct lane_of<Vec<int32_t>> { using type = int32_t; };

template <class T> Vec<T> load_own(const void* p, int64_t i) {
  Vec<T> v;
  memcpy(&v, static_cast<const T*>(p) + i, sizeof v);
  return v;
}
template <class T> Vec<T> load_own_n(const void* p, int64_t i, int64_t n) {
  Vec<T> v{};
  memcpy(&v, static_cast<const T*>(p) + i, size_t(n) * sizeof(T));
  return v;
}
template <class Y, class T> void store_own(void* p, int64_t i, Vec<T> v, int64_t n = kLanes<T>) {
  auto y = __builtin_convertvector(v, typename Packed<Y, kLanes<T>>::type);
  memcpy(static_cast<Y*>(p) + i, &y, size_t(n) * sizeof(Y));
}

// T's op with results stored as Y: T, or uint8_t for a bool.
template <class Op, class T, class Y = T>
void unary_own(void* y, const void* const* in, int64_t n, const double* params) {
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) store_own<Y, T>(y, i, Op::forward(load_own<T>(in[0], i), params));
  if (i < n) store_own<Y, T>(y, i, Op::forward(load_own_n<T>(in[0], i, n - i), params), n - i);
}
template <class Op, class T, class Y = T>
void binary_own(void* y, const void* const* in, int64_t n, const double* params) {
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>)
    store_own<Y, T>(y, i, Op::forward(load_own<T>(in[0], i), load_own<T>(in[1], i), params));
  if (i < n)
    store_own<Y, T>(y, i, Op::forward(load_own_n<T>(in[0], i, n - i), load_own_n<T>(in[1], i, n - i), params), n - i);
}
// The values are moved, so their size is all that counts of their type.
template <class U> void where_own(void* y_, const void* const* in, int64_t n, const double*) {
  const uint8_t* condition = static_cast<const uint8_t*>(in[0]);
  const U* a = static_cast<const U*>(in[1]);
  const U* b = static_cast<const U*>(in[2]);
  U* y = static_cast<U*>(y_);
  for (int64_t i = 0; i < n; ++i) {
    const U x = a[i], z = b[i];
    y[i] = condition[i] ? x : z;
  }
}

template <class T> BlockFunction unary_own_of(Unary op) {
  switch (op) {
    case Unary::Neg: return unary_own<Neg, T>;
    case Unary::Relu: return unary_own<Relu, T>;
    case Unary::BitwiseNot: return unary_own<BitwiseNot, T>;
    case Unary::LogicalNot: return unary_own<LogicalNot, T, uint8_t>;
    default: return nullptr;
  }
}
template <class T> BlockFunction binary_own_of(Binary op) {
  switch (op) {
    case Binary::Add: return binary_own<Add, T>;
    case Binary::Sub: return binary_own<Sub, T>;
    case Binary::Mul: return binary_own<Mul, T>;
    case Binary::Maximum: return binary_own<Maximum, T>;
    case Binary::Minimum: return binary_own<Minimum, T>;
    case Binary::BitwiseAnd: return binary_own<BitwiseAnd, T>;
    case Binary::BitwiseOr: return binary_own<BitwiseOr, T>;
    case Binary::BitwiseXor: return binary_own<BitwiseXor, T>;
    case Binary::Eq: return binary_own<Eq, T, uint8_t>;
    case Binary::Ne: return binary_own<Ne, T, uint8_t>;
    case Binary::Lt: return binary_own<Lt, T, uint8_t>;
    case Binary::Le: return binary_own<Le, T, uint8_t>;
    case Binary::Gt: return binary_own<Gt, T, uint8_t>;
    case Binary::Ge: return binary_own<Ge, T, uint8_t>;
    case Binary::LogicalAnd: return binary_own<LogicalAnd, T, uint8_t>;
    case Binary::LogicalOr: return binary_own<LogicalOr, T, uint8_t>;
    case Binary::LogicalXor: return binary_own<LogicalXor, T, uint8_t>;
    default: return nullptr;
  }
}
BlockFunction where_own_of(DType t) {
  BlockFunction block = nullptr;
  dispatch_size(int(item_size(t)), [&]<class U>() { block = where_own<U>; });
  return block;
}

// The first operand that is more than one element gives the dtype.
template <int N> DType own_dtype(const Loop<N>& loop) {
  for (int k = 1; k < N; ++k)
    if (loop.stride[k][0] != 0) return loop.dtype[k];
  return loop.dtype[1];
}

// A block buffer full of one element, converted to t as everywhere by way of C; false if t cannot hold it.
template <class C> bool repeat(DType from, const char* p, DType t, char* buffer) {
  C value, held;
  load_block(from, p, 0, &value, 1);
  store_block(t, buffer, item_size(t), &value, 1);
  load_block(t, buffer, 0, &held, 1);
  for (int64_t filled = item_size(t); filled < kBlockBytes; filled *= 2)
    memcpy(buffer + filled, buffer, size_t(filled));
  return dtype_of<C>::value != DType::Int64 || held == value;
}

// Runs the block if each operand is dense and of the wanted dtype, or one element that fits it.
template <int N>
bool evaluate_own(BlockFunction block, DType compute, const Loop<N>& loop, const DType (&wanted)[N],
                  const double* params) {
  if (!block || loop.ndim != 1) return false;
  alignas(64) char repeated[N][kBlockBytes];
  bool constant[N] = {}, blockwise = false;
  int64_t item[N], widest = 1;
  for (int k = 0; k < N; ++k) {
    item[k] = item_size(wanted[k]);
    if (item[k] > widest) widest = item[k];
    constant[k] = k > 0 && loop.stride[k][0] == 0;
    blockwise |= constant[k];
    if (!constant[k] && (loop.stride[k][0] != item[k] || loop.dtype[k] != wanted[k])) return false;
  }
  for (int k = 1; k < N; ++k) {
    if (!constant[k]) continue;
    const bool fits = compute == DType::Float32 ? repeat<float>(loop.dtype[k], loop.data[k], wanted[k], repeated[k])
                      : compute == DType::Float64
                          ? repeat<double>(loop.dtype[k], loop.data[k], wanted[k], repeated[k])
                          : repeat<int64_t>(loop.dtype[k], loop.data[k], wanted[k], repeated[k]);
    if (!fits) return false;
  }
  parallel_for(loop.numel, piece_length(loop.numel, kMovedBytes / widest), [&](int64_t begin, int64_t end) {
    const int64_t size = blockwise ? kBlockBytes / widest : end - begin;
    for (int64_t i = begin; i < end; i += size) {
      const void* in[N - 1];
      for (int k = 1; k < N; ++k) in[k - 1] = constant[k] ? repeated[k] : loop.data[k] + i * item[k];
      block(loop.data[0] + i * item[0], in, end - i < size ? end - i : size, params);
    }
  });
  return true;
}

bool unary_in_own(Unary op, DType compute, const Loop<2>& loop, const double* params) {
  if (compute != DType::Int64) return false;
  const DType t = own_dtype(loop), wanted[] = {op == Unary::LogicalNot ? DType::Bool : t, t};
  BlockFunction block = t == DType::Int32                             ? unary_own_of<int32_t>(op)
                        : t == DType::UInt8                           ? unary_own_of<uint8_t>(op)
                        : t == DType::Bool && op == Unary::LogicalNot ? unary_own_of<uint8_t>(op)
                                                                      : nullptr;
  return evaluate_own(block, compute, loop, wanted, params);
}
bool binary_in_own(Binary op, DType compute, const Loop<3>& loop, const double* params) {
  if (compute != DType::Int64) return false;
  const DType t = own_dtype(loop);
  const bool asks = op >= Binary::Eq && op <= Binary::LogicalXor;
  const DType wanted[] = {asks ? DType::Bool : t, t, t};
  if (t == DType::Bool) op = op == Binary::Add ? Binary::BitwiseOr : op == Binary::Mul ? Binary::BitwiseAnd : op;
  BlockFunction block = t == DType::Int32                       ? binary_own_of<int32_t>(op)
                        : t == DType::UInt8 || t == DType::Bool ? binary_own_of<uint8_t>(op)
                                                                : nullptr;
  return evaluate_own(block, compute, loop, wanted, params);
}
bool ternary_in_own(Ternary op, DType compute, const Loop<4>& loop, const double* params) {
  if (op != Ternary::Where) return false;
  const DType t = loop.dtype[0], wanted[] = {t, DType::Bool, t, t};
  return evaluate_own(where_own_of(t), compute, loop, wanted, params);
}

void unary(Unary op, DType compute, const Loop<2>& loop, const double* params) {
  if (!unary_in_own(op, compute, loop, params)) evaluate(kUnary[int(op)], compute, loop, params);
}
void unary_backward(Unary op, DType compute, const Loop<3>& loop, const double* params) {
  evaluate(kGrad[int(op)], compute, loop, params);
}
void binary(Binary op, DType compute, const Loop<3>& loop, unsigned, const double* params) {
  if (!binary_in_own(op, compute, loop, params)) evaluate(kBinary[int(op)], compute, loop, params);
}
void ternary(Ternary op, DType compute, const Loop<4>& loop, unsigned, const double* params) {
  if (!ternary_in_own(op, compute, loop, params)) evaluate(kTernary[int(op)], compute, loop, params);
}

bool has_zero(const Loop<1>& loop) {
  int64_t buffer[kBlockBytes / sizeof(int64_t)];
  constexpr int64_t size = kBlockBytes / int64_t(sizeof(int64_t));
  for (int64_t i = 0; i < loop.numel; i += size) {
    const int64_t n = loop.numel - i < size ? loop.numel - i : size;
    gather_block(loop.dtype[0], loop.data[0], loop.ndim, loop.shape, loop.stride[0], i, buffer, n);
    bool found = false;
    for (int64_t j = 0; j < n; ++j) found |= buffer[j] == 0;
    if (found) return true;
  }
  return false;
}

}  // namespace

const ElementwiseKernels elementwise_kernels = {unary, unary_backward, binary, ternary, has_zero};

}  // namespace gg::GG_ISA
