"""The rules for kernel sources, and what a breach of one is called.

In brackets is the chapter of AMD's Vitis HLS user guide (UG1399) that a rule follows. The others are the
house's own, or of C++ that has no meaning in hardware, though that guide doesn't name it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

RULES = {
    "parse": "the source must compile as C++14",
    "heap": "no memory is allocated at run time [Dynamic Memory Usage]",
    "recursion": "no function reaches itself (constexpr ones, and templates that count down, may)"
    " [Recursive Functions]",
    "std": "of the standard library only sqrt and the integer types",
    "library": "no call into a library but sqrt: its bits or its hardware would be the library's choice",
    "virtual": "no virtual functions or virtual bases",
    "exception": "no throw, no try",
    "rtti": "no dynamic_cast, no typeid",
    "pointer-cast": "no pointer is cast, nor anything to one [Unsupported Features, Pointer Limitations]",
    "pointer-to-pointer": "no pointer to a pointer, nor to a struct that holds one [Pointer Limitations]",
    "function-pointer": "no pointers or references to functions, none to members [Pointer Limitations]",
    "varargs": "every function has a fixed number of arguments",
    "asm": "no assembler",
    "thread-local": "nothing is thread_local",
    "loop": "loops are written with for; no while, do, range-for, goto",
    "loop-label": "every loop has a name, as reports and directives speak of loops by name",
    "loop-bound": "a loop's bound is a constant, or its body opens with #pragma HLS loop_tripcount",
    "pipelined-loop": "in a pipelined loop or function, and in what it calls, a loop's bound is constant, or"
    " its body opens with #pragma HLS unroll [Working with Variable Loop Bounds, Function Pipelining]",
    "pipelined-division": "in a pipelined loop or function, and in what it calls, integers are divided by"
    " constants only: any other divisor takes a divider of many cycles, which the next iteration waits for",
    "double": "no double precision: a missing f after a literal costs a double adder",
    "array-size": "every array has a size known at compile time",
}

ALLOWED_STD = re.compile(r"sqrt|size_t|ptrdiff_t|u?int(_fast|_least)?(8|16|32|64)_t")


@dataclass(frozen=True, order=True)
class Finding:
    """One breach of a rule; ``str`` gives it as compilers do, ``file:line: message [rule]``."""

    file: Path
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message} [{self.rule}]"
