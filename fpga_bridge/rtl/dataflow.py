"""The dataflow graph of a body: straight-line LLVM code, as clang makes it of the kernel's C++.

A subtraction is the addition of what is negated, and a comparison is made of three that hardware has: less,
equal and unordered.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from ttjax import UserError

SIGN = 0x80000000
# Operators of the fabric, whose stages fpga_bridge.kernel.operators counts; all else is wires and a few LUTs.
OPERATORS = {"fadd": "add", "fmul": "mul", "fdiv": "div", "fsqrt": "sqrt"}
INTEGER = {"and", "or", "xor", "add", "sub", "mul", "shl", "lshr", "ashr"}
FLOAT_TESTS = {"less", "equal", "unordered"}

_DEFINITION = r"^define [^\n]*@{name}\([^\n]*\{{\n(.*?)^\}}"
_NAME = r"(%[\w.]+)"
_OPERAND = r"(%[\w.]+|[-\w.+]+)"
_FLAGS = r"(?:(?:nsw|nuw|exact|nnan|ninf|nsz|arcp|contract|afn|reassoc|fast) )*"


@dataclass(frozen=True)
class Value:
    """What makes a value, of which others, and how many bits it has.

    ``number``: the word of a kind "x" or "n" (a float or integer operand), the bits of a "constant".
    """

    kind: str
    bits: int
    of: tuple[int, ...] = ()
    number: int = 0


@dataclass
class Graph:
    """Values in an order in which each comes after those it is made of, and which of them the results are."""

    name: str
    values: list[Value] = field(default_factory=list)
    results: list[int] = field(default_factory=list)

    def add(self, kind: str, bits: int, *of: int, number: int = 0) -> int:
        """Appends a value; returns its number."""
        self.values.append(Value(kind, bits, of, number))
        return len(self.values) - 1

    def count(self) -> dict[str, int]:
        """Operators of the fabric, by kind as in ``fpga_bridge.kernel.pipelines.Operators``."""
        return {name: sum(value.kind == kind for value in self.values) for kind, name in OPERATORS.items()}


def read_graph(code: str, name: str, results: int) -> Graph:
    """The graph of the function ``body_NAME`` in LLVM's assembler, which gives so many results.

    Its arguments are pointers to floats, integers and results.

    Raises:
        UserError: it is not there, it is not one straight line, or an instruction isn't known here.
    """
    found = re.search(_DEFINITION.format(name=re.escape(f"body_{name}")), code, re.MULTILINE | re.DOTALL)
    if found is None:
        raise UserError(f"body {name}: expected it among the compiled functions, found none of that name")
    return _Reader(name, results).read(found[1])


class _Reader:
    """Values and addresses by their names in the code."""

    def __init__(self, name: str, results: int) -> None:
        self.graph = Graph(name)
        self.named: dict[str, int] = {}
        self.at = {"%0": ("x", 0), "%1": ("n", 0), "%2": ("y", 0)}
        self.found: list[int | None] = [None] * results

    def read(self, text: str) -> Graph:
        for line in text.splitlines():
            # What follows a comma and an exclamation mark is about the source.
            code = re.sub(r",? !.*| #\d+$", "", line).strip()
            if code and not code.startswith(";") and code != "ret void" and not self._instruction(code):
                raise UserError(
                    f"body {self.graph.name}: expected straight-line arithmetic, found {code!r}: write it"
                    " without branches (select_f32), or teach fpga_bridge/rtl/dataflow.py that instruction"
                )
        if None in self.found:
            raise UserError(f"body {self.graph.name}: expected {len(self.found)} results, found fewer")
        self.graph.results = [number for number in self.found if number is not None]
        return self.graph

    def _instruction(self, code: str) -> bool:
        """Reads one line; whether it is known."""
        if match := re.fullmatch(rf"store (\w+) {_OPERAND}, \S+ {_NAME}, align \d+", code):
            kind, word = self.at[match[3]]
            if kind != "y" or not 0 <= word < len(self.found):
                return False
            self.found[word] = self._value(match[2], match[1])
            return True
        named = re.fullmatch(rf"{_NAME} = (?:tail )?(.*)", code)
        if named is None:
            return False
        for pattern, make in _MAKERS:
            if match := re.fullmatch(pattern, named[2]):
                made = make(self, *match.groups())
                if made is not None:
                    self.named[named[1]] = made
                    return True
        address = self._address(named[2])
        if address is not None:
            self.at[named[1]] = address
        return address is not None

    def _address(self, code: str) -> tuple[str, int] | None:
        """The array and word that a pointer points to."""
        pattern = rf"getelementptr inbounds (?:nuw )?(float|i32|i8), \S+ {_NAME}, i64 (-?\d+)"
        if match := re.fullmatch(pattern, code):
            kind, word = self.at[match[2]]
            step, rest = divmod(int(match[3]), 4 if match[1] == "i8" else 1)
            return None if rest else (kind, word + step)
        if match := re.fullmatch(rf"bitcast \w+\* {_NAME} to \w+\*", code):
            return self.at[match[1]]
        return None

    def _value(self, text: str, of_type: str) -> int:
        """The number of a named value or of a constant."""
        if text in self.named:
            return self.named[text]
        return self.graph.add("constant", _bits(of_type), number=_constant(text, of_type))

    def load(self, of_type: str, pointer: str) -> int | None:
        kind, word = self.at[pointer]
        if kind == "y" or of_type not in ("float", "i32"):
            return None
        return self.graph.add(kind, 32, number=word)

    def float_operation(self, kind: str, left: str, right: str) -> int:
        x, y = self._value(left, "float"), self._value(right, "float")
        if kind == "fsub":
            kind, y = "fadd", self._with_sign("xor", y, SIGN)
        return self.graph.add(kind, 32, x, y)

    def _with_sign(self, kind: str, value: int, mask: int) -> int:
        return self.graph.add(kind, 32, value, self.graph.add("constant", 32, number=mask))

    def negated(self, text: str) -> int:
        return self._with_sign("xor", self._value(text, "float"), SIGN)

    def absolute(self, text: str) -> int:
        return self._with_sign("and", self._value(text, "float"), SIGN - 1)

    def root(self, text: str) -> int:
        return self.graph.add("fsqrt", 32, self._value(text, "float"))

    def integer_operation(self, kind: str, of_type: str, left: str, right: str) -> int | None:
        if kind not in INTEGER:
            return None
        return self.graph.add(kind, _bits(of_type), self._value(left, of_type), self._value(right, of_type))

    def select(self, condition: str, of_type: str, yes: str, other_type: str, no: str) -> int:
        values = self._value(condition, "i1"), self._value(yes, of_type), self._value(no, other_type)
        return self.graph.add("select", _bits(of_type), *values)

    def integer_test(self, test: str, of_type: str, left: str, right: str) -> int:
        return self.graph.add(f"icmp {test}", 1, self._value(left, of_type), self._value(right, of_type))

    def float_test(self, test: str, left: str, right: str) -> int | None:
        """A comparison by its LLVM name: o for ordered, u for "or unordered"."""
        add, x, y = self.graph.add, self._value(left, "float"), self._value(right, "float")

        def negate(value: int) -> int:
            return add("xor", 1, value, add("constant", 1, number=1))

        def ordered(name: str) -> int:
            match name:
                case "lt":
                    return add("less", 1, x, y)
                case "gt":
                    return add("less", 1, y, x)
                case "eq":
                    return add("equal", 1, x, y)
                case "le" | "ge":
                    return add("or", 1, ordered(f"{name[0]}t"), ordered("eq"))
                case _:  # ne: less or greater
                    return add("or", 1, ordered("lt"), ordered("gt"))

        if test in ("ord", "uno"):
            unordered = add("unordered", 1, x, y)
            return unordered if test == "uno" else negate(unordered)
        if test[0] == "o" and test[1:] in _OPPOSITE:
            return ordered(test[1:])
        if test[0] == "u" and test[1:] in _OPPOSITE:
            return negate(ordered(_OPPOSITE[test[1:]]))
        return None

    def converted(self, kind: str, of_type: str, text: str, to_type: str) -> int | None:
        value = self._value(text, of_type)
        if kind == "bitcast":
            return value if _bits(of_type) == _bits(to_type) else None
        if kind == "sitofp" and (of_type, to_type) != ("i32", "float"):
            return None
        return self.graph.add(kind, _bits(to_type), value)


_OPPOSITE = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}

_MAKERS: list[tuple[str, Callable[..., int | None]]] = [
    (rf"load (\w+), \S+ {_NAME}, align \d+", _Reader.load),
    (rf"(fadd|fsub|fmul|fdiv) {_FLAGS}float {_OPERAND}, {_OPERAND}", _Reader.float_operation),
    (rf"fneg {_FLAGS}float {_OPERAND}", _Reader.negated),
    (rf"call {_FLAGS}float @llvm\.fabs\.f32\(float {_OPERAND}\)", _Reader.absolute),
    (rf"call {_FLAGS}float @llvm\.sqrt\.f32\(float {_OPERAND}\)", _Reader.root),
    (rf"select {_FLAGS}i1 {_OPERAND}, (\w+) {_OPERAND}, (\w+) {_OPERAND}", _Reader.select),
    (rf"icmp (\w+) (\w+) {_OPERAND}, {_OPERAND}", _Reader.integer_test),
    (rf"fcmp {_FLAGS}(\w+) float {_OPERAND}, {_OPERAND}", _Reader.float_test),
    (rf"(bitcast|zext|sext|trunc|sitofp) (\w+) {_OPERAND} to (\w+)", _Reader.converted),
    (rf"(\w+) {_FLAGS}(i\d+) {_OPERAND}, {_OPERAND}", _Reader.integer_operation),
]


def _bits(of_type: str) -> int:
    return 32 if of_type == "float" else int(of_type[1:])


def _constant(text: str, of_type: str) -> int:
    """The bits of a constant; a float's stands there as a decimal number or as the bits of a double."""
    if of_type == "float":
        number = struct.unpack(">d", bytes.fromhex(text[2:]))[0] if text.startswith("0x") else float(text)
        return int.from_bytes(struct.pack(">f", number), "big")
    words = {"true": 1, "false": 0}
    return (words[text] if text in words else int(text)) % (1 << _bits(of_type))
