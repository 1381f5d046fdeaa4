"""The lint of the kernel sources: each rule finds its breach at its line, and clean code passes.

A case is a snippet; the line that must be flagged ends in ``// <-``.
"""

from __future__ import annotations

import builtins
from pathlib import Path

import pytest

from fpga_bridge.kernel.lint import RULES, Finding, lint
from ttjax.errors import UserError

BAD = [
    ("parse", "float f(float x) { return y; }  // <-"),
    ("recursion", "void f(int);\ntemplate <int N> int f(int x, int y = 0) { return f<N>(x); }  // <-"),
    ("parse", '#include "absent.hpp"  // <-'),
    ("heap", "int* f() { return new int[4]; }  // <-"),
    ("heap", "void f(int* p) { delete p; }  // <-"),
    ("heap", "#include <cstdlib>\nvoid* f() { return malloc(8); }  // <-"),
    ("recursion", "int f(int n) { return n ? f(n - 1) : 0; }  // <-"),
    ("recursion", "int g(int n);\nint f(int n) { return g(n); }\nint g(int n) { return f(n); }  // <-"),
    ("recursion", "template <typename T> T f(T x) { return f(x); }  // <-"),
    ("recursion", "template <int N> int f(int x) { return f<N>(x); }  // <-"),
    (
        "recursion",
        "template <int N> int g();\nint f() { return g<2>(); }\ntemplate <int> int g() { return f(); } // <-",
    ),
    ("recursion", "template <int N> int f(int n) { return n ? f<N + 0>(n - 1) : 0; }  // <-"),
    ("recursion", "struct A { int f(int n) { return n ? this->f(n - 1) : 0; } };  // <-"),
    ("std", "#include <vector>\nvoid f() { std::vector<float> v; }  // <-"),
    ("std", "#include <cmath>\nusing namespace std;  // <-"),
    ("std", "#include <cmath>\nnamespace s = std;  // <-"),
    ("std", "#include <cmath>\ntemplate <typename T> T f(T x) { return std::exp(x); }  // <-"),
    ("std", "#include <array>\nstruct A { std::array<float, 4> lanes; };  // <-"),
    ("library", "#include <math.h>\nfloat f(float x) { return tanhf(x); }  // <-"),
    ("library", "float f(float x) { return __builtin_sqrtf(x); }  // <-"),
    ("virtual", "struct A { virtual void f() {} };  // <-"),
    ("virtual", "struct A {};\nstruct B : virtual A {};  // <-"),
    ("exception", "void f() { throw 1; }  // <-"),
    ("exception", "void f() { try { } catch (int) { } }  // <-"),
    ("rtti", "struct A {};\nstruct B : A {};\nA* f(B* b) { return dynamic_cast<A*>(b); }  // <-"),
    ("function-pointer", "float (*pointer)(float);  // <-"),
    ("function-pointer", "typedef float (*table[2])(float);  // <-"),
    ("function-pointer", "float f(float (&g)(float)) { return g(1.0f); }  // <-"),
    ("function-pointer", "struct A { int x; };\nint A::*member;  // <-"),
    (
        "function-pointer",
        "int g(int);\ntemplate <typename F> int f(F h) { return h(1); }\nint k() { return f(g); }  // <-",
    ),
    ("pointer-cast", "float f(const int* p) { return *reinterpret_cast<const float*>(p); }  // <-"),
    ("pointer-cast", "float f(int x) { return reinterpret_cast<float&>(x); }  // <-"),
    ("pointer-cast", "float f(const int* p) { return *(const float*)p; }  // <-"),
    ("pointer-cast", "#include <cstdint>\nuint64_t f(int* p) { return (uint64_t)p; }  // <-"),
    ("pointer-cast", "float* f(void* p) { return static_cast<float*>(p); }  // <-"),
    ("pointer-cast", "int* f(const int* p) { return const_cast<int*>(p); }  // <-"),
    ("pointer-cast", "template <typename T> T* f(float* p) { return (T*)p; }  // <-"),
    ("pointer-to-pointer", "int f(int** p) { return **p; }  // <-"),
    ("pointer-to-pointer", "typedef float* rows[4];\nfloat f(rows* p) { return (*p)[0][0]; }  // <-"),
    ("pointer-to-pointer", "struct A {\n  A* next;  // <-\n};\nA* f(A* head) { return head->next->next; }"),
    ("pointer-to-pointer", "struct A { const int* p[2]; };\nstruct B { A a; };\nint f(B* b);  // <-"),
    ("varargs", "int f(int n, ...);  // <-"),
    ("varargs", "template <typename T> T f(T x, ...) { return x; }  // <-"),
    ("asm", 'void f() { asm volatile("nop"); }  // <-'),
    ("asm", 'asm(".align 4");  // <-'),
    ("asm", 'int f() asm("g");  // <-'),
    ("thread-local", "thread_local int n;  // <-"),
    ("thread-local", "int f() { static __thread int n; return ++n; }  // <-"),
    ("loop", "void f(int n) { while (n) { --n; } }  // <-"),
    ("loop", "void f(int n) { do { --n; } while (n); }  // <-"),
    ("loop", "int f(const int (&a)[4]) { int s = 0; for (int x : a) s += x; return s; }  // <-"),
    ("loop", "void f() { again: goto again; }  // <-"),
    ("loop", "template <typename T> void f(T n) { while (n > 0) --n; }  // <-"),
    ("loop-label", "void f() { for (int i = 0; i < 4; ++i) {} }  // <-"),
    ("loop-label", "void f() {\nrows: for (int i = 0; i < 4; ++i)\nfor (int j = 0; j < 4; ++j) {}  // <-\n}"),
    ("loop-bound", "void f() { rows: for (;;) {} }  // <-"),
    ("loop-bound", "void f(int n) { rows: for (int i = 0; i < n; ++i) {} }  // <-"),
    ("loop-bound", "struct A { int n; };\nvoid f(A a) { rows: for (int i = 0; i < a.n; ++i) {} }  // <-"),
    (
        "loop-bound",
        "void f(int n) {\nrows: for (int i = 0; i < n; ++i) {  // <-\n"
        "cols: for (int j = 0; j < n; ++j) {\n#pragma HLS loop_tripcount max=4\n}\n}\n}",
    ),
    (
        "loop-bound",
        "void f() {\nouter: for (int n = 8; n > 1; n /= 2) {\n#pragma HLS unroll factor=2\n"
        "inner: for (int i = 0; i < n; ++i) {}  // <-\n}\n}",
    ),
    (
        "loop-bound",
        "#define INLINE __attribute__((always_inline)) inline\nconstexpr int rows = 3;\n"
        "INLINE void f(int n) { rows: for (int i = 0; i < n; ++i) {} }  // <-",
    ),
    (
        "pipelined-loop",
        "void f(int n) {\nrows: for (int i = 0; i < 4; ++i) {\n#pragma HLS PIPELINE II = 1\n"
        "cols: for (int j = 0; j < n; ++j) {  // <-\n#pragma HLS loop_tripcount max=4\n}\n}\n}",
    ),
    (
        "pipelined-loop",
        "void f(int n) {\n#pragma HLS pipeline\nrows: for (int i = 0; i < 4; ++i) {\n"
        "cols: for (int j = 0; j < n; ++j) {  // <-\n#pragma HLS loop_tripcount max=4\n"
        "#pragma HLS unroll factor=2\n}\n}\n}",
    ),
    (
        "pipelined-loop",
        "void h(int n) {\ncols: for (int j = 0; j < n; ++j) {  // <-\n#pragma HLS LOOP_TRIPCOUNT\n}\n}\n"
        "struct A { void step(int n) { h(n); } };\ntemplate <class U> void g(U& u, int n) { u.step(n); }\n"
        "void f(A& a, int n) {\nrows: for (int i = 0; i < 4; ++i) {\n#pragma HLS pipeline\ng(a, n);\n}\n}",
    ),
    (
        "pipelined-division",
        "void f(int* p, int n) {\nrows: for (int i = 0; i < 4; ++i) {\n#pragma HLS PIPELINE II = 1\n"
        "p[i] = (i + n - 1) / n;  // <-\n}\n}",
    ),
    ("pipelined-division", "int f(unsigned char n) {\n#pragma HLS pipeline\nreturn 7 % (n + 1);  // <-\n}"),
    (
        "pipelined-division",
        "void f(int* p, int n) {\n#pragma HLS pipeline\nrows: for (int i = 0; i < n; ++i) {\n"
        "#pragma HLS loop_tripcount max=4\n#pragma HLS unroll\np[i] /= n;  // <-\n}\n}",
    ),
    (
        "pipelined-division",
        "#define SHARE(x, n) ((x) / (n))\nstruct A { int n; void step() { n = SHARE(8, n); } };  // <-\n"
        "template <class U> void g(U& u) { u.step(); }\n"
        "void f(A& a) {\nrows: for (int i = 0; i < 4; ++i) {\n#pragma HLS pipeline\ng(a);\n}\n}",
    ),
    (
        "pipelined-division",
        "void f(int* p, int n) {\nrows: for (int i = 0; i < 64 / n; ++i) {  // <-\n"
        "#pragma HLS loop_tripcount max=4\n#pragma HLS pipeline\np[i] = 0;\n}\n}",
    ),
    ("double", "float f(float x) { return x * 0.5; }  // <-"),
    ("double", "template <typename T> T f(T x) { return x * 0.5; }  // <-"),
    ("double", "double f(float x);  // <-"),
    ("double", "template <typename T> T g();\nvoid f() { g<double>(); }  // <-"),
    ("double", "#include <math.h>\nfloat f(float x) { return ::sqrt(x + 1) + sqrt(double(x)); }  // <-"),
    ("array-size", "extern float weights[];  // <-"),
    ("array-size", "void f(int n) { float a[n]; a[0] = 1.0f; }  // <-"),
]

