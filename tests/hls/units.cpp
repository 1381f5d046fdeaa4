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

/// An instruction and a sentence from what `units_run` takes.
void take(const int* fields, float scale, const int* words, float rate, ttfpga::Instruction& job,
          ttfpga::Sentence& sentence) {
  job = {};
  for (int* field : {&job.op, &job.rows, &job.cols, &job.stream, &job.batches, &job.interval, &job.load,
                     &job.load_interval, &job.flags, &job.order}) {
    *field = *fields++;
  }
  job.scale = scale;
  for (ttfpga::Operand& operand : job.operand) {
    for (int* field : {&operand.array, &operand.base, &operand.row, &operand.batch, &operand.digit}) {
      *field = *fields++;
    }
  }
  sentence.length = *words++;
  sentence.intent = *words++;
  sentence.rate = rate;
  for (int t = 0; t < ttfpga::kTokens; ++t) {
    sentence.slots[t] = *words++;
    for (int k = 0; k < ttfpga::kEmbedCores; ++k) {
      sentence.digit[k][t] = *words++;
      sentence.order[k][t] = *words++;
    }
  }
}

}  // namespace

extern "C" {

/// Called by the sanitizer for each of its findings, which it writes to the standard error.
void __ubsan_on_report() { ++findings; }

/// How many there have been.
uint32_t units_findings() { return findings; }

/// The array of that number.
float* units_array(uint32_t number) { return ttfpga::kArrays[number].first; }

/// Executes an instruction on the unit it is for; returns its trips.
///
/// fields: op, extents, intervals and the like in the order below, then five numbers an operand.
/// words: length, intent, then for each token its slot, its digits, and the token at its place in each order.
uint32_t units_run(const int* fields, float scale, const int* words, float rate) {
  using namespace ttfpga;
  Instruction job;
  Sentence sentence;
  take(fields, scale, words, rate, job, sentence);
  static Engine engine;
  static Norm norm;
  static Nonlinear nonlinear;
  static Update update;
  if (job.op <= kToTile) return run(engine, job, sentence);
  if (job.op <= kNormBackward) return run(norm, job, sentence);
  return job.op == kUpdate ? run(update, job, sentence) : run(nonlinear, job, sentence);
}

/// Executes an instruction of the norm unit, given as for `units_run`. Returns the fewest trips beyond those of
/// norm_settle that a row has from its last in one pass to its first in the next.
int units_norm_settled(const int* fields, float scale, const int* words, float rate) {
  using namespace ttfpga;
  Instruction job;
  Sentence sentence;
  take(fields, scale, words, rate, job, sentence);
  static Norm norm;
  int fewest = 1 << 30, trip = 0, last[kTokens] = {}, last_pass[kTokens];
  for (int& pass : last_pass) pass = kNone;
  for (norm.begin(job, sentence); norm.busy; ++trip) {
    if (norm.row < norm.rows && norm.chunk < norm.chunks) {
      int &at = last[norm.row], &pass = last_pass[norm.row];
      const int more = trip - at - norm_settle(pass);
      if (pass != kNone && pass != norm.pass && more < fewest) fewest = more;
      at = trip;
      pass = norm.pass;
    }
    norm.step(sentence);
  }
  return fewest;
}
}
