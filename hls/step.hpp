// The commands' work between the on-chip arrays and the outside: the memory image in and out, one SGD step,
// one inference.
#pragma once

#include "sequencer.hpp"

namespace ttfpga {

/// Numbers that a step results in: joint, intent and slot loss.
constexpr int kLosses = static_cast<int>(sizeof(losses) / sizeof(losses[0]));

/// Reads a sentence (length, intent, learning rate, tokens, slots) from `at` on, finds the digits of its
/// tokens, and orders the tokens by each.
inline void read_sentence(const uint32_t* words, int at, Sentence& sentence) {
  sentence.length = static_cast<int>(words[at]);
  sentence.intent = static_cast<int>(words[at + 1]);
  sentence.rate = as_float(words[at + 2]);
  int rank[kEmbedCores][kTokens];
#pragma HLS ARRAY_PARTITION variable = rank complete dim = 0
READ_TOKENS:
  for (int t = 0; t < kTokens; ++t) {
#pragma HLS PIPELINE II = 2
    int token = static_cast<int>(words[at + kHeadWords + t]);
    sentence.slots[t] = static_cast<int>(words[at + kHeadWords + kTokens + t]);
  DIGITS:
    for (int k = kEmbedCores - 1; k >= 0; --k) {
#pragma HLS UNROLL
      const int digit = token % kVocabModes[k];
      token = token / kVocabModes[k];
      sentence.digit[k][t] = digit;
      int below = 0;
    RANK:
      for (int u = 0; u < kTokens; ++u) {
#pragma HLS UNROLL
        if (u >= t) continue;
        const bool before = sentence.digit[k][u] <= digit;
        below += before ? 1 : 0;
        rank[k][u] += before || t >= sentence.length ? 0 : 1;
      }
      rank[k][t] = below;
    }
  }
ORDER:
  for (int t = 0; t < sentence.length; ++t) {
#pragma HLS LOOP_TRIPCOUNT max = kTokens
#pragma HLS PIPELINE
  ORDER_DIGIT:
    for (int k = 0; k < kEmbedCores; ++k) {
#pragma HLS UNROLL
      sentence.order[k][rank[k][t]] = t;
    }
  }
}

/// One bank of parameters from the image, from word `at` on; returns the word after it.
template <int kSize>
int load_bank(const uint32_t* image, int at, float (&bank)[kSize]) {
LOAD_BANK:
  for (int i = 0; i < kSize; ++i) {
#pragma HLS PIPELINE
    bank[i] = as_float(image[at + i]);
  }
  return at + kSize;
}

/// One bank of parameters into the image.
template <int kSize>
int store_bank(const float (&bank)[kSize], int at, uint32_t* image) {
STORE_BANK:
  for (int i = 0; i < kSize; ++i) {
#pragma HLS PIPELINE
    image[at + i] = as_bits(bank[i]);
  }
  return at + kSize;
}

#define TTFPGA_LOAD_BANK(bank) at = load_bank(image, at, bank);
#define TTFPGA_STORE_BANK(bank) at = store_bank(bank, at, image);

inline void load_image(const uint32_t* image) {
  int at = kHashWords;
  TTFPGA_BANKS(TTFPGA_LOAD_BANK)
}

inline void store_image(uint32_t* image) {
STORE_HASH:
  for (int i = 0; i < kHashWords; ++i) image[i] = kHash[i];
  int at = kHashWords;
  TTFPGA_BANKS(TTFPGA_STORE_BANK)
}

/// Forward, backward, update for one sentence: joint, intent and slot loss into results from `at` on.
inline void train_step(const Sentence& sentence, float* results, int at, const Taps& taps) {
  run_program(kInstructions, sentence, taps);
STORE_LOSSES:
  for (int i = 0; i < kLosses; ++i) results[at + i] = losses[i];
}

/// Logits of one sentence into results: kIntents, then kTokens * kSlots, with zeros at padding.
inline void infer(const Sentence& sentence, float* results, int at) {
  run_program(kForwardInstructions, sentence, Taps{});
STORE_INTENT:
  for (int c = 0; c < kIntents; ++c) {
#pragma HLS PIPELINE
    results[at + c] = intent_logits[c];
  }
STORE_SLOTS:
  for (int t = 0; t < kTokens; ++t) {
  STORE_CLASSES:
    for (int c = 0; c < kSlots; ++c) {
#pragma HLS PIPELINE
      const float logit = t < sentence.length ? activation[kSlotLogits + t * kSlotPitch + c] : 0.0f;
      results[at + kIntents + t * kSlots + c] = logit;
    }
  }
}

}  // namespace ttfpga
