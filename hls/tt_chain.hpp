// Products of tensor-train cores and their gradients: the left half of a layer merged from the left, the
// right half (and a row of the TTM embedding) from the right. Row-major reshapes cost nothing here.
#pragma once

#include "contract.hpp"
#include "memory.hpp"

namespace ttfpga {

/// The input cores of a linear layer, G_0 ... G_{p-1}, whose product A is (kWidth, bond).
struct LeftHalf {
  static constexpr int kCores = kInCores;
  static constexpr int kFirstBank = kLinearCoreBank;
  static constexpr int mode(int k) { return kInModes[k]; }
  static constexpr int rank(int k) { return kInRanks[k]; }
};

/// The output cores of a linear layer, whose product B is (bond, kWidth).
struct RightHalf {
  static constexpr int kCores = kOutCores;
  static constexpr int kFirstBank = kLinearCoreBank + kInCores;
  static constexpr int mode(int k) { return kOutModes[k]; }
  static constexpr int rank(int k) { return kOutRanks[k]; }
};

/// The TT cores that a token's digits pick out of the TTM cores, whose product is a row (1, kWidth).
struct EmbeddingRow {
  static constexpr int kCores = kEmbedCores;
  static constexpr int kFirstBank = kEmbedCoreBank;
  static constexpr int mode(int k) { return kEmbedModes[k]; }
  static constexpr int rank(int k) { return kEmbedRanks[k]; }
};

static_assert(kInCores > 1 && kOutCores > 1 && kEmbedCores > 1, "a chain has at least two cores");
constexpr int kBond = kInRanks[kInCores];

/// Elements of core k of one chain.
template <class Chain>
constexpr int core_size(int k) {
  return Chain::rank(k) * Chain::mode(k) * Chain::rank(k + 1);
}

/// Product of the modes `first` to `last`, both included.
template <class Chain>
constexpr int modes_product(int first, int last) {
  int product = 1;
  for (int k = first; k <= last; ++k) product *= Chain::mode(k);
  return product;
}

// From the left: A_0 = G_0 is the core itself; A_k (N_k, r_{k+1}) = A_{k-1} G_k for k = 1 ... p-1.
// A chain's products lie in one array, the whole half A_{p-1} first.

template <class Chain>
constexpr int left_size(int k) {
  return modes_product<Chain>(0, k) * Chain::rank(k + 1);
}

template <class Chain>
constexpr int left_offset(int k) {
  int offset = 0;
  for (int j = Chain::kCores - 1; j > k; --j) offset += left_size<Chain>(j);
  return offset;
}

constexpr int kLeftProducts = left_offset<LeftHalf>(0);
static_assert(kLeftProducts == kLeftSlot, "a slot of the left pool holds one layer's products");
constexpr int kLeftHalf = kWidth * kBond;

/// A_k and all before it, in the pool `left` from `at` on; `start[k]` is where core k begins in its bank.
template <int k>
struct LeftMerge {
  using Chain = LeftHalf;
  static constexpr int kRows = modes_product<Chain>(0, k - 1), kInner = Chain::rank(k);
  static constexpr int kCols = Chain::mode(k) * Chain::rank(k + 1);
  using Before = RowMajor<kRows, kInner>;  // A_{k-1}
  using Core = RowMajor<kInner, kCols>;    // G_k
  using After = RowMajor<kRows, kCols>;    // A_k
  using CoreBank = Bank<Chain::kFirstBank + k>;
  using FirstBank = Bank<Chain::kFirstBank>;

  static void forward(const int (&start)[Chain::kCores], int at) {
    LeftMerge<k - 1>::forward(start, at);
    if (k == 1) {
      contract<Before, Core>(FirstBank::value(), start[0], CoreBank::value(), start[k], left,
                             at + left_offset<Chain>(k));
    } else {
      contract<Before, Core>(left, at + left_offset<Chain>(k - 1), CoreBank::value(), start[k], left,
                             at + left_offset<Chain>(k));
    }
  }

