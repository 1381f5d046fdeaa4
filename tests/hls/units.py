"""The kernel's units by themselves, compiled on the small mock header and driven one instruction at a time.

Whatever lies around an instruction's operands is NaN: a lane too many that takes part is seen in the result,
and a lane too many that is written is seen where it was.
"""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fpga_bridge.kernel.build import find_compiler, kernel_folder
from fpga_bridge.kernel.header import HEADER_NAME
from fpga_bridge.program.instructions import NONE, OPERANDS, Instruction, Operand

HERE = Path(__file__).parent
# As mock_config.hpp has them.
TOKENS, MODE, N_DIGITS = 9, 5, 2
TILE_ROWS, TILE_LANES, SUM_DISTANCE = 4, 8, 3
NORM_LANES, NONLINEAR_LANES, UPDATE_LANES = 8, 4, 4
SLOT = 4096  # elements of a slot of the activations
SIZES = {"activation": 8 * SLOT, "weights": 16384, "cores": 16384, "extra": 16384}
FLAGS = ("-std=c++14", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-Wno-unknown-pragmas")
SANITIZE = ("-fsanitize=undefined", "-static-libubsan")


# In the order in which units.cpp reads them.
FIELDS = (
    *("op", "rows", "cols", "stream", "batches", "interval"),
    *("load", "load_interval", "flags", "order"),
)


@dataclass(frozen=True)
class Sentence:
    """A sentence as the units see it; ``digits`` (N_DIGITS, length), ``slots`` (length,)."""

    length: int
    digits: np.ndarray
    slots: np.ndarray
    intent: int = 0
    rate: float = 0.0

    def order(self, k: int) -> np.ndarray:
        """The tokens in order of digit k."""
        return np.argsort(self.digits[k], kind="stable")


def random_sentence(length: int, rng: np.random.Generator, n_slots: int = 13, n_intents: int = 5) -> Sentence:
    """Digits, labels and rate at random; digits are few, so that tokens share them."""
    digits = rng.integers(0, MODE, (N_DIGITS, length))
    slots, intent = rng.integers(0, n_slots, length), int(rng.integers(n_intents))
    return Sentence(length, digits, slots, intent, float(np.float32(rng.uniform(0.01, 0.1))))


@dataclass
class Units:
    """The library and its arrays."""

    library: ctypes.CDLL
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    _used: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.library.units_array.restype = ctypes.POINTER(ctypes.c_float)
        arguments = (ctypes.c_void_p, ctypes.c_float, ctypes.c_void_p, ctypes.c_float)
        self.library.units_run.argtypes = self.library.units_norm_settled.argtypes = arguments
        for number, (name, size) in enumerate(SIZES.items()):
            self.arrays[name] = np.ctypeslib.as_array(self.library.units_array(number), (size,))

    def clear(self) -> None:
        """All arrays NaN, and free."""
        for name, array in self.arrays.items():
            array[:] = np.nan
            self._used[name] = 0

    def put(
        self, values: np.ndarray, array: str, rng: np.random.Generator, *, digit: int = NONE, pitch: int = 0
    ) -> Operand:
        """Values (batch, row, col) to a free place of an array; rows and batches with gaps between them.

        Of the activations each takes a slot. pitch: distance of the rows, if it matters.
        """
        batches, rows, cols = values.shape
        row = pitch or cols + int(rng.integers(0, 4))
        batch = rows * row + int(rng.integers(0, 4))
        base = self._used[array] + int(rng.integers(0, 20))
        end = base + batches * batch
        self._used[array] = self._used[array] + SLOT if array == "activation" else end
        assert self._used[array] <= SIZES[array] and (array != "activation" or end <= self._used[array])
        operand = Operand(array, base, row, batch, digit)
        self.view(operand, values.shape)[:] = values
        return operand

    def view(self, operand: Operand, shape: tuple[int, ...]) -> np.ndarray:
        """The elements (batch, row, col) of an operand."""
        return _elements(self.arrays[operand.array], operand, shape)

    def run(
        self, job: Instruction, sentence: Sentence, written: list[tuple[Operand, tuple[int, ...]]]
    ) -> int:
        """Executes an instruction; returns its trips. Only ``written`` (operands, shapes) may change."""
        before = {name: array.view(np.uint32).copy() for name, array in self.arrays.items()}
        fields, words = _fields(job), _words(sentence)
        trips = self.library.units_run(fields.ctypes.data, job.scale, words.ctypes.data, sentence.rate)
        changed = {name: array.view(np.uint32) != before[name] for name, array in self.arrays.items()}
        for operand, shape in written:
            _elements(changed[operand.array], operand, shape)[:] = False
        assert {name: np.flatnonzero(there) for name, there in changed.items() if there.any()} == {}
        assert self.library.units_findings() == 0, "the sanitizer's findings stand in the captured stderr"
        return trips

    def settled(self, job: Instruction, sentence: Sentence) -> int:
        """Executes an instruction of the norm unit; returns the fewest trips that a row has beyond those that
        norm_settle promises, from its last in one pass to its first in the next."""
        fields, words = _fields(job), _words(sentence)
        return self.library.units_norm_settled(
            fields.ctypes.data, job.scale, words.ctypes.data, sentence.rate
        )


def _elements(array: np.ndarray, operand: Operand, shape: tuple[int, ...]) -> np.ndarray:
    strides = tuple(array.itemsize * step for step in (operand.batch, operand.row, 1))
    return np.lib.stride_tricks.as_strided(array[operand.base :], shape, strides)


def _fields(job: Instruction) -> np.ndarray:
    """An instruction as numbers; where an operand is absent, those that would be wrong for one."""
    fields = [int(getattr(job, name)) for name in FIELDS]
    for n in range(OPERANDS):
        o = job.operands[n] if n < len(job.operands) else None
        absent = (NONE, *[-(10**8)] * 3, NONE)
        fields += absent if o is None else (list(SIZES).index(o.array), o.base, o.row, o.batch, o.digit)
    return np.array(fields, np.int32)


def _words(sentence: Sentence) -> np.ndarray:
    """A sentence as numbers; beyond its end what would be an index out of all arrays."""
    tokens = np.full((TOKENS, 1 + 2 * N_DIGITS), 10**6, np.int32)
    tokens[: sentence.length, 0] = sentence.slots
    for k in range(N_DIGITS):
        tokens[: sentence.length, 1 + 2 * k] = sentence.digits[k]
        tokens[: sentence.length, 2 + 2 * k] = sentence.order(k)
    return np.concatenate([[sentence.length, sentence.intent], tokens.reshape(-1)]).astype(np.int32)


def build_units(folder: Path) -> Units:
    """Compiles the units, with the undefined-behaviour sanitizer, into ``folder`` and loads them."""
    (folder / HEADER_NAME).write_text((HERE / "mock_config.hpp").read_text())
    library = folder / "units.so"
    command: list[Any] = [find_compiler(), *FLAGS, *SANITIZE, f"-I{folder}", f"-I{kernel_folder()}"]
    subprocess.run([*command, HERE / "units.cpp", "-o", library], check=True)
    return Units(ctypes.CDLL(str(library)))


def assert_close(actual: np.ndarray, expected: np.ndarray, magnitude: np.ndarray | float) -> None:
    """Within some roundings of float32 of ``magnitude``: the sizes of what was summed, not of the sum."""
    error = np.abs(actual.astype(np.float64) - expected)
    assert np.all(error <= 2e-6 * np.abs(magnitude) + 1e-30), float(np.nanmax(error))


def levels(n: int) -> int:
    """Levels of an adder tree of n inputs."""
    return (n - 1).bit_length()
