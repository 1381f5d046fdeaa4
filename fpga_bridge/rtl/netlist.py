"""A dataflow graph as pipelined Verilog: an operator an instance, registers where values wait for others.

Every operator takes a new pair each cycle and gives its result as many cycles later as the kernel's model
says; so does the whole, after the cycles of its longest path.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from fpga_bridge.rtl.dataflow import FLOAT_TESTS, OPERATORS, Graph, Value

_SIGNS = {"and": "&", "or": "|", "xor": "^", "add": "+", "sub": "-", "mul": "*", "shl": "<<", "lshr": ">>"}
_TESTS = {"eq": "==", "ne": "!=", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}


@dataclass(frozen=True)
class Netlist:
    """Verilog of a module named as the body, its cycles, and the operators on its longest path by kind.

    Ports: clk; x and n, the words of the operands, the first lowest; y, those of the results. A body without
    integers has no n.
    """

    text: str
    cycles: int
    path: dict[str, int]


def make_netlist(graph: Graph, cycles: Mapping[str, int], floats: int, integers: int) -> Netlist:
    """The module of a graph; ``cycles`` of each operator by its kind: add, mul, div, sqrt."""
    ready, path = _schedule(graph, cycles)
    end = max(ready[number] for number in graph.results)
    longest = max((ready[number], path[number]) for number in graph.results)[1]
    module = _Module(graph, ready)
    body = [module.line(number, value) for number, value in enumerate(graph.values)]
    results = [module.late(number, end) for number in reversed(graph.results)]
    ports = ["input wire clk", f"input wire [{32 * floats - 1}:0] x"]
    ports += [f"input wire [{32 * integers - 1}:0] n"] * (integers > 0)
    ports.append(f"output wire [{32 * len(results) - 1}:0] y")
    lines = [
        f"module {graph.name}(",
        *(f"  {port}{',' if port is not ports[-1] else ''}" for port in ports),
        ");",
        *(f"  {line}" for line in module.registers()),
        *(f"  {line}" for line in body if line),
        *(f"  {line}" for line in module.shifts()),
        f"  assign y = {{{', '.join(results)}}};",
        "endmodule",
        "",
    ]
    kinds = tuple(OPERATORS.values())
    return Netlist("\n".join(lines), end, dict(zip(kinds, longest, strict=True)))


def _schedule(graph: Graph, cycles: Mapping[str, int]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Of each value, the cycle it is ready in, and the operators on its longest path, by kind."""
    kinds = tuple(OPERATORS.values())
    ready: list[int] = []
    path: list[tuple[int, ...]] = []
    for value in graph.values:
        begin, before = max(((ready[i], path[i]) for i in value.of), default=(0, (0,) * len(kinds)))
        operator = OPERATORS.get(value.kind)
        ready.append(begin + (cycles[operator] if operator else 0))
        path.append(tuple(n + (kind == operator) for n, kind in zip(before, kinds, strict=True)))
    return ready, path


class _Module:
    """The lines of a module, and how long each value must be kept."""

    def __init__(self, graph: Graph, ready: list[int]) -> None:
        self.values, self.ready = graph.values, ready
        self.kept: defaultdict[int, int] = defaultdict(int)

    def late(self, number: int, cycle: int) -> str:
        """A value as it is found in a cycle at which or after which it is ready."""
        value = self.values[number]
        if value.kind == "constant":
            return f"{value.bits}'h{value.number:x}"
        wait = cycle - self.ready[number]
        self.kept[number] = max(self.kept[number], wait)
        return f"v{number}" if wait == 0 else f"v{number}_late[{value.bits * (wait - 1)} +: {value.bits}]"

    def line(self, number: int, value: Value) -> str:
        """What makes a value."""
        if value.kind == "constant":
            return ""
        begin = max((self.ready[i] for i in value.of), default=0)
        of = [self.late(i, begin) for i in value.of]
        wire = f"wire {_range(value.bits)}v{number}"
        if value.kind in OPERATORS or value.kind in FLOAT_TESTS or value.kind == "sitofp":
            clock = ".clk(clk), " if value.kind in OPERATORS else ""
            operands = ", ".join(f".{port}({at})" for port, at in zip("xy", of, strict=False))
            return f"{wire}; {value.kind} make{number}({clock}{operands}, .out(v{number}));"
        return f"{wire} = {self._expression(value, of)};"

    def _expression(self, value: Value, of: list[str]) -> str:
        match value.kind.split():
            case ["x" | "n"]:
                return f"{value.kind}[{32 * value.number} +: 32]"
            case ["select"]:
                return f"{of[0]} ? {of[1]} : {of[2]}"
            case ["ashr"]:
                return f"$signed({of[0]}) >>> {of[1]}"
            case ["zext"]:
                return f"{{{value.bits - self._bits(value)}'d0, {of[0]}}}"
            case ["sext"]:
                return f"$signed({of[0]})"
            case ["trunc"]:
                return of[0]  # cut by the wire it is assigned to: a part can be taken of a name only
            case ["icmp", test] if test in ("eq", "ne") or test[0] == "u":
                return f"{of[0]} {_TESTS[test.removeprefix('u')]} {of[1]}"
            case ["icmp", test]:
                return f"$signed({of[0]}) {_TESTS[test[1:]]} $signed({of[1]})"
            case [kind]:
                return f"{of[0]} {_SIGNS[kind]} {of[1]}"
        raise AssertionError(value)

    def _bits(self, value: Value) -> int:
        return self.values[value.of[0]].bits

    def registers(self) -> list[str]:
        """Declarations of the shift registers, each as long as its value is kept."""
        return [
            f"reg [{self.values[number].bits * wait - 1}:0] v{number}_late;"
            for number, wait in sorted(self.kept.items())
            if wait
        ]

    def shifts(self) -> list[str]:
        """What moves them: the newest value is the lowest."""
        return [
            f"always @(posedge clk) v{number}_late <= "
            + (f"{{v{number}_late[{self.values[number].bits * (wait - 1) - 1}:0], " if wait > 1 else "{")
            + f"v{number}}};"
            for number, wait in sorted(self.kept.items())
            if wait
        ]


def _range(bits: int) -> str:
    return "" if bits == 1 else f"[{bits - 1}:0] "