GOOD = """
#include <cmath>
#include <cstdint>

constexpr int rows = 4;
constexpr int half(int n) { return n / 2; }
constexpr int levels(int n) { return n <= 1 ? 0 : 1 + levels((n + 1) / 2); }
constexpr int largest(int n) {
  int best = 1;
  for (int d = 2; d < n; ++d) best = n % d == 0 ? d : best;
  return best;
}
enum { cols = 3 };
static float weights[rows][cols];
union Bits { float f; std::uint32_t u; };
struct Shape { static constexpr int depth = 5; };
struct Port { float* at; };
static float* const both[2] = {weights[0], weights[1]};
inline float first(const Port& port, const float (*row)[cols]) { return port.at[0] + row[0][0] + both[0][0]; }
inline unsigned whole(float x) { return static_cast<unsigned>(x) + (unsigned)x + unsigned(x); }

template <int N> float tree(const float (&x)[8], int at) {
  return tree<N / 2>(x, at) + tree<N / 2>(x, at + N / 2);
}
template <> inline float tree<1>(const float (&x)[8], int at) { return x[at]; }

template <int N> float sum(float (&x)[N], int width) {
sum_level:
  for (int n = width == 0 ? N : N / 2; n > 1; n = (n + 1) / 2) {
#pragma HLS UNROLL
  sum_add:
    for (int i = 0; i < n / 2; ++i) x[i] += x[n - 1 - i];
  }
  return x[0];
}
template <int N> float sum(float (&x)[N]) { return sum(x, 0); }

template <int N, typename S> void scale(float (&x)[N], float by) {
scale_loop:
  for (int i = 0; i < N; ++i) {
#pragma HLS pipeline II=1
    x[i] = std::sqrt(x[i]) * by + 0.5f;
  }
scale_depth:
  for (int i = 0; i < S::depth - 1; ++i) x[0] += 1.0f;
}

inline float shifted(const float (&x)[rows], int n) {
  float total = 0.0f;
shifts:
  for (int i = 0; i < rows; ++i) {
#pragma HLS pipeline
  known_when_inlined:
    for (int j = 0; j < n; ++j) {
#pragma HLS LOOP_TRIPCOUNT max=2
#pragma HLS UNROLL
      total += x[i];
    }
  }
not_pipelined:
  for (int i = 0; i < rows; ++i) {
#pragma HLS pipeline off
  rolled:
    for (int j = 0; j < n; ++j) {
#pragma HLS LOOP_TRIPCOUNT max=2
      total += x[i];
    }
  }
  return total;
}

constexpr int modes[] = {5, 7};
inline void divided(int (&x)[rows], float (&y)[rows], int n, float by) {
by_constants:
  for (int i = 0; i < rows; ++i) {
#pragma HLS pipeline
    x[i] = (x[i] + half(cols)) / cols % 7;
    y[i] = y[i] / by;
  by_counters:
    for (int k = 0; k < 2; ++k) {
#pragma HLS UNROLL
      x[i] /= k + 1;
      x[i] %= modes[k];
    }
  times:  // how often this is laid out is known when n is
    for (int k = 0; k < 12 / n; ++k) {
#pragma HLS LOOP_TRIPCOUNT max=2
#pragma HLS UNROLL
      x[i] += k;
    }
  }
slow:
  for (int i = 0; i < rows; ++i) x[i] = x[i] / n;
}

#ifndef __SYNTHESIS__
#include <vector>
inline double simulation_only() { return std::vector<double>(3)[0]; }
#endif

extern "C" void kernel(const float* input, int n, float* output) {
#pragma HLS interface m_axi port=input
  float lane[rows] = {};
examples:
  for (int e = 0; e < n; ++e) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8
    scale<rows, Shape>(lane, input[e]);
  triangle:
    for (int i = rows - 1, j = 0; i > j && i >= half(cols) - levels(1); --i) {
      auto add = [](float a, float b) { return a + b; };
      output[e] = add(lane[i], weights[i][0]) + sum(lane);
    }
  }
}
"""


