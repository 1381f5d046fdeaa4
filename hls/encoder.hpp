// One post-LayerNorm encoder block, forward and backward, and the whole encoder between embedding and heads.
#pragma once

#include "attention.hpp"
#include "elementwise.hpp"
#include "layer_norm.hpp"
#include "tt_linear.hpp"
#include "ttm_embedding.hpp"

namespace ttfpga {

/// hidden[block] to hidden[block + 1]: x = norm1(x + attention(x)); x = norm2(x + feed_forward(x)).
inline void block_forward(int block, int length, const Taps& taps) {
  const int layer = block * kBlockLinears;
  linear_forward<kTokens>(layer + kQ, hidden[block], query[block], taps);
  linear_forward<kTokens>(layer + kK, hidden[block], key[block], taps);
  linear_forward<kTokens>(layer + kV, hidden[block], value[block], taps);
  attention_forward(block, length, taps);
  linear_forward<kTokens>(layer + kO, context[block], branch, taps);
  add_to(branch, hidden[block]);
  layer_norm_forward(norm1_of(block), branch, attended[block], taps);

  linear_forward<kTokens>(layer + kFfnIn, attended[block], ffn_hidden[block], taps);
  gelu_forward(ffn_hidden[block], ffn_active[block], trace::gelu[block], taps);
  linear_forward<kTokens>(layer + kFfnOut, ffn_active[block], branch, taps);
  add_to(branch, attended[block]);
  layer_norm_forward(norm2_of(block), branch, hidden[block + 1], taps);
}

/// d_stream holds the gradient of hidden[block + 1] on entry and of hidden[block] on return.
inline void block_backward(int block, const Taps& taps) {
  const int layer = block * kBlockLinears;
  // A residual sum hands its gradient to both branches: d_branch goes through the layers, and what comes
  // out of them is added to the copy that goes straight on.
  layer_norm_backward(norm2_of(block), d_stream, d_branch, taps);
  copy_to(d_stream, d_branch);
  linear_backward<kTokens, Into::kReplace>(layer + kFfnOut, ffn_active[block], d_branch, d_wide, taps);
  gelu_backward(ffn_hidden[block], d_wide, d_branch, trace::d_gelu[block], taps);
  linear_backward<kTokens, Into::kAdd>(layer + kFfnIn, attended[block], d_branch, d_stream, taps);

  layer_norm_backward(norm1_of(block), d_stream, d_branch, taps);
  copy_to(d_stream, d_branch);
  linear_backward<kTokens, Into::kReplace>(layer + kO, context[block], d_branch, d_wide, taps);
  attention_backward(block, d_wide, taps);
  linear_backward<kTokens, Into::kAdd>(layer + kV, hidden[block], d_value, d_stream, taps);
  linear_backward<kTokens, Into::kAdd>(layer + kK, hidden[block], d_key, d_stream, taps);
  linear_backward<kTokens, Into::kAdd>(layer + kQ, hidden[block], d_query, d_stream, taps);
}

/// Token ids to the encoder's output, hidden[kBlocks].
inline void encoder_forward(const int (&tokens)[kTokens], int length, const Taps& taps) {
  embedding_forward(tokens, taps);
  layer_norm_forward(kEmbedNorm, embedding, hidden[0], taps);
ENCODER_BLOCK:
  for (int block = 0; block < kBlocks; ++block) block_forward(block, length, taps);
}

/// From the gradient of the encoder's output in d_stream to the gradients of all its parameters.
inline void encoder_backward(const int (&tokens)[kTokens], const Taps& taps) {
D_ENCODER_BLOCK:
  for (int block = kBlocks - 1; block >= 0; --block) block_backward(block, taps);
  layer_norm_backward(kEmbedNorm, d_stream, d_branch, taps);
  embedding_backward(tokens, d_branch, taps);
}

}  // namespace ttfpga
