#include "simt/tensor_core.h"

#include <string.h>

#include "simt/check.h"
#include "simt/counters.h"
#include "simt/internal.h"

namespace gg::simt {
namespace {

void check_in_shared(const void* p, size_t bytes, const char* what) {
  const Thread& t = *machine.self;
  const size_t at = size_t(static_cast<const char*>(p) - arena_of(t.block));
  if (at + bytes > machine.launch->shared_bytes) fault("%s: %p is not in the block's shared memory", what, p);
  if (at % bytes != 0) fault("%s: offset %zu of shared memory is not a multiple of %zu", what, at, bytes);
}

void start_copy(void* to, const void* from, int bytes, int source_bytes, const void* code) {
  Thread& t = *machine.self;
  check_in_shared(to, size_t(bytes), "copy_async");
  if (reinterpret_cast<uintptr_t>(from) % unsigned(bytes) != 0)
    fault("copy_async: source %p is not a multiple of %d", from, bytes);
  if (source_bytes < 0 || source_bytes > bytes) fault("copy_async: %d source bytes of %d", source_bytes, bytes);
  if (source_bytes > 0) check_access(from, size_t(source_bytes), Access::Read, code, "copy_async");
  begin_async(to, size_t(bytes), code, "copy_async");
  t.copies.push_back({to, from, bytes, source_bytes, t.copy_groups, code});
}

}  // namespace

template <int kBytes> void copy_async(void* to, const void* from, int source_bytes) {
  start_copy(to, from, kBytes, source_bytes, __builtin_return_address(0));
}
template void copy_async<4>(void*, const void*, int);
template void copy_async<8>(void*, const void*, int);
template void copy_async<16>(void*, const void*, int);

void copy_async_commit() { ++machine.self->copy_groups; }

void copy_async_wait_for(int pending) {
  Thread& t = *machine.self;
  auto done = [&](const AsyncCopy& c) { return int64_t(c.group) + pending < int64_t(t.copy_groups); };
  for (const AsyncCopy& c : t.copies) {
    if (!done(c)) continue;
    memset(c.to, 0, size_t(c.bytes));
    memcpy(c.to, c.from, size_t(c.source_bytes));
    end_async(c.to, size_t(c.bytes), c.code);
  }
  std::erase_if(t.copies, done);
}

namespace {

struct Rows {
  const char* row;
  uint32_t r[4];
};

template <int kMatrices, bool kTransposed>
void load_matrices(uint32_t (&r)[kMatrices], const void* row, const void* code, const char* what, Place place) {
  if (lane() < 8 * kMatrices) {
    check_in_shared(row, 16, what);
    check_access(row, 16, Access::Read, code, what);
  }
  Rows mine{static_cast<const char*>(row), {}}, result;
  meet(
      ~0u, &mine, &result, sizeof mine,
      [](unsigned, const char* in, char* out, size_t, void*) {
        auto* rows = reinterpret_cast<const Rows*>(in);
        auto* results = reinterpret_cast<Rows*>(out);
        for (int l = 0; l < kWarp; ++l)
          for (int i = 0; i < kMatrices; ++i) {
            uint16_t pair[2];
            for (int h = 0; h < 2; ++h) {
              const int line = kTransposed ? 2 * (l % 4) + h : l / 4, column = kTransposed ? l / 4 : 2 * (l % 4) + h;
              memcpy(&pair[h], rows[8 * i + line].row + 2 * column, 2);
            }
            memcpy(&results[l].r[i], pair, 4);
          }
      },
      nullptr, what, place);
  memcpy(r, result.r, sizeof r);
}

struct Fragments {
  float d[4];
  uint32_t a[4], b[2];
};

float half_of(uint32_t pair, int h, bool bfloat) {
  const auto bits = uint16_t(pair >> 16 * h);
  if (!bfloat) return half_to_float(bits);
  const uint32_t wide = uint32_t(bits) << 16;
  float x;
  memcpy(&x, &wide, 4);
  return x;
}
float tf32_of(uint32_t bits) {
  bits &= ~uint32_t(0x1fff);
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

// D (16, 8) += A (16, K) B (K, 8), gathered from the fragments of all lanes.
template <int K> void multiply(const float (&a)[16][K], const float (&b)[K][8], const Fragments* in, Fragments* out) {
  counters.tensor_multiply_adds += 16 * 8 * K;
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j) {
      const int l = i % 8 * 4 + j / 2, r = i / 8 * 2 + j % 2;
      double sum = in[l].d[r];
      for (int k = 0; k < K; ++k) sum += double(a[i][k]) * double(b[k][j]);
      out[l].d[r] = float(sum);
    }
}

template <bool kBFloat> void combine_halves(unsigned, const char* in, char* out, size_t, void*) {
  auto* f = reinterpret_cast<const Fragments*>(in);
  float a[16][16], b[16][8];
  for (int l = 0; l < kWarp; ++l)
    for (int h = 0; h < 2; ++h) {
      const int g = l / 4, t = 2 * (l % 4) + h;
      for (int i = 0; i < 4; ++i) a[g + i % 2 * 8][t + i / 2 * 8] = half_of(f[l].a[i], h, kBFloat);
      for (int i = 0; i < 2; ++i) b[t + 8 * i][g] = half_of(f[l].b[i], h, kBFloat);
    }
  multiply(a, b, f, reinterpret_cast<Fragments*>(out));
}

void combine_tf32(unsigned, const char* in, char* out, size_t, void*) {
  auto* f = reinterpret_cast<const Fragments*>(in);
  float a[16][8], b[8][8];
  for (int l = 0; l < kWarp; ++l) {
    const int g = l / 4, t = l % 4;
    for (int i = 0; i < 4; ++i) a[g + i % 2 * 8][t + i / 2 * 4] = tf32_of(f[l].a[i]);
    for (int i = 0; i < 2; ++i) b[t + 4 * i][g] = tf32_of(f[l].b[i]);
  }
  multiply(a, b, f, reinterpret_cast<Fragments*>(out));
}

void multiply_fragments(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Combine combine,
                        const char* what, Place place) {
  Fragments mine, result;
  memcpy(mine.d, d, sizeof d);
  memcpy(mine.a, a, sizeof a);
  memcpy(mine.b, b, sizeof b);
  meet(~0u, &mine, &result, sizeof mine, combine, nullptr, what, place);
  memcpy(d, result.d, sizeof d);
}

}  // namespace

#define GG_LDMATRIX(n)                                                                           \
  void ldmatrix(uint32_t (&r)[n], const void* row, const char* file, int line) {                 \
    load_matrices<n, false>(r, row, __builtin_return_address(0), "ldmatrix", {file, line});      \
  }                                                                                              \
  void ldmatrix_trans(uint32_t (&r)[n], const void* row, const char* file, int line) {           \
    load_matrices<n, true>(r, row, __builtin_return_address(0), "ldmatrix_trans", {file, line}); \
  }
GG_LDMATRIX(1)
GG_LDMATRIX(2)
GG_LDMATRIX(4)
#undef GG_LDMATRIX

template <class T>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const char* file, int line) {
  constexpr bool bfloat = dtype_of<T>::value == DType::BFloat16;
  multiply_fragments(d, a, b, combine_halves<bfloat>, "mma_m16n8k16", {file, line});
}
template void mma_m16n8k16<float16>(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2], const char*, int);
template void mma_m16n8k16<bfloat16>(float (&)[4], const uint32_t (&)[4], const uint32_t (&)[2], const char*, int);

void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const char* file, int line) {
  multiply_fragments(d, a, b, combine_tf32, "mma_m16n8k8_tf32", {file, line});
}

uint32_t to_tf32(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffff) >= 0x7f800000) return bits;
  return (bits + 0x1000) & ~uint32_t(0x1fff);
}

}  // namespace gg::simt
