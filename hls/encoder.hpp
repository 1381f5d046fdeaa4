// One post-LayerNorm encoder block, forward and backward, and the whole encoder between embedding and heads.
#pragma once

#include "attention.hpp"
#include "elementwise.hpp"
#include "layer_norm.hpp"
#include "tt_linear.hpp"
#include "ttm_embedding.hpp"

namespace ttfpga {

/// A linear layer from one place of the activation pool to another.
inline void block_linear(int layer, Pass pass, int x0, int y0, const Taps& taps) {
#pragma HLS INLINE
  linear_forward<kTokens>(layer, pass, activation, x0, activation, y0, taps);
}

/// x = norm1(x + attention(x)); x = norm2(x + feed_forward(x)), from hidden[block] to `out0`. The backward
/// pass runs it again for a block whose activations were not kept.
inline void block_forward(int block, Pass pass, int length, int out0, const Taps& taps) {
  const int layer = block * kBlockLinears;
  const int x0 = place::hidden[block], attended0 = place::attended[pass][block];
  block_linear(layer + kQ, pass, x0, place::query[pass][block], taps);
  block_linear(layer + kK, pass, x0, place::key[pass][block], taps);
  block_linear(layer + kV, pass, x0, place::value[pass][block], taps);
  attention_forward(block, pass, length, taps);
  block_linear(layer + kO, pass, place::context[pass][block], place::branch, taps);
  add_to(place::branch, x0);
  layer_norm_forward(norm1_of(block), pass, place::branch, attended0, taps);

  block_linear(layer + kFfnIn, pass, attended0, place::ffn_hidden[pass][block], taps);
  gelu_forward(place::ffn_hidden[pass][block], place::ffn_active[pass][block], trace::gelu[block], taps);
  block_linear(layer + kFfnOut, pass, place::ffn_active[pass][block], place::branch, taps);
  add_to(place::branch, attended0);
  layer_norm_forward(norm2_of(block), pass, place::branch, out0, taps);
}

/// d_stream holds the gradient of hidden[block + 1] on entry and of hidden[block] on return.
inline void block_backward(int block, const Step& step) {
  const int layer = block * kBlockLinears;
  const int x0 = place::hidden[block], attended0 = place::attended[kBackward][block];
  // A residual sum hands its gradient to both branches: d_branch goes through the layers, and what comes
  // out of them is added to the copy that goes straight on.
  layer_norm_backward(norm2_of(block), place::d_stream, place::d_branch, step);
  copy_to(place::d_stream, place::d_branch);
  linear_backward<kTokens, Into::kReplace>(layer + kFfnOut, activation, place::ffn_active[kBackward][block],
                                           activation, place::d_branch, activation, place::d_wide, step);
  gelu_backward(place::ffn_hidden[kBackward][block], place::d_wide, place::d_branch, trace::d_gelu[block],
                step.taps);
  // Read for the gradients of ffn_in alone: where that is frozen, its place is another array's by now.
  if (kRederive && kLinearTrains[layer + kFfnIn]) layer_norm_rederive(norm1_of(block), attended0, step.taps);
  linear_backward<kTokens, Into::kAdd>(layer + kFfnIn, activation, attended0, activation, place::d_branch,
                                       activation, place::d_stream, step);

  layer_norm_backward(norm1_of(block), place::d_stream, place::d_branch, step);
  copy_to(place::d_stream, place::d_branch);
  linear_backward<kTokens, Into::kReplace>(layer + kO, activation, place::context[kBackward][block], activation,
                                           place::d_branch, activation, place::d_wide, step);
  attention_backward(block, place::d_wide, step.taps);
  linear_backward<kTokens, Into::kAdd>(layer + kV, activation, x0, activation, place::d_value, activation,
                                       place::d_stream, step);
  linear_backward<kTokens, Into::kAdd>(layer + kK, activation, x0, activation, place::d_key, activation,
                                       place::d_stream, step);
  linear_backward<kTokens, Into::kAdd>(layer + kQ, activation, x0, activation, place::d_query, activation,
                                       place::d_stream, step);
}

/// Token ids to the encoder's output, hidden[kBlocks].
inline void encoder_forward(const int (&tokens)[kTokens], int length, const Taps& taps) {
  embedding_forward(tokens, taps);
  layer_norm_forward(kEmbedNorm, kForward, place::embedding, place::hidden[0], taps);
ENCODER_BLOCK:
  for (int block = 0; block < kBlocks; ++block) {
    block_forward(block, kForward, length, place::hidden[block + 1], taps);
  }
}

/// From the gradient of the encoder's output in d_stream to the gradients of all its parameters.
inline void encoder_backward(const int (&tokens)[kTokens], int length, const Step& step) {
D_ENCODER_BLOCK:
  for (int block = kBlocks - 1; block >= 0; --block) {
    // The output of a block that runs again is known: it goes where its last sum was.
    if (kRecompute[block]) block_forward(block, kBackward, length, place::branch, step.taps);
    block_backward(block, step);
  }
  if (kRederive) {
    embedding_forward(tokens, step.taps);
    layer_norm_forward(kEmbedNorm, kBackward, place::embedding, place::embedding, step.taps);
  }
  layer_norm_backward(kEmbedNorm, place::d_stream, place::d_branch, step);
  embedding_backward(tokens, place::d_branch, step);
}

}  // namespace ttfpga
