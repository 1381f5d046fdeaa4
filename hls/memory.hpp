// The on-chip memory: every array that lives from one command to the next, or from forward to backward.
// Sizes come from the generated header; nothing here crosses the AXI interfaces.
#pragma once

#include "ttfpga_config.hpp"

namespace ttfpga {

constexpr int kHeadDim = kWidth / kHeads;
static_assert(kHeadDim * kHeads == kWidth, "the heads divide the width");

constexpr int kActivation = kTokens * kWidth;
constexpr int kAttention = kHeads * kTokens * kTokens;

/// Linear layers in order of execution: those of the blocks, then one before each head.
enum BlockLinear { kQ, kK, kV, kO, kFfnIn, kFfnOut, kBlockLinears };
constexpr int kIntentPre = kBlocks * kBlockLinears;
constexpr int kSlotPre = kIntentPre + 1;
constexpr int kLinears = kSlotPre + 1;

/// LayerNorms in order of execution: after the embedding, two a block, in the slot head.
constexpr int kEmbedNorm = 0;
constexpr int norm1_of(int block) { return 1 + 2 * block; }
constexpr int norm2_of(int block) { return 2 + 2 * block; }
constexpr int kSlotNorm = norm1_of(kBlocks);
constexpr int kNorms = kSlotNorm + 1;

/// A bank of parameters and the bank of their gradients; both keep their contents between commands.
template <int kIndex>
struct Bank {
  static constexpr int kSize = kBankSize[kIndex];
  static float value[kSize];
  static float gradient[kSize];
};
template <int kIndex>
float Bank<kIndex>::value[Bank<kIndex>::kSize];
template <int kIndex>
float Bank<kIndex>::gradient[Bank<kIndex>::kSize];

// Values of the forward pass that the backward pass reads.
static float embedding[kActivation];
static float hidden[kBlocks + 1][kActivation];  ///< input of each block; the last is the encoder's output
static float query[kBlocks][kActivation];
static float key[kBlocks][kActivation];
static float value[kBlocks][kActivation];
static float probs[kBlocks][kAttention];
static float context[kBlocks][kActivation];
static float attended[kBlocks][kActivation];  ///< output of norm1, input of the feed-forward half
static float ffn_hidden[kBlocks][kActivation];
static float ffn_active[kBlocks][kActivation];
static float normalized[kNorms][kActivation];  ///< (x - mean) / std of each LayerNorm
static float inverse_std[kNorms][kTokens];
static float intent_hidden[kWidth];
static float intent_active[kWidth];
static float intent_logits[kIntents];
static float slot_hidden[kActivation];
static float slot_active[kActivation];
static float slot_normed[kActivation];
static float slot_logits[kTokens * kSlots];

// Scratch: gradients on their way back, and sums of a residual branch.
static float branch[kActivation];
static float d_stream[kActivation];  ///< gradient of the residual stream
static float d_branch[kActivation];
static float d_wide[kActivation];
static float d_query[kActivation];
static float d_key[kActivation];
static float d_value[kActivation];
static float d_scores[kAttention];
static float d_intent_logits[kIntents];
static float d_intent[kWidth];
static float d_slot_logits[kTokens * kSlots];

}  // namespace ttfpga