  /// dG_k = A_{k-1}^T dA_k and dA_{k-1} = dA_k G_k^T; dA_0 is the first core's gradient.
  static void backward(const int (&start)[Chain::kCores], int at) {
    using CoreGradient = Gradient<Chain::kFirstBank + k>;
    using FirstGradient = Gradient<Chain::kFirstBank>;
    const int d_after = left_offset<Chain>(k);
    if (k == 1) {
      contract<Transposed<Before>, After>(FirstBank::value(), start[0], d_left, d_after, CoreGradient::memory(),
                                          CoreGradient::at(start[k]));
      contract<After, Transposed<Core>>(d_left, d_after, CoreBank::value(), start[k], FirstGradient::memory(),
                                        FirstGradient::at(start[0]));
    } else {
      contract<Transposed<Before>, After>(left, at + left_offset<Chain>(k - 1), d_left, d_after,
                                          CoreGradient::memory(), CoreGradient::at(start[k]));
      contract<After, Transposed<Core>>(d_left, d_after, CoreBank::value(), start[k], d_left,
                                        left_offset<Chain>(k - 1));
    }
    LeftMerge<k - 1>::backward(start, at);
  }
};

template <>
struct LeftMerge<0> {
  static void forward(const int (&)[LeftHalf::kCores], int) {}
  static void backward(const int (&)[LeftHalf::kCores], int) {}
};

// From the right: B_last = G_last is the core itself; B_k (r_k, n_k ... n_last) = G_k B_{k+1}.
// A chain's products lie in one array, the whole product B_0 first.

template <class Chain>
constexpr int right_size(int k) {
  return Chain::rank(k) * modes_product<Chain>(k, Chain::kCores - 1);
}

template <class Chain>
constexpr int right_offset(int k) {
  int offset = 0;
  for (int j = 0; j < k; ++j) offset += right_size<Chain>(j);
  return offset;
}

template <class Chain>
constexpr int right_products() {
  return right_offset<Chain>(Chain::kCores - 1);
}

constexpr int kRightProducts = right_products<RightHalf>();
static_assert(kRightProducts == kRightSlot, "a slot of the right pool holds one layer's products");
constexpr int kRightHalf = kBond * kWidth;

/// B_k and all after it, in `products` from `at` on. kGradient: whether a core's gradient is written (each
/// core meets one example a step) or added to (several tokens of a sentence pick the same core).
template <class Chain, Into kGradient, int k, bool kIsLast = k == Chain::kCores - 1>
struct RightMerge {
  static constexpr int kLast = Chain::kCores - 1;
  static constexpr int kRows = Chain::rank(k) * Chain::mode(k), kInner = Chain::rank(k + 1);
  static constexpr int kCols = modes_product<Chain>(k + 1, kLast);
  using Core = RowMajor<kRows, kInner>;    // G_k
  using Before = RowMajor<kInner, kCols>;  // B_{k+1}
  using After = RowMajor<kRows, kCols>;    // B_k
  using CoreBank = Bank<Chain::kFirstBank + k>;
  using LastBank = Bank<Chain::kFirstBank + kLast>;

  template <int kSize>
  static void forward(const int (&start)[Chain::kCores], float (&products)[kSize], int at) {
    RightMerge<Chain, kGradient, k + 1>::forward(start, products, at);
    if (k == kLast - 1) {
      contract<Core, Before>(CoreBank::value(), start[k], LastBank::value(), start[kLast], products,
                             at + right_offset<Chain>(k));
    } else {
      contract<Core, Before>(CoreBank::value(), start[k], products, at + right_offset<Chain>(k + 1), products,
                             at + right_offset<Chain>(k));
    }
  }

  /// dG_k = dB_k B_{k+1}^T and dB_{k+1} = G_k^T dB_k; dB_last is the last core's gradient.
  template <int kSize, int kDSize>
  static void backward(const int (&start)[Chain::kCores], const float (&products)[kSize], int at,
                       float (&d_products)[kDSize], int d_at) {
    using CoreGradient = Gradient<Chain::kFirstBank + k>;
    using LastGradient = Gradient<Chain::kFirstBank + kLast>;
    const int d_after = d_at + right_offset<Chain>(k);
    if (k == kLast - 1) {
      contract<After, Transposed<Before>, kGradient>(d_products, d_after, LastBank::value(), start[kLast],
                                                     CoreGradient::memory(), CoreGradient::at(start[k]));
      contract<Transposed<Core>, After, kGradient>(CoreBank::value(), start[k], d_products, d_after,
                                                   LastGradient::memory(), LastGradient::at(start[kLast]));
    } else {
      contract<After, Transposed<Before>, kGradient>(d_products, d_after, products,
                                                     at + right_offset<Chain>(k + 1), CoreGradient::memory(),
                                                     CoreGradient::at(start[k]));
      contract<Transposed<Core>, After>(CoreBank::value(), start[k], d_products, d_after, d_products,
                                        d_at + right_offset<Chain>(k + 1));
    }
    RightMerge<Chain, kGradient, k + 1>::backward(start, products, at, d_products, d_at);
  }
};

template <class Chain, Into kGradient, int k>
struct RightMerge<Chain, kGradient, k, true> {
  template <int kSize>
  static void forward(const int (&)[Chain::kCores], float (&)[kSize], int) {}
  template <int kSize, int kDSize>
  static void backward(const int (&)[Chain::kCores], const float (&)[kSize], int, float (&)[kDSize], int) {}
};

/// The gradients of cores k and all before it in a chain are complete.
template <class Chain, int k = Chain::kCores - 1>
struct CoresComplete {
  static void run(const int (&start)[Chain::kCores], const Step& step) {
    CoresComplete<Chain, k - 1>::run(start, step);
    gradient_complete<Chain::kFirstBank + k>(start[k], core_size<Chain>(k), step);
  }
};
template <class Chain>
struct CoresComplete<Chain, -1> {
  static void run(const int (&)[Chain::kCores], const Step&) {}
};

}  // namespace ttfpga
