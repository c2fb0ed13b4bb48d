// Products of float32 matrices on AMX, whose unit multiplies tiles of bfloat16 and adds in float32, twenty times as
// fast as fused multiply-adds of vectors.
//
// A float32 is split into three bfloat16s, x = h + m + l exactly, and of the nine products of two such sums six are
// taken: h h, h m, m h, m m, h l and l h. What is left out is below 2^-21 of a product, and 2^-24 on average, of either
// sign.
// (Henry, Tang, Heinecke 2019, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
// Computations".) Infinities and NaNs cannot be split; whoever packs is told of them. Subnormal numbers count as zero.
//
// A tile is 16 rows of 16 words; a word is a pair of bfloat16s. Along the depth of a product, which is cut into blocks
// of 32, a word pairs element n of a block with element n + 16: two vectors make 16 words without a shuffle.
#pragma once
#include "core/kernels.h"
#include "cpu/integers.h"
#include "cpu/matrix.h"
#include "cpu/scratch.h"
#include "cpu/transpose.h"

namespace gg::GG_ISA {
namespace {

constexpr int64_t kSide = 16, kDeep = 32, kTileWords = 256;
constexpr int64_t kSplitWords = 3 * kTileWords;  // h, m and l of a tile

// Split tiles of a matrix: tile (i, p), i counting along rows or columns of the result and p along the depth.
template <class W> struct SplitTiles {
  W* data;
  int64_t row, step;
  W* at(int64_t i, int64_t p) const { return data + i * row + p * step; }
  static constexpr int64_t part = kTileWords, bytes = 64;  // from h to m to l; of a tile's row
  SplitTiles block(int64_t i, int64_t p) const { return {at(i, p), row, step}; }
  operator SplitTiles<const W>() const { return {data, row, step}; }
};

// Whether this process may use the tiles: the operating system was asked when the ISA was chosen.
inline bool has_tiles() { return active_isa() == Isa::Amx; }

#if defined(GG_TILES)

using Words = Packed<uint32_t, 16>::type;
struct Split { Words h, m, l; };

inline Split split(Vec<float> x) {
  const Words h = bit_cast<Words>(x) & 0xffff0000;
  const Vec<float> rest = x - bit_cast<Vec<float>>(h);
  const Words m = (bit_cast<Words>(rest) + 0x8000) & 0xffff0000;
  return {h, m, bit_cast<Words>(rest - bit_cast<Vec<float>>(m))};
}
// The lower halves are zero, but for subnormal numbers.
inline Words pair(Words first, Words second) { return (first >> 16) | (second & 0xffff0000); }
// A row of h at `to`, of m and l `part` words and twice as many behind it.
inline void store_pairs(uint32_t* to, int64_t part, const Split& first, const Split& second) {
  const auto put = [&](int64_t at, Words x) { memcpy(to + at, &x, sizeof x); };
  put(0, pair(first.h, second.h));
  put(part, pair(first.m, second.m));
  put(2 * part, pair(first.l, second.l));
}

// Packs scale * x. Along: the depth runs along the rows of x, and tile i holds rows 16 i to 16 i + 15. Across: it runs
// down the columns, and tile i holds columns. Turned: words are transposed. The left operand is packed along, or across
// and turned; the right one across, or along and turned. Tiles beyond x are filled with zeros up to an even number.
// Whether all elements are finite.
template <bool Across, bool Turned>
bool pack_split(Matrix<const float> x, int64_t rows, int64_t columns, float scale, SplitTiles<uint32_t> to) {
  constexpr int64_t kHigh = Across ? kDeep : kSide, kWide = Across ? kSide : kDeep;
  Vec<float> probe{};
  const auto load_at = [&](int64_t i, int64_t j) {
    const int64_t n = i < rows ? smaller(columns - j, kSide) : 0;
    const Vec<float> v = (n >= kSide ? load(x.at(i, j)) : n > 0 ? load_n(x.at(i, j), n) : Vec<float>{}) * scale;
    probe += v * 0.0f;
    return v;
  };
  for (int64_t i = 0; i < round_up(rows, kDeep); i += kHigh)
    for (int64_t j = 0; j < round_up(columns, kDeep); j += kWide) {
      uint32_t* tile = Across ? to.at(j / kWide, i / kHigh) : to.at(i / kHigh, j / kWide);
      Vec<float> first[kSide], second[kSide];
      for (int64_t r = 0; r < kSide; ++r) {
        first[r] = load_at(i + r, j);
        second[r] = Across ? load_at(i + r + kSide, j) : load_at(i + r, j + kSide);
      }
      if (Turned) transpose_square<float>(first), transpose_square<float>(second);
      for (int64_t r = 0; r < kSide; ++r) store_pairs(tile + r * kSide, kTileWords, split(first[r]), split(second[r]));
    }
  return !any(probe != probe);
}

inline bool all_of(const Scratch<bool>& flags, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    if (!flags[i]) return false;
  return true;
}

// The same for an operand of a product, by strides one of which is 1.
inline bool pack_left(Matrix<const float> a, int64_t rows, int64_t depth, SplitTiles<uint32_t> to) {
  return a.col == 1 ? pack_split<false, false>(a, rows, depth, 1, to)
                    : pack_split<true, true>(a.transposed(), depth, rows, 1, to);
}
inline bool pack_right(Matrix<const float> b, int64_t depth, int64_t columns, SplitTiles<uint32_t> to) {
  return b.col == 1 ? pack_split<true, false>(b, depth, columns, 1, to)
                    : pack_split<false, true>(b.transposed(), columns, depth, 1, to);
}

// The eight tile registers, 16 rows of 64 bytes, for as long as this lives on the thread's stack. The unit takes
// subnormal numbers for zero, and so do the vectors meanwhile: splitting small numbers would cost a hundred times as
// much.
class TileRegisters {
 public:
  TileRegisters() {
    struct {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } c;
    for (int i = 0; i < 8; ++i) c.row_bytes[i] = 64, c.rows[i] = 16;
    asm volatile("ldtilecfg %0" ::"m"(c));
    _mm_setcsr(control_ | 0x8040);
  }
  ~TileRegisters() {
    asm volatile("tilerelease");
    _mm_setcsr(control_);
  }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;

