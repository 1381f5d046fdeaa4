// The one template for all matrix-like work, forward and backward: C = A B with each operand a view of a
// flat on-chip array. What happens inside it decides the hardware's parallelism.
#pragma once

#include "ttfpga_config.hpp"

namespace ttfpga {

/// A row-major matrix of kR rows and kC columns; consecutive rows lie kStride apart.
template <int kR, int kC, int kStride = kC>
struct RowMajor {
  static constexpr int kRows = kR, kCols = kC;
  static constexpr int kRowStride = kStride, kColStride = 1;
};

/// The same memory read as the transposed matrix.
template <class Matrix>
struct Transposed {
  static constexpr int kRows = Matrix::kCols, kCols = Matrix::kRows;
  static constexpr int kRowStride = Matrix::kColStride, kColStride = Matrix::kRowStride;
};

/// Whether a product replaces what its destination holds or is added to it.
enum class Into { kReplace, kAdd };

/// Lanes for n consecutive elements: multiply-accumulators side by side in outer-product mode, independent
/// partial sums in reduction mode. The largest divisor of n up to the lanes of a memory word: no ragged last
/// tile, and one word a cycle from each operand.
constexpr int lanes_for(int n) {
  int lanes = 1;
  for (int d = 2; d <= kWordLanes && d <= n; ++d) lanes = n % d == 0 ? d : lanes;
  return lanes;
}

/// Sum of kN values as a balanced adder tree, in an order that doesn't depend on the compiler.
template <int kN>
float tree_sum(float (&value)[kN]) {
#pragma HLS INLINE
TREE_LEVEL:
  for (int n = kN; n > 1; n = (n + 1) / 2) {
#pragma HLS UNROLL
  TREE_ADD:
    for (int i = 0; i < n / 2; ++i) {
#pragma HLS UNROLL
      value[i] += value[n - 1 - i];
    }
  }
  return value[0];
}

/// B's columns are contiguous: a tile of one row of C stays in accumulators while k runs, A's element is
/// broadcast to all lanes.
template <class A, class B, Into kInto, int kCStride, int kASize, int kBSize, int kCSize>
void contract_outer(const float (&a)[kASize], int a0, const float (&b)[kBSize], int b0, float (&c)[kCSize],
                    int c0) {
  constexpr int kLanes = lanes_for(B::kCols);
OUTER_TILE:
  for (int n0 = 0; n0 < B::kCols; n0 += kLanes) {
  OUTER_ROW:
    for (int m = 0; m < A::kRows; ++m) {
      float sum[kLanes];
#pragma HLS ARRAY_PARTITION variable = sum complete
      const int c_row = c0 + m * kCStride + n0;
    OUTER_START:
      for (int lane = 0; lane < kLanes; ++lane) {
#pragma HLS UNROLL
        sum[lane] = kInto == Into::kAdd ? c[c_row + lane] : 0.0f;
      }
    OUTER_K:
      for (int k = 0; k < A::kCols; ++k) {
#pragma HLS PIPELINE
        const float a_mk = a[a0 + m * A::kRowStride + k * A::kColStride];
      OUTER_LANE:
        for (int lane = 0; lane < kLanes; ++lane) {
#pragma HLS UNROLL
          sum[lane] += a_mk * b[b0 + k * B::kRowStride + n0 + lane];
        }
      }
    OUTER_STORE:
      for (int lane = 0; lane < kLanes; ++lane) {
#pragma HLS UNROLL
        c[c_row + lane] = sum[lane];
      }
    }
  }
}

/// A's rows and B's columns are contiguous along k: independent partial sums hide the adder's latency, an
/// adder tree joins them.
template <class A, class B, Into kInto, int kCStride, int kASize, int kBSize, int kCSize>
void contract_reduce(const float (&a)[kASize], int a0, const float (&b)[kBSize], int b0, float (&c)[kCSize],
                     int c0) {
  constexpr int kPartials = lanes_for(A::kCols);
REDUCE_ROW:
  for (int m = 0; m < A::kRows; ++m) {
  REDUCE_COL:
    for (int n = 0; n < B::kCols; ++n) {
      float partial[kPartials];
#pragma HLS ARRAY_PARTITION variable = partial complete
    REDUCE_START:
      for (int i = 0; i < kPartials; ++i) {
#pragma HLS UNROLL
        partial[i] = 0.0f;
      }
    REDUCE_K:
      for (int k = 0; k < A::kCols; k += kPartials) {
#pragma HLS PIPELINE
      REDUCE_LANE:
        for (int i = 0; i < kPartials; ++i) {
#pragma HLS UNROLL
          partial[i] += a[a0 + m * A::kRowStride + k + i] * b[b0 + n * B::kColStride + k + i];
        }
      }
      const float sum = tree_sum(partial);
      const int at = c0 + m * kCStride + n;
      c[at] = kInto == Into::kAdd ? c[at] + sum : sum;
    }
  }
}

/// Chooses the mode by how B lies in memory, which is known at compile time.
template <class A, class B, Into kInto, int kCStride, bool kColumnsContiguous>
struct Contraction {
  template <int kASize, int kBSize, int kCSize>
  static void run(const float (&a)[kASize], int a0, const float (&b)[kBSize], int b0, float (&c)[kCSize],
                  int c0) {
    contract_outer<A, B, kInto, kCStride>(a, a0, b, b0, c, c0);
  }
};

template <class A, class B, Into kInto, int kCStride>
struct Contraction<A, B, kInto, kCStride, false> {
  static_assert(A::kColStride == 1 && B::kRowStride == 1, "reduction mode reads both operands along k");
  template <int kASize, int kBSize, int kCSize>
  static void run(const float (&a)[kASize], int a0, const float (&b)[kBSize], int b0, float (&c)[kCSize],
                  int c0) {
    contract_reduce<A, B, kInto, kCStride>(a, a0, b, b0, c, c0);
  }
};

/// C[m, n] = (or +=) sum over k of A[m, k] B[k, n].
///
/// A, B: how the operands lie in their arrays (RowMajor, Transposed), from elements a0 and b0 on.
/// kCStride: distance of C's rows in `c`, from element c0 on; C's columns are contiguous.
template <class A, class B, Into kInto = Into::kReplace, int kCStride = B::kCols, int kASize, int kBSize,
          int kCSize>
void contract(const float (&a)[kASize], int a0, const float (&b)[kBSize], int b0, float (&c)[kCSize], int c0) {
  static_assert(A::kCols == B::kRows, "the contracted dimensions of A and B differ");
  Contraction<A, B, kInto, kCStride, B::kColStride == 1>::run(a, a0, b, b0, c, c0);
}

}  // namespace ttfpga
