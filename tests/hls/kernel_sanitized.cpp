// The kernel's top function under the sanitizers: every command on pseudo-random images, examples and
// overrides, all buffers exactly as long as the interface says.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "kernel.cpp"

namespace {

using ttfpga::kExampleWords;
using ttfpga::kHashWords;
using ttfpga::kImageWords;
using ttfpga::kLogits;

std::uint32_t state = 1u;

std::uint32_t draw() {
  state = state * 1664525u + 1013904223u;
  return state >> 8;
}

std::uint32_t below(int bound) { return draw() % static_cast<std::uint32_t>(bound); }

std::uint32_t small_number() {
  const float number = static_cast<float>(draw()) / 16777216.0f - 0.5f;
  return ttfpga::as_bits(number);
}

/// One record; `length` positions are the sentence, the rest is noise that the kernel must not trust.
void make_example(std::uint32_t* words, std::uint32_t length) {
  words[0] = length;
  words[1] = below(ttfpga::kIntents);
  words[2] = ttfpga::as_bits(1e-3f);
  int vocabulary = 1;
  for (int mode : ttfpga::kVocabModes) vocabulary *= mode;
  for (int t = 0; t < ttfpga::kTokens; ++t) {
    words[3 + t] = below(vocabulary);
    words[3 + ttfpga::kTokens + t] = below(ttfpga::kSlots);
  }
  words[3] = static_cast<std::uint32_t>(vocabulary - 1);
  words[3 + ttfpga::kTokens] = static_cast<std::uint32_t>(ttfpga::kSlots - 1);
}

int failures = 0;

void expect(bool condition, const char* what) {
  if (!condition) {
    std::printf("FAILED: %s\n", what);
    ++failures;
  }
}

}  // namespace

int main() {
  // Vectors of the exact lengths: the sanitizer sees one element too many.
  std::vector<std::uint32_t> image(kImageWords), back(kImageWords);
  for (int i = 0; i < kHashWords; ++i) image[static_cast<std::size_t>(i)] = ttfpga::kHash[i];
  for (std::size_t i = kHashWords; i < image.size(); ++i) image[i] = small_number();

  constexpr std::uint32_t kExamples = 3;
  std::vector<std::uint32_t> examples(kExamples * kExampleWords);
  make_example(&examples[0], 2);
  make_example(&examples[kExampleWords], ttfpga::kTokens);
  make_example(&examples[2 * kExampleWords], 2 + below(ttfpga::kTokens - 1));

  std::vector<float> status(1), losses(1 + 3 * kExamples), logits(1 + kExamples * kLogits);
  std::vector<float> trace(ttfpga::kTraceWords, -1.0f);
  std::vector<std::uint32_t> overrides(ttfpga::kTraceWords, ttfpga::kKeep);
  for (std::size_t i = 0; i < overrides.size(); i += 7) overrides[i] = small_number();

  ttfpga_kernel(ttfpga::kLoad, 0, nullptr, image.data(), status.data(), nullptr, nullptr);
  expect(status[0] == ttfpga::kDone, "LOAD takes its own layout");
  ttfpga_kernel(ttfpga::kStore, 0, nullptr, back.data(), status.data(), nullptr, nullptr);
  expect(back == image, "STORE gives back what LOAD took");

  ttfpga_kernel(ttfpga::kStep, kExamples, examples.data(), nullptr, losses.data(), nullptr, nullptr);
  expect(losses[0] == ttfpga::kDone && losses[3 * kExamples] > 0.0f, "STEP without trace");
  ttfpga_kernel(ttfpga::kStep, kExamples, examples.data(), nullptr, losses.data(), trace.data(), nullptr);
  expect(losses[0] == ttfpga::kDone && trace.back() != -1.0f, "STEP with trace");
  ttfpga_kernel(ttfpga::kStep, kExamples, examples.data(), nullptr, losses.data(), trace.data(),
                overrides.data());
  expect(losses[0] == ttfpga::kDone, "STEP with overrides");
  ttfpga_kernel(ttfpga::kInfer, kExamples, examples.data(), nullptr, logits.data(), nullptr, nullptr);
  expect(logits[0] == ttfpga::kDone, "INFER");
  ttfpga_kernel(ttfpga::kStore, 0, nullptr, back.data(), status.data(), nullptr, nullptr);
  expect(back != image, "steps change the parameters");

  image[0] ^= 1u;
  ttfpga_kernel(ttfpga::kLoad, 0, nullptr, image.data(), status.data(), nullptr, nullptr);
  expect(status[0] == ttfpga::kWrongHash, "LOAD refuses another hash");
  ttfpga_kernel(99, 0, nullptr, nullptr, status.data(), nullptr, nullptr);
  expect(status[0] == ttfpga::kUnknownCommand, "an unknown command is refused");
  if (failures == 0) std::printf("clean\n");
  return failures;
}
