// Matmul on the CPU, rung 1: three loops. C (M, N) = A (M, K) B (K, N), float32, rows dense; any sizes.
//
// As the formula reads: an element of C is the product of a row of A and a column of B.
//   Work       2 M N K floating-point operations, one multiply-add at a time, each waiting four cycles for the one
//              before: the sum is one chain, which the compiler may not reorder.
//   Memory     8 bytes for each multiply-add. The column of B strides over rows: each element fetches a cache line of
//              64 bytes and uses 4. At N = 1024 the lines of a column lie 4096 bytes apart, so that an L1 of 48 KB has
//              12 places for them and an L2 of 2 MB has 512, for 1024 lines: none is still there for the next column.
//   Limit now  Those lines, each from the L3.
extern "C" void ladder_matmul(const float* a, const float* b, float* c, int m, int n, int k) {
  for (int i = 0; i < m; ++i)
    for (int j = 0; j < n; ++j) {
      float sum = 0;
      for (int p = 0; p < k; ++p) sum += a[i * k + p] * b[p * n + j];
      c[i * n + j] = sum;
    }
}
