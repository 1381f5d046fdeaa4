"""Who calls whom, over all sources, and what follows: recursion, what stands under pipelined loops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fpga_bridge.kernel.lint_rules import Finding


class Calls:
    """The calls of all sources; a function is known by clang's name for it (its USR)."""

    def __init__(self) -> None:
        self._sites: dict[str, dict[str, tuple[Path, int]]] = {}
        self._names: dict[str, str] = {}
        self._pipelined: set[str] = set()
        self._unpipelined: dict[str, list[Finding]] = {}

    def add(self, caller: Any, callee: str, source: Path, line: int, pipelined: bool) -> None:
        """A call, and whether it stands in a pipelined loop.

        ``callee`` is a USR or, where the object's type is a template's argument, a dot and the method's name.
        """
        self._sites.setdefault(self._known(caller), {}).setdefault(callee, (source, line))
        if pipelined:
            self._pipelined.add(callee)

    def if_pipelined(self, function: Any, finding: Finding) -> None:
        """What ``function`` may not do under a pipelined loop: ``finding`` is one if it is called there."""
        self._unpipelined.setdefault(self._known(function), []).append(finding)

    def cycles(self) -> Iterator[Finding]:
        """One finding for each call that closes a cycle, in a depth-first walk from every function."""
        done: set[str] = set()

        def visit(usr: str, path: list[str]) -> Iterator[Finding]:
            for callee, (source, line) in self._sites.get(usr, {}).items():
                if callee in path:
                    names = [self._names[step] for step in [*path[path.index(callee) :], callee]]
                    yield Finding(source, line, "recursion", f"recursion: {' → '.join(names)}")
                elif callee not in done:
                    yield from visit(callee, [*path, callee])
            done.add(usr)

        for usr in self._sites:
            if usr not in done:
                yield from visit(usr, [usr])

    def in_pipelines(self) -> Iterator[Finding]:
        """What ``if_pipelined`` was told of all functions that pipelined loops call, directly or not."""
        reached: set[str] = set()
        waiting = list(self._pipelined)
        while waiting:
            callee = waiting.pop()
            if callee.startswith("."):  # any method of that name
                waiting += [
                    usr for usr, name in self._names.items() if name == callee[1:] and usr not in reached
                ]
            elif callee not in reached:
                reached.add(callee)
                yield from self._unpipelined.get(callee, [])
                waiting += self._sites.get(callee, {})

    def _known(self, function: Any) -> str:
        usr = function.get_usr()
        self._names[usr] = function.spelling.split("<")[0]
        return usr
