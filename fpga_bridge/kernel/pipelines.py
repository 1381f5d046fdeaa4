"""The units' pipelines: what their C++ states of a trip's operators, read from a compiled kernel.

The same figures for an accelerator that is not compiled follow from its lanes; tests hold the two together.
"""

from __future__ import annotations

import ctypes
from collections.abc import ItemsView
from dataclasses import asdict, dataclass

from fpga_bridge.program.accelerator import Accelerator


@dataclass(frozen=True)
class Operators:
    """Operators of each kind, as in ``hls/pipeline.hpp``; memory: reads of an on-chip memory."""

    mul: int
    add: int
    div: int
    sqrt: int
    memory: int

    def items(self) -> ItemsView[str, int]:
        """(kind, number) of each kind."""
        return asdict(self).items()

    def __add__(self, other: Operators) -> Operators:
        return Operators(**{name: n + getattr(other, name) for name, n in self.items()})


@dataclass(frozen=True)
class Pipeline:
    """One unit: operators along a trip's longest path, and all of them."""

    name: str
    path: Operators
    units: Operators


class _Operators(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("mul", "add", "div", "sqrt", "memory")]


class _Pipeline(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("path", _Operators),
        ("units", _Operators),
    ]


def compiled_pipelines(library: ctypes.CDLL) -> tuple[Pipeline, ...]:
    """The pipelines of a kernel built for simulation: engine, norm, nonlinear, update."""
    library.ttfpga_csim_pipelines.restype = ctypes.POINTER(_Pipeline)
    library.ttfpga_csim_pipeline_count.restype = ctypes.c_uint32
    found = library.ttfpga_csim_pipelines()

    def operators(of: _Operators) -> Operators:
        return Operators(of.mul, of.add, of.div, of.sqrt, of.memory)

    return tuple(
        Pipeline(p.name.decode(), operators(p.path), operators(p.units))
        for p in (found[i] for i in range(library.ttfpga_csim_pipeline_count()))
    )


def pipelines(accelerator: Accelerator) -> dict[str, Pipeline]:
    """What ``compiled_pipelines`` of an accelerator's kernel gives, by unit; the C++ says why."""
    a = accelerator
    rows, lanes, tile = a.tile_rows, a.tile_lanes, a.macs
    norm, nonlinear, update = a.norm_lanes, a.nonlinear_lanes, a.update_lanes
    engine_adders = _tree_adders(rows, lanes, a) + (tile - _level_adders(rows, lanes, a)) + 6 * lanes
    norm_path = 5 + levels(norm) + levels(a.sum_distance)
    return {
        "engine": Pipeline(
            "engine",
            Operators(3, max(levels(rows), levels(lanes)) + 2, 0, 0, 2),
            Operators(tile + 2 * rows, engine_adders, 0, 0, 0),
        ),
        "norm": Pipeline(
            "norm",
            Operators(4, norm_path, 1, 1, 1),
            Operators(3 * norm + 3, 3 * norm + 2 * (norm - 1) + 2 * a.sum_distance + 3, 2, 1, 0),
        ),
        "nonlinear": Pipeline(
            "nonlinear",
            Operators(14, 13, 1, 0, 1),
            Operators(18 * nonlinear + 21, 16 * nonlinear + 21, nonlinear, 0, 0),
        ),
        "update": Pipeline("update", Operators(1, 1, 0, 0, 1), Operators(update, update, 0, 0, 0)),
    }


def levels(n: int) -> int:
    """Levels of an adder tree of n inputs."""
    return (n - 1).bit_length()


def _level_adders(rows: int, lanes: int, a: Accelerator) -> int:
    """Adders of one level of the trees that sum rows or lanes of a tile; both use the same ones."""
    return max(rows // 2 * a.tile_lanes, lanes // 2 * a.tile_rows)


def _tree_adders(rows: int, lanes: int, a: Accelerator) -> int:
    if rows <= 1 and lanes <= 1:
        return 0
    return _level_adders(rows, lanes, a) + _tree_adders((rows + 1) // 2, (lanes + 1) // 2, a)
