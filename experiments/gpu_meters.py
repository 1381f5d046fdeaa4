"""Two meters for a GPU: the energy it uses, from NVML, and what a compiled loop launches in one round of it.

Neither guesses: what can't be measured raises NotMeasured with the reason.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

SAMPLING_SECONDS = 0.02  # NVML renews its power reading every 20 to 100 ms
# Instructions that only name memory: nothing is launched for them.
FREE = frozenset(("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all"))
COUNTED = (
    "Counted in the compiled loop's body, of a conditional its longest branch: each fusion, product, call of"
    " a library and copy is one"
)
_INLINED = ("call", "async-start")
_TUPLE_COMMENT = re.compile(r"/\*.*?\*/")
_CALLED = re.compile(
    r"\b(?:calls|to_apply|called_computations?|branch_computations|true_computation|false_computation)="
    r"(\{[^}]*\}|%?[\w.\-]+)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


class NotMeasured(Exception):
    """Why something can't be measured here, in one line."""


class Energy(NamedTuple):
    """What some work took. source: "counter" (the GPU's own) or "samples" (power integrated over time)."""

    joules: float
    seconds: float
    rounds: int
    source: str

    @property
    def watts(self) -> float:
        """Mean power."""
        return self.joules / self.seconds


@dataclass(frozen=True)
class EnergyMeter:
    """One GPU as NVML sees it. library: the module pynvml. clock: seconds from anywhere."""

    library: Any
    handle: Any
    clock: Callable[[], float] = time.perf_counter

    @property
    def name(self) -> str:
        """The GPU's name, as JAX has it too."""
        return _text(self.library.nvmlDeviceGetName(self.handle))

    @property
    def driver(self) -> str:
        """Version of the driver."""
        return _text(self.library.nvmlSystemGetDriverVersion())

    def measure(self, work: Callable[[], object], seconds: float) -> Energy:
        """Does ``work`` over and over for at least so many seconds; each time it must wait for its result.

        Raises:
            NotMeasured: the GPU has neither an energy counter nor a power reading, or one of them failed
                in the course of it.
        """
        try:
            before = self._counter()
        except self.library.NVMLError:
            return self._sampled(work, seconds)
        rounds, began, ended = self._repeat(work, seconds)
        try:
            joules = self._counter() - before
        except self.library.NVMLError as error:
            raise NotMeasured(f"the GPU's energy counter failed while it was read ({error})") from error
        return Energy(joules, ended - began, rounds, "counter")

    def _repeat(self, work: Callable[[], object], seconds: float) -> tuple[int, float, float]:
        """How often it was done, and when it began and ended."""
        began = self.clock()
        rounds, ended = 0, began
        while ended - began < seconds or not rounds:
            work()
            rounds, ended = rounds + 1, self.clock()
        return rounds, began, ended

    def _sampled(self, work: Callable[[], object], seconds: float) -> Energy:
        """Power samples of a thread of its own and one before and after, integrated by trapezoids.

        From the begin of the work to its end: the samples around it are some way off.
        """
        samples = [(self.clock(), self._power())]
        done, failed = threading.Event(), []

        def sample() -> None:
            try:
                while not done.wait(SAMPLING_SECONDS):
                    samples.append((self.clock(), self._power()))
            except NotMeasured as error:  # a thread's own goes nowhere
                failed.append(error)

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            rounds, began, ended = self._repeat(work, seconds)
        finally:
            done.set()
            thread.join()
        if failed:
            raise NotMeasured(f"the GPU's power was not to be read all the time: {failed[0]}")
        samples.append((self.clock(), self._power()))
        times, watts = np.asarray(samples).T
        inside = np.concatenate(([began], times[(began < times) & (times < ended)], [ended]))
        joules = np.trapezoid(np.interp(inside, times, watts), inside)
        return Energy(float(joules), ended - began, rounds, "samples")

    def _counter(self) -> float:
        return 1e-3 * self.library.nvmlDeviceGetTotalEnergyConsumption(self.handle)

    def _power(self) -> float:
        try:
            return 1e-3 * self.library.nvmlDeviceGetPowerUsage(self.handle)
        except self.library.NVMLError as error:
            raise NotMeasured(f"this GPU tells neither energy nor power ({error})") from error


