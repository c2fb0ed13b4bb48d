// Attention on the CPU, rung 1: three steps, the scores stored. O = softmax(Q K^T / sqrt(64)) V for each head, Q and O
// (heads, L, 64), K and V (heads, S, 64), float32.
//
// As the formula reads: all scores, then softmax of each row (its largest score subtracted first), then the weighted
// sum of values. The loops run along rows, so that the compiler makes vectors of them where it may reorder nothing: not
// of the dot product of a query and a key, whose 64 products are vectors but are added one after the other.
//   Work       2 64 L S multiply-adds and L S exponentials a head.
//   Memory     8 bytes for each multiply-add: 4 in the dot products, which keep their query in registers, and 12 in the
//              sums of values, which load and store the output. L S scores are written, passed by softmax and read: at
//              L = S = 1024 4 MB a head, beyond an L2 of 2 MB.
//   Limit now  64 additions, one number each, for every score; and expf, one score at a time.
#include <math.h>

#include <vector>

constexpr int kD = 64;

extern "C" void ladder_attention(const float* q, const float* k, const float* v, float* o, int heads, int l, int s) {
  std::vector<float> scores(size_t(l) * s);
  for (int h = 0; h < heads; ++h, q += l * kD, k += s * kD, v += s * kD, o += l * kD) {
    for (int i = 0; i < l; ++i)
      for (int j = 0; j < s; ++j) {
        float sum = 0;
        for (int d = 0; d < kD; ++d) sum += q[i * kD + d] * k[j * kD + d];
        scores[size_t(i) * s + j] = sum / 8;  // sqrt(64)
      }
    for (int i = 0; i < l; ++i) {
      float* row = &scores[size_t(i) * s];
      float largest = -HUGE_VALF, sum = 0;
      for (int j = 0; j < s; ++j) largest = fmaxf(largest, row[j]);
      for (int j = 0; j < s; ++j) sum += row[j] = expf(row[j] - largest);
      for (int j = 0; j < s; ++j) row[j] /= sum;
    }
    for (int i = 0; i < l; ++i) {
      float* out = o + i * kD;
      for (int d = 0; d < kD; ++d) out[d] = 0;
      for (int j = 0; j < s; ++j)
        for (int d = 0; d < kD; ++d) out[d] += scores[size_t(i) * s + j] * v[j * kD + d];
    }
  }
}