def write(folder: Path, text: str, name: str = "kernel.cpp") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(("rule", "snippet"), BAD)
def test_each_breach_is_found_at_its_line(tmp_path: Path, rule: str, snippet: str) -> None:
    source = write(tmp_path, snippet)
    line = next(n for n, text in enumerate(snippet.splitlines(), 1) if text.rstrip().endswith("// <-"))
    assert (source, line, rule) in [(f.file, f.line, f.rule) for f in lint([source])]


def test_every_rule_has_a_case() -> None:
    assert {rule for rule, _ in BAD} == set(RULES)


def test_clean_code_has_no_findings(tmp_path: Path) -> None:
    assert lint([write(tmp_path, GOOD)]) == []


def test_a_recursion_over_two_files_is_found(tmp_path: Path) -> None:
    write(tmp_path, "#pragma once\nint f(int n);\nint g(int n);\n", "both.hpp")
    first = write(tmp_path, '#include "both.hpp"\nint f(int n) { return g(n); }\n', "first.cpp")
    second = write(tmp_path, '#include "both.hpp"\nint g(int n) { return f(n); }\n', "second.cpp")
    findings = lint([first, second])
    assert [(f.rule, f.message) for f in findings] == [("recursion", "recursion: f → g → f")]


def test_included_folders_are_own_code_and_not_looked_at(tmp_path: Path) -> None:
    generated = tmp_path / "generated"
    generated.mkdir()
    write(generated, "#pragma once\ninline float scaled(float x) { return x * 0.5; }\n", "sizes.hpp")
    source = write(tmp_path, '#include "sizes.hpp"\nfloat f(float x) { return scaled(x); }\n')
    assert lint([source], [generated]) == []
    assert [f.rule for f in lint([generated / "sizes.hpp"])] == ["double"]


def test_a_finding_reads_like_a_compilers_message() -> None:
    finding = Finding(Path("hls/a.hpp"), 7, "loop", "while")
    assert str(finding) == "hls/a.hpp:7: while [loop]"


def test_a_missing_source_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such source file"):
        lint([tmp_path / "absent.cpp"])


def test_a_missing_libclang_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name == "clang":
            raise ImportError(name)
        return original(name, *args, **kwargs)  # type: ignore[arg-type]

    source = write(tmp_path, GOOD)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"pip install 'ttjax-fpga\[test\]'"):
        lint([source])


@pytest.mark.parametrize("compiler", ["no-such-compiler", "true", "false"])
def test_a_missing_compiler_is_named(compiler: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(UserError, match=f"{compiler} (on the PATH|doesn't say where)"):
        lint([write(tmp_path, GOOD)])