 private:
  const unsigned control_ = _mm_getcsr();
};

template <int T> [[gnu::always_inline]] inline void tile_zero() { asm volatile("tilezero %%tmm%c0" ::"i"(T)); }
template <int T> [[gnu::always_inline]] inline void tile_load(const void* p, int64_t stride) {
  asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(T), "r"(p), "r"(stride) : "memory");
}
template <int T> [[gnu::always_inline]] inline void tile_store(void* p, int64_t stride) {
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(T), "r"(p), "r"(stride) : "memory");
}
template <int To, int A, int B> [[gnu::always_inline]] inline void tile_multiply() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(To), "i"(A), "i"(B));
}

// Registers 0 to 3 as two by two tiles of C, whose rows lie `stride` floats apart.
inline void load_sums(const float* c, int64_t stride) {
  const int64_t bytes = stride * int64_t(sizeof(float));
  tile_load<0>(c, bytes);
  tile_load<1>(c + kSide, bytes);
  tile_load<2>(c + kSide * stride, bytes);
  tile_load<3>(c + kSide * stride + kSide, bytes);
}
inline void store_sums(float* c, int64_t stride) {
  const int64_t bytes = stride * int64_t(sizeof(float));
  tile_store<0>(c, bytes);
  tile_store<1>(c + kSide, bytes);
  tile_store<2>(c + kSide * stride, bytes);
  tile_store<3>(c + kSide * stride + kSide, bytes);
}
inline void clear_sums() {
  tile_zero<0>();
  tile_zero<1>();
  tile_zero<2>();
  tile_zero<3>();
}

