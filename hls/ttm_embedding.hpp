// The token embedding as a TTM table plus learned positions: a row is contracted from the cores that the
// token's digits pick, right cores first; the table itself is never formed.
#pragma once

#include "tt_chain.hpp"

namespace ttfpga {

static_assert(right_products<EmbeddingRow>() <= kActivationSlot, "a row's products fit a slot");

/// Where the cores picked by a token begin: its mixed-radix digits times the size of a picked core. The
/// banks keep a core's row digit outermost, so what a digit picks is contiguous.
inline void pick_cores(int token, int (&start)[kEmbedCores]) {
#pragma HLS INLINE
PICK_CORE:
  for (int k = kEmbedCores - 1; k >= 0; --k) {
    start[k] = token % kVocabModes[k] * core_size<EmbeddingRow>(k);
    token = token / kVocabModes[k];
  }
}

/// embedding (kTokens, kWidth) = token rows + position rows.
inline void embedding_forward(const int (&tokens)[kTokens], const Taps& taps) {
EMBED_TOKEN:
  for (int t = 0; t < kTokens; ++t) {
    int start[kEmbedCores];
    pick_cores(tokens[t], start);
    RightMerge<EmbeddingRow, Into::kAdd, 0>::forward(start, activation, place::row_products);
  EMBED_POSITION:
    for (int i = 0; i < kWidth; ++i) {
#pragma HLS PIPELINE
      activation[place::embedding + t * kWidth + i] =
          activation[place::row_products + i] + Bank<kPositionBank>::value()[t * kWidth + i];
    }
  }
  tap(taps, trace::embed[0], activation, place::embedding, kActivation);
}

/// Sets the gradient of a bank to zero.
template <int kIndex>
void clear_gradient() {
CLEAR:
  for (int i = 0; i < kBankSize[kIndex]; ++i) {
#pragma HLS PIPELINE
    Gradient<kIndex>::memory()[Gradient<kIndex>::at(i)] = 0.0f;
  }
}

/// Clears the gradients of TTM cores 0 to k, and completes them.
template <int k>
struct TableGradient {
  static void clear() {
    TableGradient<k - 1>::clear();
    clear_gradient<kEmbedCoreBank + k>();
  }
  static void complete(const Step& step) {
    TableGradient<k - 1>::complete(step);
    gradient_complete<kEmbedCoreBank + k>(0, kBankSize[kEmbedCoreBank + k], step);
  }
};
template <>
struct TableGradient<-1> {
  static void clear() {}
  static void complete(const Step&) {}
};

/// Gradients of the positions and of the TTM cores from d_embedding (kTokens, kWidth), which begins at d0 of
/// the activation pool. The products of a row are made again rather than kept: 32 tokens' worth would be
/// larger than the cores.
inline void embedding_backward(const int (&tokens)[kTokens], int d0, const Step& step) {
  using PositionGradient = Gradient<kPositionBank>;
  tap(step.taps, trace::d_embed[0], activation, d0, kActivation);
  if (!kEmbedTrains) return;
  TableGradient<kEmbedCores - 1>::clear();
D_EMBED_TOKEN:
  for (int t = 0; t < kTokens; ++t) {
    int start[kEmbedCores];
    pick_cores(tokens[t], start);
  D_EMBED_ROW:
    for (int i = 0; i < kWidth; ++i) {
#pragma HLS PIPELINE
      // The gradient of a position is that of its token: applied at once, it stays where it is.
      const float gradient = activation[d0 + t * kWidth + i];
      PositionGradient::memory()[PositionGradient::at(t * kWidth + i)] = gradient;
      activation[place::d_row_products + i] = gradient;
    }
    RightMerge<EmbeddingRow, Into::kAdd, 0>::forward(start, activation, place::row_products);
    RightMerge<EmbeddingRow, Into::kAdd, 0>::backward(start, activation, place::row_products, activation,
                                                     place::d_row_products);
  }
  TableGradient<kEmbedCores - 1>::complete(step);
  gradient_complete<kPositionBank>(0, kActivation, step);
}

}  // namespace ttfpga
