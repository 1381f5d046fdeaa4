"""Merges as instructions: the halves of tensor-train layers from their cores, and the cores' gradients back.

Cores of one position lie at equal distances in their bank, and so do halves that are kept: one instruction
merges those of all layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from fpga_bridge.memory.layout import pitch_of
from fpga_bridge.memory.timeline import merged_together
from fpga_bridge.program.emitter import BACKWARD, FORWARD, Emitter
from fpga_bridge.program.instructions import Operand
from fpga_bridge.program.products import Product, batched
from ttjax.params import linear_names


@dataclass(frozen=True)
class Link:
    """One product of a chain, ``after`` = A B: one factor is the core of that number, the other ``before``.

    first: number of the core that ``before`` is, where the chain begins; else None, and ``before`` is a
    product. from_left: the core is B, not A.
    """

    shape: Product
    before: Operand
    core: int
    after: Operand
    first: int | None
    from_left: bool


class Merges:
    """The chains of neighbouring layers, as batches of the same products; of one layer where it is alone."""

    def __init__(self, emit: Emitter, layers: Sequence[str], of_pass: int) -> None:
        self.emit, self.layers, self.of_pass = emit, layers, of_pass
        config = emit.config
        self.n_in = len(config.in_modes)
        self.n_cores = self.n_in + len(config.out_modes)

    def forward(self) -> None:
        """Both halves of every layer from its cores."""
        for half in ("left", "right"):
            for link in self._chain(half):
                a, b = self._factors(link)
                self.emit.contract.product(link.shape, a, b, link.after)
            for layer in self.layers:
                self.emit.tap(f"{layer}.{half}", half_of(self.emit, half, layer, self.of_pass))

    def backward(self) -> None:
        """Gradients of all cores, from those of the halves, which lie in the halves' places.

        The gradient of each product of a chain takes that product's place in turn, after the core's gradient,
        which needs the product.
        """
        contract = self.emit.contract
        for half in ("left", "right"):
            for link in reversed([*self._chain(half)]):
                a, b = self._factors(link)
                of_core = self._core(link.core, gradient=True)
                of_before = link.before if link.first is None else self._core(link.first, gradient=True)
                if link.from_left:
                    contract.right(link.shape, a, of_core, link.after, alone=True)
                    contract.left(link.shape, of_before, b, link.after)
                else:
                    contract.left(link.shape, of_core, b, link.after)
                    contract.right(link.shape, a, of_before, link.after, alone=True)

    def _factors(self, link: Link) -> tuple[Operand, Operand]:
        core = self._core(link.core)
        return (link.before, core) if link.from_left else (core, link.before)

    def _chain(self, half: str) -> Iterator[Link]:
        """The products that merge a half, in order.

        From the left A_k (n_0 ... n_{k-1}, n_k r') = A_{k-1} G_k;
        from the right B_k (r n_k, n_{k+1} ...) = G_k B_{k+1}.
        """
        config, n_in = self.emit.config, self.n_in
        ranks, from_left = config.tt_ranks, half == "left"
        first = 0 if from_left else self.n_cores - 1
        last = n_in - 1 if from_left else n_in
        before, of_core, inner = self._core(first), first, 0
        for core in range(first + 1, last + 1) if from_left else range(first - 1, last - 1, -1):
            if from_left:
                rows, cols = prod(config.in_modes[:core]), config.in_modes[core] * ranks[core + 1]
                shape, row = Product(rows, ranks[core], cols), ranks[core + 1]
            else:
                k = core - n_in
                rows, cols = ranks[core] * config.out_modes[k], prod(config.out_modes[k + 1 :])
                shape, row = Product(rows, ranks[core + 1], cols), config.out_modes[k] * cols
            pool = half if core == last else f"{half}_inner"
            after = self._batched(pool).at(0 if core == last else inner)
            inner += pitch_of(rows * cols)
            yield Link(
                replace(shape, batches=len(self.layers)),
                before,
                core,
                replace(after, row=cols),
                of_core,
                from_left,
            )
            before, of_core = replace(after, row=row), None

    def _core(self, k: int, *, gradient: bool = False) -> Operand:
        """Core k, or its gradient, of every layer."""
        builder, name = self.emit.builder, f"{self.layers[0]}.core{k}"
        operand = builder.gradient(name) if gradient else builder.parameter(name)
        return self._every(operand, self.emit.memory.layout.placement(name).size)

    def _batched(self, pool: str) -> Operand:
        operand = half_of(self.emit, pool, self.layers[0], self.of_pass)
        return self._every(operand, self.emit.memory.slot_size[pool])  # type: ignore[index]

    def _every(self, operand: Operand, distance: int) -> Operand:
        return batched(operand, distance if len(self.layers) > 1 else 0)


def half_of(emit: Emitter, pool: str, layer: str, of_pass: int) -> Operand:
    """A layer's half, or a half's inner products."""
    number, config = linear_names(emit.config).index(layer), emit.config
    row = config.d_model if pool == "right" else config.bond
    if not merged_together(config):
        return emit.builder.place(pool, number, of_pass, row=row)
    return emit.builder.place(pool, row=row).at(number * emit.memory.slot_size[pool])  # type: ignore[index]


def merges_forward(emit: Emitter) -> None:
    """All layers' halves, where they are merged together."""
    if merged_together(emit.config):
        emit.stage("forward", "merges")
        Merges(emit, linear_names(emit.config), FORWARD).forward()


def merges_backward(emit: Emitter) -> None:
    """The gradients of all layers' cores, where halves were merged together, and their updates."""
    if not merged_together(emit.config):
        return
    emit.stage("backward", "merges")
    for layers in _neighbours(emit):
        merges = Merges(emit, layers, BACKWARD)
        merges.backward()
        for k in range(merges.n_cores):
            emit.complete(*(f"{layer}.core{k}" for layer in layers))


def _neighbours(emit: Emitter) -> Iterator[list[str]]:
    """Runs of layers that train with no frozen one between them."""
    run: list[str] = []
    for layer in linear_names(emit.config):
        if emit.config.trains(layer):
            run.append(layer)
        elif run:
            yield run
            run = []
    if run:
        yield run
