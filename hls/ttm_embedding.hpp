// The token embedding as a TTM table plus learned positions: a row is contracted from the cores that the
// token's digits pick, right cores first; the table itself is never formed.
#pragma once

#include "taps.hpp"
#include "tt_chain.hpp"

namespace ttfpga {

static float row_products[right_products<EmbeddingRow>()];
static float d_row_products[right_products<EmbeddingRow>()];

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
    RightMerge<EmbeddingRow, Into::kAdd, 0>::forward(start, row_products);
  EMBED_POSITION:
    for (int i = 0; i < kWidth; ++i) {
#pragma HLS PIPELINE
      embedding[t * kWidth + i] = row_products[i] + Bank<kPositionBank>::value[t * kWidth + i];
    }
  }
  tap(taps, trace::embed[0], embedding);
}

/// Sets a bank of gradients to zero.
template <int kBank>
void clear_gradient() {
CLEAR:
  for (int i = 0; i < Bank<kBank>::kSize; ++i) {
#pragma HLS PIPELINE
    Bank<kBank>::gradient[i] = 0.0f;
  }
}

/// Clears the gradients of TTM cores 0 to k.
template <int k>
struct ClearCores {
  static void run() {
    ClearCores<k - 1>::run();
    clear_gradient<kEmbedCoreBank + k>();
  }
};
template <>
struct ClearCores<-1> {
  static void run() {}
};

/// Gradients of the positions and of the TTM cores from d_embedding (kTokens, kWidth). The products of a row
/// are made again rather than kept: 32 tokens' worth would be larger than the cores.
inline void embedding_backward(const int (&tokens)[kTokens], float (&d_embedding)[kActivation],
                               const Taps& taps) {
  tap(taps, trace::d_embed[0], d_embedding);
  ClearCores<kEmbedCores - 1>::run();
D_EMBED_TOKEN:
  for (int t = 0; t < kTokens; ++t) {
    int start[kEmbedCores];
    pick_cores(tokens[t], start);
  D_EMBED_ROW:
    for (int i = 0; i < kWidth; ++i) {
#pragma HLS PIPELINE
      const float gradient = d_embedding[t * kWidth + i];
      Bank<kPositionBank>::gradient[t * kWidth + i] = gradient;
      d_row_products[i] = gradient;
    }
    RightMerge<EmbeddingRow, Into::kAdd, 0>::forward(start, row_products);
    RightMerge<EmbeddingRow, Into::kAdd, 0>::backward(start, row_products, d_row_products);
  }
}

}  // namespace ttfpga