// Registers 0 to 3 += two rows of tiles of A times two columns of B, over `blocks` of the depth. From one part of a sum
// to the next only one operand changes, and it is loaded as soon as its last product has begun.
template <class Right> inline void multiply_sums(int64_t blocks, SplitTiles<const uint32_t> a, const Right& b) {
  const uint32_t *a0 = a.data, *a1 = a.data + a.row, *b0 = nullptr, *b1 = nullptr;
  const auto turn_b = [&](int part) {  // multiplies, and has the next part of B then
    tile_multiply<0, 4, 6>();
    tile_multiply<2, 5, 6>();
    tile_load<6>(b0 + part * b.part, b.bytes);
    tile_multiply<1, 4, 7>();
    tile_multiply<3, 5, 7>();
    tile_load<7>(b1 + part * b.part, b.bytes);
  };
  const auto turn_a = [&](int part) {
    tile_multiply<0, 4, 6>();
    tile_multiply<1, 4, 7>();
    tile_load<4>(a0 + part * a.part, 64);
    tile_multiply<2, 5, 6>();
    tile_multiply<3, 5, 7>();
    tile_load<5>(a1 + part * a.part, 64);
  };
  for (int64_t p = 0; p < blocks; ++p, a0 += a.step, a1 += a.step) {
    b0 = b.at(0, p);
    b1 = b.at(1, p);
    tile_load<4>(a0 + 2 * a.part, 64);
    tile_load<6>(b0, b.bytes);
    tile_load<5>(a1 + 2 * a.part, 64);
    tile_load<7>(b1, b.bytes);
    turn_a(0);
    turn_b(2);
    turn_b(1);
    turn_a(1);
    turn_b(0);
    tile_multiply<0, 4, 6>();
    tile_multiply<2, 5, 6>();
    tile_multiply<1, 4, 7>();
    tile_multiply<3, 5, 7>();
  }
}

// C = A B, or C += A B: rows x columns tiles, both even, over `blocks` of the depth. Rows of C lie `stride` floats
// apart.
struct TileProduct {
  int64_t rows, columns, blocks;
  SplitTiles<const uint32_t> a, b;
  float* c;
  int64_t stride;
  bool accumulate;
};

// Products that wait to be computed, step by step, so that a thread can weave them into work of its vector units: the
// matrix unit takes a step's four products of tiles in while the thread goes on.
class TileQueue {
 public:
  void add(const TileProduct& product) {
    queue_[count_++] = product;
    steps_ += product.rows / 2 * (product.columns / 2) * product.blocks * kSteps;
  }
  int64_t steps() const { return steps_; }
  void finish() {
    while (steps_ > 0) step();
    count_ = now_ = 0;
  }

  // Two tiles of A's rows times two of B's columns: one part of A by one of B.
  [[gnu::always_inline]] void step() {
    const TileProduct& x = queue_[now_];
    const auto load_a = [&](int part) {
      tile_load<4>(x.a.at(i_, p_) + part * kTileWords, 64);
      tile_load<5>(x.a.at(i_ + 1, p_) + part * kTileWords, 64);
    };
    const auto load_b = [&](int part) {
      tile_load<6>(x.b.at(j_, p_) + part * kTileWords, 64);
      tile_load<7>(x.b.at(j_ + 1, p_) + part * kTileWords, 64);
    };
    switch (part_++) {
      case 0:
        if (p_ == 0) begin(x);
        load_a(0);
        load_b(2);
        break;
      case 1: load_b(1); break;
      case 2: load_b(0); break;
      case 3: load_a(1); break;
      case 4: load_b(1); break;
      case 5: load_a(2); load_b(0);
    }
    tile_multiply<0, 4, 6>();
    tile_multiply<1, 4, 7>();
    tile_multiply<2, 5, 6>();
    tile_multiply<3, 5, 7>();
    --steps_;
    if (part_ < kSteps) return;
    part_ = 0;
    if (++p_ < x.blocks) return;
    end(x);
    p_ = 0;
    if ((j_ += 2) < x.columns) return;
    j_ = 0;
    if ((i_ += 2) < x.rows) return;
    i_ = 0;
    ++now_;
  }

 private:
  static constexpr int kSteps = 6, kMost = 12;

  float* sums(const TileProduct& x) const { return x.c + i_ * kSide * x.stride + j_ * kSide; }
  void begin(const TileProduct& x) const { x.accumulate ? load_sums(sums(x), x.stride) : clear_sums(); }
  void end(const TileProduct& x) const { store_sums(sums(x), x.stride); }

  TileProduct queue_[kMost];
  int count_ = 0, now_ = 0, part_ = 0;
  int64_t i_ = 0, j_ = 0, p_ = 0, steps_ = 0;
};

// Spreads a queue's steps evenly over `turns` calls.
class Weaver {
 public:
  Weaver(TileQueue& queue, int64_t turns) : queue_(queue), rate_(queue.steps()), turns_(turns) {}
  [[gnu::always_inline]] void turn() {
    for (debt_ += rate_; debt_ >= turns_; debt_ -= turns_) queue_.step();
  }

 private:
  TileQueue& queue_;
  int64_t rate_, turns_, debt_ = 0;
};

#endif

}  // namespace
}  // namespace gg::GG_ISA
