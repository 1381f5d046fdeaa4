// Runs the Verilog of all bodies on vectors of operands, new ones every cycle, and keeps their results.
//
// Arguments: vectors, the file of operands, the file for results. Body after body, as bodies.inc lists them, the
// one holds x and n of all vectors, the other y.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "bodies.cc"

/// A body's ports, their words, and the cycles from operands to results.
struct Ports {
  uint32_t *x, *n, *y;
  long floats, integers, results, cycles;
  std::vector<uint32_t> operands, found;
};

int main(int, char** arguments) {
  const long vectors = std::atol(arguments[1]);
  cxxrtl_design::p_bodies top;
  std::vector<Ports> bodies = {
#include "bodies.inc"
  };
  std::FILE* file = std::fopen(arguments[2], "rb");
  if (!file) return 2;
  long longest = 0;
  for (Ports& body : bodies) {
    body.operands.resize(vectors * (body.floats + body.integers));
    body.found.resize(vectors * body.results);
    if (std::fread(body.operands.data(), 4, body.operands.size(), file) != body.operands.size()) return 2;
    if (body.cycles > longest) longest = body.cycles;
  }
  std::fclose(file);

  // Before the first edge there is nothing in the registers; after the edge of cycle t they hold what entered
  // at t, and results are those of cycles - 1 before it. A body without registers has its own at once.
  for (long t = 0; t < vectors + longest; ++t) {
    for (Ports& body : bodies) {
      if (t >= vectors) continue;
      const uint32_t* const x = body.operands.data() + t * body.floats;
      const uint32_t* const n = body.operands.data() + vectors * body.floats + t * body.integers;
      std::memcpy(body.x, x, 4 * body.floats);
      if (body.integers) std::memcpy(body.n, n, 4 * body.integers);
    }
    for (const bool clock : {false, true}) {
      top.p_clk.set(clock);
      top.step();
    }
    for (Ports& body : bodies) {
      const long of = t - (body.cycles ? body.cycles - 1 : 0);
      if (of < 0 || of >= vectors) continue;
      std::memcpy(body.found.data() + of * body.results, body.y, 4 * body.results);
    }
  }

  file = std::fopen(arguments[3], "wb");
  if (!file) return 2;
  for (const Ports& body : bodies) {
    if (std::fwrite(body.found.data(), 4, body.found.size(), file) != body.found.size()) return 2;
  }
  return std::fclose(file) ? 2 : 0;
}
