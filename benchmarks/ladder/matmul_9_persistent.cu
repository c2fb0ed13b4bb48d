// Matmul, rung 9, the kernel that ships: csrc/ops/matmul/matmul_sm90.cu. C (M, N) = A (M, K) B (K, N), bfloat16 with
// float32 sums; N and K are multiples of 8, M and N at least 32.
//
// A block for each multiprocessor stays and walks through the tiles. So the producer fills the ring for the next tile
// while the consumers finish this one, and a finished tile leaves by way of shared memory through TMA, in whole rows,
// while the next is multiplied. Tiles are visited in strips of 16 rows of tiles, down each column of a strip.
//   Memory     132 tiles at once, of 128 by 256. In row order at N = 4096 they are 8.25 rows of 16: each slice needs
//              9 128 + 16 256 of A and B. In strips they are 16 by 8.25: 16 128 + 9 256, 17 % less, and what the strip
//              has read of A serves all its columns, so A is read from memory once. At larger N the row order gets
//              worse, and the strips stay.
//   Limit now  The tensor cores, or rather the power they draw. What is left are clusters of blocks that share a copy
//              of B, and the order of the stores: together 6 % in the steps of pranjalssh's fast.cu.
// Also there: all four layouts, batches, alpha and beta, a split k where tiles are few, float32 from three parts.
#include "ops/matmul/matmul_sm90.cu"

namespace gg::cuda {

void ladder_matmul(const bfloat16* a, const bfloat16* b, bfloat16* c, int m, int n, int k) {
  MatmulProblem p{};
  p.m = m, p.n = n, p.k = k;
  p.alpha = 1;
  p.a = a, p.b = b, p.c = c;
  p.a_row = k, p.b_row = p.c_row = n;
  p.a_col = p.b_col = p.c_col = 1;
  check<ValueError>(matmul_sm90(DType::BFloat16, p), "matmul_sm90 does not take ", m, " by ", n, " by ", k);
}

}  // namespace gg::cuda
