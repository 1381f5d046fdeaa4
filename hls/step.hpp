// The commands' work between the on-chip arrays and the outside: the memory image in and out, one SGD step,
// one inference.
#pragma once

#include "encoder.hpp"
#include "heads.hpp"

namespace ttfpga {

/// One sentence as the host hands it over: kExampleWords words of 32 bits.
struct Example {
  int length;  ///< [CLS] and words
  int intent;
  float rate;  ///< learning rate of the step
  int tokens[kTokens];
  int slots[kTokens];
};
constexpr int kExampleWords = 3 + 2 * kTokens;

inline void read_example(const uint32_t* words, int at, Example& example) {
  example.length = static_cast<int>(words[at]);
  example.intent = static_cast<int>(words[at + 1]);
  example.rate = as_float(words[at + 2]);
READ_TOKENS:
  for (int t = 0; t < kTokens; ++t) {
#pragma HLS PIPELINE II = 2
    example.tokens[t] = static_cast<int>(words[at + 3 + t]);
    example.slots[t] = static_cast<int>(words[at + 3 + kTokens + t]);
  }
}

/// Work done on each bank, one after the other.
template <int kBank>
struct EachBank {
  static void load(const uint32_t* image) {
    EachBank<kBank - 1>::load(image);
  LOAD_BANK:
    for (int i = 0; i < kBankSize[kBank]; ++i) {
#pragma HLS PIPELINE
      Bank<kBank>::value()[i] = as_float(image[kBankOffset[kBank] + i]);
    }
  }

  static void store(uint32_t* image) {
    EachBank<kBank - 1>::store(image);
  STORE_BANK:
    for (int i = 0; i < kBankSize[kBank]; ++i) {
#pragma HLS PIPELINE
      image[kBankOffset[kBank] + i] = as_bits(Bank<kBank>::value()[i]);
    }
  }

  static void update(const Step& step) {
    EachBank<kBank - 1>::update(step);
    sgd_update<kBank>(0, kBankSize[kBank], step);
  }
};
template <>
struct EachBank<-1> {
  static void load(const uint32_t*) {}
  static void store(uint32_t*) {}
  static void update(const Step&) {}
};

/// Forward, backward, update for one sentence: losses = {joint, intent, slot}.
inline void train_step(const Example& example, float (&losses)[3], const Taps& taps) {
  const Step step = {example.rate, taps};
  encoder_forward(example.tokens, example.length, taps);
  heads_forward(taps);
  joint_loss(example.length, example.intent, example.slots, losses, taps);
  heads_backward(step);
  encoder_backward(example.tokens, example.length, step);
  if (!kImmediate) EachBank<kBanks - 1>::update(step);
}

/// Logits of one sentence into results: kIntents, then kTokens * kSlots.
inline void infer(const Example& example, float* results, int at) {
  encoder_forward(example.tokens, example.length, Taps{});
  heads_forward(Taps{});
STORE_INTENT:
  for (int c = 0; c < kIntents; ++c) {
#pragma HLS PIPELINE
    results[at + c] = intent_logits[c];
  }
STORE_SLOTS:
  for (int i = 0; i < kTokens * kSlots; ++i) {
#pragma HLS PIPELINE
    results[at + kIntents + i] = activation[place::slot_logits + i];
  }
}
constexpr int kLogits = kIntents + kTokens * kSlots;

}  // namespace ttfpga
