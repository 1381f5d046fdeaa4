// Multi-head attention with a padding mask, forward and backward; heads are column ranges of q, k and v.
#pragma once

#include <cmath>

#include "contract.hpp"
#include "memory.hpp"
#include "taps.hpp"

namespace ttfpga {

using HeadRows = RowMajor<kTokens, kHeadDim, kWidth>;  ///< one head's columns of q, k, v or context
using HeadScores = RowMajor<kTokens, kTokens>;         ///< one head's (queries, keys)
constexpr int kHeadScores = kTokens * kTokens;

/// In place, for each query: weights exp(s - max) / sum over the keys before `length`; 0 for padding.
inline void masked_softmax(float (&weight)[kAttention], int length) {
SOFTMAX_QUERY:
  for (int query_row = 0; query_row < kHeads * kTokens; ++query_row) {
    const int row = query_row * kTokens;
    float highest = weight[row];  // position 0 is [CLS], never padding
  SOFTMAX_MAX:
    for (int j = 1; j < kTokens; ++j) {
#pragma HLS PIPELINE
      const float score = weight[row + j];
      highest = j < length && score > highest ? score : highest;
    }
    float sum = 0.0f;
  SOFTMAX_EXP:
    for (int j = 0; j < kTokens; ++j) {
#pragma HLS PIPELINE
      const float e = j < length ? exp_f32(weight[row + j] - highest) : 0.0f;
      weight[row + j] = e;
      sum += e;
    }
  SOFTMAX_DIVIDE:
    for (int j = 0; j < kTokens; ++j) {
#pragma HLS PIPELINE
      weight[row + j] = weight[row + j] / sum;
    }
  }
}

/// Scales scores, or their gradients, by 1 / sqrt(head_dim).
inline void scale_scores(float (&scores)[kAttention]) {
  const float root = std::sqrt(static_cast<float>(kHeadDim));
SCALE:
  for (int i = 0; i < kAttention; ++i) {
#pragma HLS PIPELINE
    scores[i] = scores[i] / root;
  }
}

/// context = softmax(q k^T / sqrt(head_dim)) v, head by head; weights stay in probs[block].
inline void attention_forward(int block, int length, const Taps& taps) {
SCORES_HEAD:
  for (int h = 0; h < kHeads; ++h) {
    contract<HeadRows, Transposed<HeadRows>>(query[block], h * kHeadDim, key[block], h * kHeadDim, probs[block],
                                             h * kHeadScores);
  }
  scale_scores(probs[block]);
  tap(taps, trace::scores[block], probs[block]);
  masked_softmax(probs[block], length);
  tap(taps, trace::probs[block], probs[block]);
CONTEXT_HEAD:
  for (int h = 0; h < kHeads; ++h) {
    contract<HeadScores, HeadRows, Into::kReplace, kWidth>(probs[block], h * kHeadScores, value[block],
                                                           h * kHeadDim, context[block], h * kHeadDim);
  }
  tap(taps, trace::context[block], context[block]);
}

/// In place: dS = P (dP - sum over keys of dP P), the derivative of the softmax; padding has P = 0.
inline void softmax_backward(const float (&weight)[kAttention], float (&d_weight)[kAttention]) {
D_SOFTMAX_QUERY:
  for (int query_row = 0; query_row < kHeads * kTokens; ++query_row) {
    const int row = query_row * kTokens;
    float mean = 0.0f;
  D_SOFTMAX_MEAN:
    for (int j = 0; j < kTokens; ++j) {
#pragma HLS PIPELINE
      mean += d_weight[row + j] * weight[row + j];
    }
  D_SOFTMAX_APPLY:
    for (int j = 0; j < kTokens; ++j) {
#pragma HLS PIPELINE
      d_weight[row + j] = weight[row + j] * (d_weight[row + j] - mean);
    }
  }
}

/// d_query, d_key and d_value from d_context.
inline void attention_backward(int block, float (&d_context)[kActivation], const Taps& taps) {
  tap(taps, trace::d_context[block], d_context);
D_PROBS_HEAD:
  for (int h = 0; h < kHeads; ++h) {
    contract<HeadRows, Transposed<HeadRows>>(d_context, h * kHeadDim, value[block], h * kHeadDim, d_scores,
                                             h * kHeadScores);
    contract<Transposed<HeadScores>, HeadRows, Into::kReplace, kWidth>(
        probs[block], h * kHeadScores, d_context, h * kHeadDim, d_value, h * kHeadDim);
  }
  tap(taps, trace::d_probs[block], d_scores);
  softmax_backward(probs[block], d_scores);
  tap(taps, trace::d_scores[block], d_scores);
  scale_scores(d_scores);
D_SCORES_HEAD:
  for (int h = 0; h < kHeads; ++h) {
    contract<HeadScores, HeadRows, Into::kReplace, kWidth>(d_scores, h * kHeadScores, key[block], h * kHeadDim,
                                                           d_query, h * kHeadDim);
    contract<Transposed<HeadScores>, HeadRows, Into::kReplace, kWidth>(
        d_scores, h * kHeadScores, query[block], h * kHeadDim, d_key, h * kHeadDim);
  }
}

}  // namespace ttfpga
