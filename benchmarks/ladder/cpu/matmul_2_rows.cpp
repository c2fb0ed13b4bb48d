// Matmul on the CPU, rung 2: along rows, by vectors. C (M, N) = A (M, K) B (K, N), float32, rows dense; any sizes.
//
// The two inner loops change places: an element of A times a row of B is added to a row of C. All three are read in
// memory order, and the sums of a row are independent, so that the compiler makes vectors of the inner loop.
//   Work       A vector multiply-add (16 of them with AVX-512) needs a vector of B, and C loaded and stored; GCC takes
//              two rows of B at once, and C half as often.
//   Memory     8 bytes for each multiply-add: 4 of B, 2 of C loaded and 2 stored, in place of a line. A row of C stays
//              in the L1, but all of B passes by for every row of C: at N = K = 1024 4 MB, from beyond the L2.
//   Limit now  B: 4 bytes a multiply-add at the bandwidth of the L3.
extern "C" void ladder_matmul(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int m,
                              int n, int k) {
  for (int i = 0; i < m; ++i) {
    float* row = c + i * n;
    for (int j = 0; j < n; ++j) row[j] = 0;
    for (int p = 0; p < k; ++p) {
      const float x = a[i * k + p];
      for (int j = 0; j < n; ++j) row[j] += x * b[p * n + j];
    }
  }
}
