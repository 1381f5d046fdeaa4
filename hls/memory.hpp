// The on-chip memory as the generated header lays it out: banks of parameters, pools of slots shared by
// temporary arrays that are never live together, and the update of parameters in place.
#pragma once

#include "taps.hpp"
#include "ttfpga_config.hpp"

namespace ttfpga {

constexpr int kHeadDim = kWidth / kHeads;
static_assert(kHeadDim * kHeads == kWidth, "the heads divide the width");

constexpr int kActivation = kTokens * kWidth;
static_assert(kActivation == kActivationSlot, "a slot of the activation pool holds one activation");
constexpr int kHeadScores = kTokens * kTokens;
constexpr int kAttention = kHeads * kHeadScores;
static_assert(kAttention == kAttentionSlot, "a slot of the attention pool holds the scores of all heads");

/// Linear layers in order of execution: those of the blocks, then one before each head.
enum BlockLinear { kQ, kK, kV, kO, kFfnIn, kFfnOut, kBlockLinears };
constexpr int kIntentPre = kBlocks * kBlockLinears;
constexpr int kSlotPre = kIntentPre + 1;
static_assert(kLinears == kSlotPre + 1, "the header counts the linear layers alike");

/// LayerNorms in order of execution: after the embedding, two a block, in the slot head.
constexpr int kEmbedNorm = 0;
constexpr int norm1_of(int block) { return 1 + 2 * block; }
constexpr int norm2_of(int block) { return 2 + 2 * block; }
constexpr int kSlotNorm = norm1_of(kBlocks);
static_assert(kNorms == kSlotNorm + 1, "the header counts the norms alike");

/// Which pass asks: a value that the backward pass makes again may lie elsewhere than in the forward pass.
enum Pass { kForward, kBackward };

/// What one training step is run with.
struct Step {
  float rate;
  Taps taps;
};

/// parameter -= rate * gradient: plain SGD on `size` elements of bank kIndex from `start` on.
template <int kIndex>
void sgd_update(int start, int size, const Step& step) {
  const int from = Gradient<kIndex>::at(start);
SGD:
  for (int i = 0; i < size; ++i) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 100000
#pragma HLS PIPELINE
    Bank<kIndex>::value()[start + i] =
        Bank<kIndex>::value()[start + i] - step.rate * Gradient<kIndex>::memory()[from + i];
  }
  tap(step.taps, trace::kUpdated + kBankOffset[kIndex] + start, Bank<kIndex>::value(), start, size);
}

/// A gradient of `size` elements of bank kIndex from `start` on is complete: it is applied now, unless
/// gradients are held. Nothing may read the old parameter after this.
template <int kIndex>
void gradient_complete(int start, int size, const Step& step) {
  tap(step.taps, trace::kGradients + kBankOffset[kIndex] + start, Gradient<kIndex>::memory(),
      Gradient<kIndex>::at(start), size);
  if (kImmediate) sgd_update<kIndex>(start, size, step);
}

}  // namespace ttfpga
