// The kernel's units as a shared library, for tests: one instruction at a time on arrays that the caller fills.
#include <initializer_list>

#include "engine.hpp"
#include "nonlinear.hpp"
#include "norm.hpp"
#include "update.hpp"

namespace {

uint32_t findings = 0;

/// Executes an instruction on its unit; returns its trips.
template <class Unit>
uint32_t run(Unit& unit, const ttfpga::Instruction& job, const ttfpga::Sentence& sentence) {
  uint32_t trips = 0;
  for (unit.begin(job, sentence); unit.busy; ++trips) unit.step(sentence);
  return trips;
}

}  // namespace

extern "C" {

/// Called by the sanitizer for each of its findings, which it writes to the standard error.
void __ubsan_on_report() { ++findings; }

/// How many there have been.
uint32_t units_findings() { return findings; }

/// The array of that number.
float* units_array(uint32_t number) { return ttfpga::kArrays[number]; }

/// Executes an instruction on the unit it is for; returns its trips.
///
/// fields: op, extents, intervals and the like in the order below, then five numbers an operand.
/// words: length, intent, then for each token its slot, its digits, and the token at its place in each order.
uint32_t units_run(const int* fields, float scale, const int* words, float rate) {
  using namespace ttfpga;
  Instruction job = {};
  for (int* field : {&job.op, &job.rows, &job.cols, &job.stream, &job.batches, &job.interval, &job.load,
                     &job.load_interval, &job.flags, &job.order}) {
    *field = *fields++;
  }
  job.scale = scale;
  for (Operand& operand : job.operand) {
    for (int* field : {&operand.array, &operand.base, &operand.row, &operand.batch, &operand.digit}) {
      *field = *fields++;
    }
  }

  Sentence sentence;
  sentence.length = *words++;
  sentence.intent = *words++;
  sentence.rate = rate;
  for (int t = 0; t < kTokens; ++t) {
    sentence.slots[t] = *words++;
    for (int k = 0; k < kEmbedCores; ++k) {
      sentence.digit[k][t] = *words++;
      sentence.order[k][t] = *words++;
    }
  }

  static Engine engine;
  static Norm norm;
  static Nonlinear nonlinear;
  static Update update;
  if (job.op <= kToTile) return run(engine, job, sentence);
  if (job.op <= kNormBackward) return run(norm, job, sentence);
  return job.op == kUpdate ? run(update, job, sentence) : run(nonlinear, job, sentence);
}
}
