// Multi-head attention with a padding mask, forward and backward; heads are column ranges of q, k and v.
#pragma once

#include <cmath>

#include "contract.hpp"
#include "memory.hpp"

namespace ttfpga {

using HeadRows = RowMajor<kTokens, kHeadDim, kWidth>;  ///< one head's columns of q, k, v or context
using HeadScores = RowMajor<kTokens, kTokens>;         ///< one head's (queries, keys)

/// In place, for each query of the scores at w0 of the attention pool: weights exp(s - max) / sum over the keys before `length`; 0 for padding.
inline void masked_softmax(int w0, int length) {
SOFTMAX_QUERY:
  for (int query_row = 0; query_row < kHeads * kTokens; ++query_row) {
    const int row = w0 + query_row * kTokens;
    float highest = attention[row];  // position 0 is [CLS], never padding
  SOFTMAX_MAX:
    for (int j = 1; j < kTokens; ++j) {
#pragma HLS PIPELINE
      const float score = attention[row + j];
      highest = j < length && score > highest ? score : highest;
    }
    float sum = 0.0f;
  SOFTMAX_EXP:
    for (int j = 0; j < kTokens; ++j) {
#pragma HLS PIPELINE
      const float e = j < length ? exp_f32(attention[row + j] - highest) : 0.0f;
      attention[row + j] = e;
      sum += e;
    }
  SOFTMAX_DIVIDE:
    for (int j = 0; j < kTokens; ++j) {
#pragma HLS PIPELINE
      attention[row + j] = attention[row + j] / sum;
    }
  }
}

/// Scales the scores at s0, or their gradients, by 1 / sqrt(head_dim).
inline void scale_scores(int s0) {
  const float root = std::sqrt(static_cast<float>(kHeadDim));
SCALE:
  for (int i = 0; i < kAttention; ++i) {
#pragma HLS PIPELINE
    attention[s0 + i] = attention[s0 + i] / root;
  }
}

/// context = softmax(q k^T / sqrt(head_dim)) v, head by head; the weights stay in probs.
inline void attention_forward(int block, Pass pass, int length, const Taps& taps) {
  const int q0 = place::query[pass][block], k0 = place::key[pass][block], v0 = place::value[pass][block];
  const int p0 = place::probs[pass][block], context0 = place::context[pass][block];
SCORES_HEAD:
  for (int h = 0; h < kHeads; ++h) {
    contract<HeadRows, Transposed<HeadRows>>(activation, q0 + h * kHeadDim, activation, k0 + h * kHeadDim,
                                             attention, p0 + h * kHeadScores);
  }
  scale_scores(p0);
  tap(taps, trace::scores[block], attention, p0, kAttention);
  masked_softmax(p0, length);
  tap(taps, trace::probs[block], attention, p0, kAttention);
CONTEXT_HEAD:
  for (int h = 0; h < kHeads; ++h) {
    contract<HeadScores, HeadRows, Into::kReplace, kWidth>(attention, p0 + h * kHeadScores, activation,
                                                           v0 + h * kHeadDim, activation,
                                                           context0 + h * kHeadDim);
  }
  tap(taps, trace::context[block], activation, context0, kActivation);
}

/// In place: dS = P (dP - sum over keys of dP P), the derivative of the softmax; padding has P = 0.
inline void softmax_backward(int p0, int d0) {
D_SOFTMAX_QUERY:
  for (int query_row = 0; query_row < kHeads * kTokens; ++query_row) {
    const int row = p0 + query_row * kTokens, d_row = d0 + query_row * kTokens;
    float mean = 0.0f;
  D_SOFTMAX_MEAN:
    for (int j = 0; j < kTokens; ++j) {
#pragma HLS PIPELINE
      mean += attention[d_row + j] * attention[row + j];
    }
  D_SOFTMAX_APPLY:
    for (int j = 0; j < kTokens; ++j) {
#pragma HLS PIPELINE
      attention[d_row + j] = attention[row + j] * (attention[d_row + j] - mean);
    }
  }
}

/// d_query, d_key and d_value from d_context, which begins at dc0 of the activation pool.
inline void attention_backward(int block, int dc0, const Taps& taps) {
  const int q0 = place::query[kBackward][block], k0 = place::key[kBackward][block];
  const int v0 = place::value[kBackward][block], p0 = place::probs[kBackward][block];
  const int ds0 = place::d_scores;
  tap(taps, trace::d_context[block], activation, dc0, kActivation);
D_PROBS_HEAD:
  for (int h = 0; h < kHeads; ++h) {
    contract<HeadRows, Transposed<HeadRows>>(activation, dc0 + h * kHeadDim, activation, v0 + h * kHeadDim,
                                             attention, ds0 + h * kHeadScores);
    contract<Transposed<HeadScores>, HeadRows, Into::kReplace, kWidth>(
        attention, p0 + h * kHeadScores, activation, dc0 + h * kHeadDim, activation,
        place::d_value + h * kHeadDim);
  }
  tap(taps, trace::d_probs[block], attention, ds0, kAttention);
  softmax_backward(p0, ds0);
  tap(taps, trace::d_scores[block], attention, ds0, kAttention);
  scale_scores(ds0);
D_SCORES_HEAD:
  for (int h = 0; h < kHeads; ++h) {
    contract<HeadScores, HeadRows, Into::kReplace, kWidth>(attention, ds0 + h * kHeadScores, activation,
                                                           k0 + h * kHeadDim, activation,
                                                           place::d_query + h * kHeadDim);
    contract<Transposed<HeadScores>, HeadRows, Into::kReplace, kWidth>(
        attention, ds0 + h * kHeadScores, activation, q0 + h * kHeadDim, activation,
        place::d_key + h * kHeadDim);
  }
}

}  // namespace ttfpga
