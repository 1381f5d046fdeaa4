// The intent head ([CLS]: linear, tanh, classifier), the slot head (every token: linear, GELU, LayerNorm,
// classifier), and the joint cross-entropy that both are trained with.
#pragma once

#include "elementwise.hpp"
#include "layer_norm.hpp"
#include "memory.hpp"
#include "tt_linear.hpp"

namespace ttfpga {

/// logits (kRows, kClasses) = x W + b.
template <int kRows, int kClasses, int kWeightBank, int kBiasBank, int kXSize>
void classifier_forward(const float (&x)[kXSize], float (&logits)[kRows * kClasses], int offset,
                        const Taps& taps) {
  contract<RowMajor<kRows, kWidth>, RowMajor<kWidth, kClasses>>(x, 0, Bank<kWeightBank>::value, 0, logits, 0);
CLASSIFIER_BIAS_ROW:
  for (int t = 0; t < kRows; ++t) {
  CLASSIFIER_BIAS:
    for (int c = 0; c < kClasses; ++c) {
#pragma HLS PIPELINE
      logits[t * kClasses + c] += Bank<kBiasBank>::value[c];
    }
  }
  tap(taps, offset, logits);
}

/// Gradients of W, b and x (kRows, kWidth) from d_logits.
template <int kRows, int kClasses, int kWeightBank, int kBiasBank, int kXSize>
void classifier_backward(const float (&x)[kXSize], float (&d_logits)[kRows * kClasses], float (&dx)[kXSize],
                         int offset, const Taps& taps) {
  using X = RowMajor<kRows, kWidth>;
  using W = RowMajor<kWidth, kClasses>;
  using Logits = RowMajor<kRows, kClasses>;
  tap(taps, offset, d_logits);
  contract<Transposed<X>, Logits>(x, 0, d_logits, 0, Bank<kWeightBank>::gradient, 0);
D_CLASSIFIER_BIAS:
  for (int c = 0; c < kClasses; ++c) {
    float sum = 0.0f;
  D_CLASSIFIER_BIAS_ROW:
    for (int t = 0; t < kRows; ++t) {
#pragma HLS PIPELINE
      sum += d_logits[t * kClasses + c];
    }
    Bank<kBiasBank>::gradient[c] = sum;
  }
  contract<Logits, Transposed<W>>(d_logits, 0, Bank<kWeightBank>::value, 0, dx, 0);
}

/// Cross-entropy of one row of logits against `label`; scale * its gradient into d_logits.
template <int kClasses, int kSize>
float cross_entropy(const float (&logits)[kSize], int row, int label, float scale, float (&d_logits)[kSize]) {
  float highest = logits[row];
CE_MAX:
  for (int c = 1; c < kClasses; ++c) {
#pragma HLS PIPELINE
    highest = logits[row + c] > highest ? logits[row + c] : highest;
  }
  float sum = 0.0f;
CE_EXP:
  for (int c = 0; c < kClasses; ++c) {
#pragma HLS PIPELINE
    const float e = exp_f32(logits[row + c] - highest);
    d_logits[row + c] = e;
    sum += e;
  }
CE_GRADIENT:
  for (int c = 0; c < kClasses; ++c) {
#pragma HLS PIPELINE
    const float probability = d_logits[row + c] / sum;
    d_logits[row + c] = scale * (c == label ? probability - 1.0f : probability);
  }
  return log_f32(sum) + highest - logits[row + label];
}

/// Logits of both heads from the encoder's output.
inline void heads_forward(const float (&x)[kActivation], const Taps& taps) {
  linear_forward<1>(kIntentPre, x, intent_hidden, taps);
  tanh_forward(intent_hidden, intent_active, trace::intent_tanh[0], taps);
  classifier_forward<1, kIntents, kIntentWeightBank, kIntentBiasBank>(intent_active, intent_logits,
                                                                      trace::intent_logits[0], taps);
  linear_forward<kTokens>(kSlotPre, x, slot_hidden, taps);
  gelu_forward(slot_hidden, slot_active, trace::gelu[kBlocks], taps);
  layer_norm_forward(kSlotNorm, slot_active, slot_normed, taps);
  classifier_forward<kTokens, kSlots, kSlotWeightBank, kSlotBiasBank>(slot_normed, slot_logits,
                                                                      trace::slot_logits[0], taps);
}

/// losses = {intent + kSlotLossWeight * slot, intent, slot}: cross-entropy of the intent, and its mean over
/// the words' slots; gradients of both heads' logits. [CLS] and padding have no slot.
inline void joint_loss(int length, int intent, const int (&slots)[kTokens], float (&losses)[3],
                       const Taps& taps) {
  const float words = static_cast<float>(length - 1);
  float intent_loss[1] = {cross_entropy<kIntents>(intent_logits, 0, intent, 1.0f, d_intent_logits)};
  tap(taps, trace::intent_loss[0], intent_loss);
  float slot_sum = 0.0f;
SLOT_LOSS:
  for (int t = 0; t < kTokens; ++t) {
    const bool is_word = t > 0 && t < length;
    const float scale = is_word ? kSlotLossWeight / words : 0.0f;
    const float loss = cross_entropy<kSlots>(slot_logits, t * kSlots, slots[t], scale, d_slot_logits);
    slot_sum += is_word ? loss : 0.0f;
  }
  float slot_loss[1] = {slot_sum / words};
  tap(taps, trace::slot_loss[0], slot_loss);
  float loss[1] = {intent_loss[0] + kSlotLossWeight * slot_loss[0]};
  tap(taps, trace::loss[0], loss);
  losses[0] = loss[0];
  losses[1] = intent_loss[0];
  losses[2] = slot_loss[0];
}

/// d_x (kTokens, kWidth) of the encoder's output from both heads' d_logits, and all their parameters'
/// gradients.
inline void heads_backward(const float (&x)[kActivation], float (&dx)[kActivation], const Taps& taps) {
  classifier_backward<kTokens, kSlots, kSlotWeightBank, kSlotBiasBank>(slot_normed, d_slot_logits, d_wide,
                                                                       trace::d_slot_logits[0], taps);
  layer_norm_backward(kSlotNorm, d_wide, d_branch, taps);
  gelu_backward(slot_hidden, d_branch, d_wide, trace::d_gelu[kBlocks], taps);
  linear_backward<kTokens, Into::kReplace>(kSlotPre, x, d_wide, dx, taps);

  classifier_backward<1, kIntents, kIntentWeightBank, kIntentBiasBank>(intent_active, d_intent_logits, d_intent,
                                                                       trace::d_intent_logits[0], taps);
  tanh_backward(intent_active, d_intent, trace::d_intent_tanh[0], taps);
  linear_backward<1, Into::kAdd>(kIntentPre, x, d_intent, dx, taps);
}

}  // namespace ttfpga
