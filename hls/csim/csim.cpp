// The kernel as a shared library for simulation: the same entry as in hardware, run with the arithmetic mode
// of AMD's floating-point operators, which flush denormal numbers to zero (PG060).

// One translation unit: the kernel's on-chip arrays are its own.
#include "kernel.cpp"
#include "flush_denormals.hpp"
#include "interruption.hpp"

#include <cstdio>
#include <exception>

#ifdef __SYNTHESIS__
// Tests run what only synthesis compiles, too. Nothing is counted or checked in that.
namespace ttfpga {
static uint64_t executed_trips[kInstructions], executed_cycles;
static int at_work = -1;
}
#endif

namespace {

const ttfpga::Pipeline kPipelines[] = {ttfpga::kEnginePipeline, ttfpga::kNormPipeline,
                                       ttfpga::kNonlinearPipeline, ttfpga::kUpdatePipeline};

char stopped[160];  // why the last command did not come to its end; empty if it did

}  // namespace

// The library shows these alone (it is compiled with hidden visibility).
#pragma GCC visibility push(default)
extern "C" {

/// The hash this library was built with: ttfpga::kHashWords words.
const uint32_t* ttfpga_csim_hash() { return ttfpga::kHash; }

/// Lengths in elements, so that the host can refuse a buffer of another size: image, trace.
uint32_t ttfpga_csim_image_words() { return ttfpga::kImageWords; }
uint32_t ttfpga_csim_trace_words() { return ttfpga::kTraceWords; }

/// Words of an example, and of a command's results for each example (after the status): 0 if it reads none.
uint32_t ttfpga_csim_example_words() { return ttfpga::kExampleWords; }
uint32_t ttfpga_csim_result_words(uint32_t command) {
  if (command == ttfpga::kStep) return sizeof(ttfpga::losses) / sizeof(float);
  return command == ttfpga::kInfer ? ttfpga::kLogits : 0;
}

/// Trips of each instruction since the library was loaded, and how many instructions there are.
const uint64_t* ttfpga_csim_trips() { return ttfpga::executed_trips; }
uint32_t ttfpga_csim_instructions() { return ttfpga::kInstructions; }

/// Cycles of the loop since the library was loaded.
uint64_t ttfpga_csim_cycles() { return ttfpga::executed_cycles; }

/// What the cycle model needs to know of the units, and how many there are.
const ttfpga::Pipeline* ttfpga_csim_pipelines() { return kPipelines; }
uint32_t ttfpga_csim_pipeline_count() { return sizeof(kPipelines) / sizeof(kPipelines[0]); }

/// Why the last command stopped amid its work: an access outside an array, or an interruption. Null if it came
/// to its end.
const char* ttfpga_csim_error() { return stopped[0] ? stopped : nullptr; }

/// The instruction at which it stopped.
int32_t ttfpga_csim_instruction() { return ttfpga::at_work; }

/// One kernel command; trace_out and overrides may be null.
void ttfpga_csim_run(uint32_t command, uint32_t n_examples, const uint32_t* examples, uint32_t* image,
                     float* results, float* trace_out, const uint32_t* overrides) {
  const ttfpga::FlushDenormals flush;
  stopped[0] = 0;
  try {
    ttfpga_kernel(command, n_examples, examples, image, results, trace_out, overrides);
  } catch (const std::exception& error) {
    // The callers are C.
    std::snprintf(stopped, sizeof(stopped), "%s", error.what());
  }
}

/// The same for the thread that handles Python's signals, which it does not before this returns.
void ttfpga_csim_run_interruptible(uint32_t command, uint32_t n_examples, const uint32_t* examples,
                                   uint32_t* image, float* results, float* trace_out,
                                   const uint32_t* overrides) {
  const ttfpga::StopAtInterrupt stop;
  ttfpga_csim_run(command, n_examples, examples, image, results, trace_out, overrides);
}
}
#pragma GCC visibility pop