def open_meter() -> EnergyMeter:
    """The meter of the first GPU that CUDA_VISIBLE_DEVICES names, or of the first of all.

    CUDA may count several GPUs of different kinds in another order than NVML: compare ``name``.

    Raises:
        NotMeasured: no NVML, no such GPU, or a slice of one (MIG), whose energy nobody measures.
    """
    try:
        library = import_module("pynvml")
    except ImportError:
        raise NotMeasured("no NVML: nvidia-ml-py is not installed (pip install 'ttjax-fpga[gpu]')") from None
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if first.startswith("MIG-"):
        raise NotMeasured("NVML measures no energy of a slice of a GPU (MIG)")
    try:
        library.nvmlInit()
        if first.startswith("GPU-"):
            handle = library.nvmlDeviceGetHandleByUUID(first)
        elif first.isdecimal():
            handle = library.nvmlDeviceGetHandleByIndex(int(first))
        else:
            raise NotMeasured(f"no GPU: CUDA_VISIBLE_DEVICES is {first!r}")
        sliced = _is_sliced(library, handle)
    except library.NVMLError as error:
        raise NotMeasured(f"no GPU that NVML can see ({error})") from error
    if sliced:
        raise NotMeasured("NVML measures no energy of a slice of a GPU (MIG)")
    return EnergyMeter(library, handle)


def _is_sliced(library: Any, handle: Any) -> bool:
    try:
        return library.nvmlDeviceGetMigMode(handle)[0] == 1
    except library.NVMLError:
        return False  # a GPU that can't be sliced


def _text(found: str | bytes) -> str:
    return found.decode() if isinstance(found, bytes) else found


def launches(text: str, steps: int) -> Counter[str]:
    """What one round of a compiled loop of ``steps`` rounds launches, by kind of instruction.

    ``text``: the optimised program (``compiled.as_text()``). Counted are the instructions of the body of its
    longest loop that do or move something: a fusion, a product, a library call (by its target) or a copy is
    one each, whatever it holds. A call is what is in it; of a conditional, itself and its longest branch; an
    inner loop as often as it is known to run, else once. Not counted: what only names memory (``FREE``), the
    end of an asynchronous pair, and conditions of loops.

    Raises:
        NotMeasured: the program has no loop of a known number of rounds.
    """
    computations = _computations(text)

    def bodies(name: str) -> Iterator[Counter[str]]:
        for kind, line in computations[name]:
            if kind == "while" and _TRIPS.search(line):
                yield inside(kind, line)
            elif kind in _INLINED:
                for called in _called(line):
                    yield from bodies(called)

    def inside(kind: str, line: str) -> Counter[str]:
        if kind in FREE or kind.endswith("-done"):
            return Counter()
        if kind == "while":
            known = _TRIPS.search(line)
            body = re.search(r"\bbody=(%?[\w.\-]+)", line)
            assert body is not None, line
            once = of(body[1].lstrip("%"))
            return Counter({key: n * (int(known[1]) if known else 1) for key, n in once.items()})
        if kind == "conditional":
            return Counter({kind: 1}) + max(map(of, _called(line)), key=Counter.total)
        if kind in _INLINED and _called(line):
            return sum(map(of, _called(line)), Counter())
        target = re.search(r'custom_call_target="([^"]*)"', line)
        return Counter({f"{kind} {target[1]}" if kind == "custom-call" and target else kind: 1})

    def of(name: str) -> Counter[str]:
        return sum((inside(kind, line) for kind, line in computations[name]), Counter())

    longest = max(bodies(""), key=Counter.total, default=None)
    if longest is None:
        raise NotMeasured("the compiled program has no loop of a known number of rounds")
    # A loop unrolled by the compiler has fewer rounds, each of several steps.
    return Counter({kind: -(-n // steps) for kind, n in longest.items()})


def _computations(text: str) -> dict[str, list[tuple[str, str]]]:
    """Kind and whole line of each instruction by computation; the entry's name is empty."""
    found: dict[str, list[tuple[str, str]]] = {"": []}
    current: list[tuple[str, str]] = []
    for line in text.splitlines():
        head = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if head:
            current = found.setdefault("" if head[1] else head[2], [])
        elif instruction := re.match(r"\s+(?:ROOT )?%?[\w.\-]+ = (.*)$", line):
            current.append((_kind(_TUPLE_COMMENT.sub("", instruction[1])), line))
    return found


def _kind(typed: str) -> str:
    """The word after the type, which is one word or a tuple in brackets."""
    depth = 0
    for place, letter in enumerate(typed):
        depth += (letter == "(") - (letter == ")")
        if letter == " " and depth == 0:
            return typed[place + 1 :].partition("(")[0]
    return ""


def _called(line: str) -> list[str]:
    return [
        name.strip(" %") for group in _CALLED.findall(line) for name in group.strip("{}").split(",") if name
    ]
