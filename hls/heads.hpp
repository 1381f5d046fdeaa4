// The intent head ([CLS]: linear, tanh, classifier), the slot head (every token: linear, GELU, LayerNorm,
// classifier), and the joint cross-entropy that both are trained with.
#pragma once

#include "bias.hpp"
#include "elementwise.hpp"
#include "layer_norm.hpp"
#include "tt_linear.hpp"

namespace ttfpga {

/// logits (kRows, kClasses) = x W + b; x0 and y0 are where x and the logits begin in their arrays.
template <int kRows, int kClasses, int kWeightBank, int kBiasBank, int kXSize, int kYSize>
void classifier_forward(const float (&x)[kXSize], int x0, float (&logits)[kYSize], int y0, int offset,
                        const Taps& taps) {
  contract<RowMajor<kRows, kWidth>, RowMajor<kWidth, kClasses>>(x, x0, Bank<kWeightBank>::value(), 0, logits,
                                                                y0);
  add_bias<kRows, kClasses, kBiasBank>(logits, y0, 0);
  tap(taps, offset, logits, y0, kRows * kClasses);
}

/// dx (kRows, kWidth) from d_logits; then, if the classifier trains, the gradients of W and b are complete.
template <int kRows, int kClasses, int kWeightBank, int kBiasBank, bool kTrains, int kXSize, int kYSize>
void classifier_backward(const float (&x)[kXSize], int x0, float (&d_logits)[kYSize], int dy0,
                         float (&dx)[kXSize], int dx0, int offset, const Step& step) {
  using X = RowMajor<kRows, kWidth>;
  using W = RowMajor<kWidth, kClasses>;
  using Logits = RowMajor<kRows, kClasses>;
  using WeightGradient = Gradient<kWeightBank>;
  tap(step.taps, offset, d_logits, dy0, kRows * kClasses);
  contract<Logits, Transposed<W>>(d_logits, dy0, Bank<kWeightBank>::value(), 0, dx, dx0);
  if (!kTrains) return;
  contract<Transposed<X>, Logits>(x, x0, d_logits, dy0, WeightGradient::memory(), WeightGradient::at(0));
  bias_gradient<kRows, kClasses, kBiasBank>(d_logits, dy0, 0);
  gradient_complete<kWeightBank>(0, kWidth * kClasses, step);
  gradient_complete<kBiasBank>(0, kClasses, step);
}

/// Cross-entropy of the kClasses logits from `row` on against `label`; scale * its gradient into d_logits
/// from d_row on.
template <int kClasses, int kSize>
float cross_entropy(const float (&logits)[kSize], int row, int label, float scale, float (&d_logits)[kSize],
                    int d_row) {
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
    d_logits[d_row + c] = e;
    sum += e;
  }
CE_GRADIENT:
  for (int c = 0; c < kClasses; ++c) {
#pragma HLS PIPELINE
    const float probability = d_logits[d_row + c] / sum;
    d_logits[d_row + c] = scale * (c == label ? probability - 1.0f : probability);
  }
  return log_f32(sum) + highest - logits[row + label];
}

/// Logits of both heads from the encoder's output.
inline void heads_forward(const Taps& taps) {
  const int x0 = place::hidden[kBlocks];
  linear_forward<1>(kIntentPre, kForward, activation, x0, intent_hidden, 0, taps);
  tanh_forward(intent_hidden, intent_active, trace::intent_tanh[0], taps);
  classifier_forward<1, kIntents, kIntentWeightBank, kIntentBiasBank>(intent_active, 0, intent_logits, 0,
                                                                      trace::intent_logits[0], taps);
  linear_forward<kTokens>(kSlotPre, kForward, activation, x0, activation, place::slot_hidden, taps);
  gelu_forward(place::slot_hidden, place::slot_active, trace::gelu[kBlocks], taps);
  layer_norm_forward(kSlotNorm, kForward, place::slot_active, place::slot_normed, taps);
  classifier_forward<kTokens, kSlots, kSlotWeightBank, kSlotBiasBank>(
      activation, place::slot_normed, activation, place::slot_logits, trace::slot_logits[0], taps);
}

/// losses = {intent + kSlotLossWeight * slot, intent, slot}: cross-entropy of the intent, and its mean over
/// the words' slots; gradients of both heads' logits. [CLS] and padding have no slot.
inline void joint_loss(int length, int intent, const int (&slots)[kTokens], float (&losses)[3],
                       const Taps& taps) {
  const float words = static_cast<float>(length - 1);
  float intent_loss[1] = {cross_entropy<kIntents>(intent_logits, 0, intent, 1.0f, d_intent_logits, 0)};
  tap(taps, trace::intent_loss[0], intent_loss);
  float slot_sum = 0.0f;
SLOT_LOSS:
  for (int t = 0; t < kTokens; ++t) {
    const bool is_word = t > 0 && t < length;
    const float scale = is_word ? kSlotLossWeight / words : 0.0f;
    const float loss = cross_entropy<kSlots>(activation, place::slot_logits + t * kSlots, slots[t], scale,
                                             activation, place::d_slot_logits + t * kSlots);
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

/// The gradient of the encoder's output into d_stream, from both heads' d_logits; all gradients of the
/// heads' parameters.
inline void heads_backward(const Step& step) {
  const int x0 = place::hidden[kBlocks];
  classifier_backward<kTokens, kSlots, kSlotWeightBank, kSlotBiasBank, kSlotOutTrains>(
      activation, place::slot_normed, activation, place::d_slot_logits, activation, place::d_wide,
      trace::d_slot_logits[0], step);
  layer_norm_backward(kSlotNorm, place::d_wide, place::d_branch, step);
  gelu_backward(place::slot_hidden, place::d_branch, place::d_wide, trace::d_gelu[kBlocks], step.taps);
  linear_backward<kTokens, Into::kReplace>(kSlotPre, activation, x0, activation, place::d_wide, activation,
                                           place::d_stream, step);

  classifier_backward<1, kIntents, kIntentWeightBank, kIntentBiasBank, kIntentOutTrains>(
      intent_active, 0, d_intent_logits, 0, d_intent, 0, trace::d_intent_logits[0], step);
  tanh_backward(intent_active, d_intent, trace::d_intent_tanh[0], step.taps);
  linear_backward<1, Into::kAdd>(kIntentPre, activation, x0, d_intent, 0, activation, place::d_stream, step);
}

}  // namespace ttfpga
