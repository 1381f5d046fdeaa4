// The accelerator's top function: commands LOAD, STEP, INFER and STORE over AXI. Parameters, gradients and
// activations stay in on-chip arrays from one command to the next.
#include "step.hpp"

namespace ttfpga {

enum Command : uint32_t { kLoad = 0, kStep = 1, kInfer = 2, kStore = 3 };

// The first word of results; small whole numbers, exact as floats.
constexpr float kDone = 0.0f;
constexpr float kWrongHash = 1.0f;
constexpr float kUnknownCommand = 2.0f;

/// Whether the image was packed for this kernel.
inline bool hash_matches(const uint32_t* image) {
  bool same = true;
HASH:
  for (int i = 0; i < kHashWords; ++i) same = same && image[i] == kHash[i];
  return same;
}

}  // namespace ttfpga

/// One command.
///
/// examples: n_examples records of kExampleWords words (STEP, INFER).
/// image: the hash, then all banks of parameters (read by LOAD, written by STORE).
/// results: a status, then for STEP kLosses losses an example, for INFER kLogits numbers an example.
extern "C" void ttfpga_kernel(uint32_t command, uint32_t n_examples, const uint32_t* examples, uint32_t* image,
                              float* results
#if TTFPGA_TAPS
                              ,
                              float* trace_out, const uint32_t* overrides
#endif
) {
#pragma HLS INTERFACE m_axi port = examples offset = slave bundle = gmem0
#pragma HLS INTERFACE m_axi port = image offset = slave bundle = gmem1
#pragma HLS INTERFACE m_axi port = results offset = slave bundle = gmem0
#if TTFPGA_TAPS
#pragma HLS INTERFACE m_axi port = trace_out offset = slave bundle = gmem2
#pragma HLS INTERFACE m_axi port = overrides offset = slave bundle = gmem3
#endif
#pragma HLS INTERFACE s_axilite port = command
#pragma HLS INTERFACE s_axilite port = n_examples
#pragma HLS INTERFACE s_axilite port = return
  using namespace ttfpga;
  TTFPGA_BIND_MEMORY
  results[0] = kDone;
#if TTFPGA_TAPS
  const Taps taps = {trace_out, overrides};
#else
  const Taps taps = {};
#endif

  if (command == kLoad) {
    if (hash_matches(image)) {
      load_image(image);
    } else {
      results[0] = kWrongHash;
    }
  } else if (command == kStore) {
    store_image(image);
  } else if (command == kStep || command == kInfer) {
  EXAMPLES:
    for (uint32_t n = 0; n < n_examples; ++n) {
#pragma HLS loop_tripcount min = 1 max = 4096
      Sentence sentence;
#pragma HLS ARRAY_PARTITION variable = sentence.slots complete
#pragma HLS ARRAY_PARTITION variable = sentence.digit complete dim = 0
#pragma HLS ARRAY_PARTITION variable = sentence.order complete dim = 0
      read_sentence(examples, static_cast<int>(n) * kExampleWords, sentence);
      if (command == kStep) {
        train_step(sentence, results, 1 + static_cast<int>(n) * kLosses, taps);
      } else {
        infer(sentence, results, 1 + static_cast<int>(n) * kLogits);
      }
    }
  } else {
    results[0] = kUnknownCommand;
  }
}
