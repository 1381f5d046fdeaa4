"""The tensor-train linear layer as instructions: halves are merged, x A B + b is streamed, and back again.

The bidirectional flow of arXiv 2501.06663, section III: W is never formed; the merged halves are kept for the
backward pass, or merged again there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from fpga_bridge.memory.layout import pitch_of
from fpga_bridge.program.emitter import BACKWARD, Emitter
from fpga_bridge.program.instructions import Operand
from fpga_bridge.program.products import Product
from ttjax.params import linear_names


class Linear:
    """One linear layer of a program, in one pass; ``stream``: its rows, LENGTH or 1."""

    def __init__(self, emit: Emitter, name: str, of_pass: int, stream: int) -> None:
        config = emit.config
        self.emit, self.name, self.of_pass, self.stream = emit, name, of_pass, stream
        self.index = linear_names(config).index(name)
        self.n_in = len(config.in_modes)
        self.z = Product(stream, config.d_model, config.bond)
        self.y = Product(stream, config.bond, config.d_model)

    def forward(self, x: Operand, y: Operand, *, merged: bool = False) -> None:
        """Emits y = x A B + b; ``merged``: the halves have been merged ahead."""
        if not merged:
            self.merge()
        emit, contract = self.emit, self.emit.contract
        bond = self._place("bond")
        contract.product(self.z, x, self._half("left"), bond)
        emit.tap(f"{self.name}.bond", bond)
        bias = emit.builder.parameter(f"{self.name}.bias")
        contract.product(self.y, bond, self._half("right"), y, bias=bias)
        emit.tap(self.name, y)

    def merge(self) -> None:
        """Both halves from the cores."""
        for half in ("left", "right"):
            for shape, a, b, c in self._chain(half):
                self.emit.contract.product(shape, a, b, c)
            self.emit.tap(f"{self.name}.{half}", self._half(half))

    def backward(self, x: Operand, dy: Operand, dx: Operand, addend: Operand | None) -> None:
        """Emits dx = dy B^T A^T + addend; then the parameters' gradients."""
        emit, contract, name = self.emit, self.emit.contract, self.name
        emit.tap(f"d_{name}", dy)
        if emit.config.rederive:
            # The taps see the halves again, so that an override of theirs holds here too.
            self.merge()
        bond, d_bond = self._place("bond"), emit.fixed("d_bond", emit.config.bond)
        contract.left(self.y, d_bond, self._half("right"), dy)
        emit.tap(f"d_{name}.bond", d_bond)
        contract.left(self.z, dx, self._half("left"), d_bond, addend=addend)
        if not emit.trains(name):
            return
        bias = emit.builder.gradient(f"{name}.bias")
        contract.right(self.y, bond, self._half("d_right"), dy, column_sums=bias)
        emit.tap(f"d_{name}.right", self._half("d_right"))
        contract.right(self.z, x, self._half("d_left"), d_bond)
        emit.tap(f"d_{name}.left", self._half("d_left"))
        self._chain_backward("left")
        self._chain_backward("right")
        cores = range(self.n_in + len(emit.config.out_modes))
        emit.complete(*(f"{name}.core{k}" for k in cores), f"{name}.bias")

    def _chain_backward(self, half: str) -> None:
        """Gradients of a half's cores; the running product's gradient goes back along the chain."""
        contract = self.emit.contract
        steps = list(self._chain(half))
        d_steps = list(self._chain(half, gradient=True))
        for (shape, a, b, _), (_, da, db, dc) in zip(reversed(steps), reversed(d_steps), strict=True):
            contract.right(shape, a, db, dc)
            contract.left(shape, da, b, dc)

    def _chain(
        self, half: str, *, gradient: bool = False
    ) -> Iterator[tuple[Product, Operand, Operand, Operand]]:
        """The products that merge a half, in order: shape, A, B and C, or the places of their gradients.

        From the left A_k (n_0 ... n_{k-1}, n_k r') = A_{k-1} G_k;
        from the right B_k (r n_k, n_{k+1} ...) = G_k B_{k+1}.
        """
        config = self.emit.config
        core = self.emit.builder.gradient if gradient else self.emit.builder.parameter
        ranks, prefix = config.tt_ranks, "d_" if gradient else ""
        if half == "left":
            modes, before = config.in_modes, core(f"{self.name}.core0")
            inner = 0
            for k in range(1, self.n_in):
                rows, cols = prod(modes[:k]), modes[k] * ranks[k + 1]
                after, inner = self._after(prefix + half, k == self.n_in - 1, inner, rows * cols)
                yield (
                    Product(rows, ranks[k], cols),
                    before,
                    core(f"{self.name}.core{k}"),
                    replace(after, row=cols),
                )
                before = replace(after, row=ranks[k + 1])
        else:
            modes, last = config.out_modes, len(config.out_modes) - 1
            before = core(f"{self.name}.core{self.n_in + last}")
            inner = 0
            for k in range(last - 1, -1, -1):
                rank, rank_after = ranks[self.n_in + k], ranks[self.n_in + k + 1]
                rows, cols = rank * modes[k], prod(modes[k + 1 :])
                after, inner = self._after(prefix + half, k == 0, inner, rows * cols)
                shape = Product(rows, rank_after, cols)
                yield shape, core(f"{self.name}.core{self.n_in + k}"), before, replace(after, row=cols)
                before = replace(after, row=modes[k] * cols)

    def _after(self, half: str, whole: bool, inner: int, size: int) -> tuple[Operand, int]:
        """Where a chain's next product lies, and where the one after it would among the inner ones."""
        if whole:
            return self._half(half), inner
        return self._place(f"{half}_inner").at(inner), inner + pitch_of(size)

    def _half(self, half: str) -> Operand:
        row = self.emit.config.bond if half.endswith("left") else self.emit.config.d_model
        return replace(self._place(half), row=row)

    def _place(self, pool: str) -> Operand:
        if pool.startswith("d_"):
            return self.emit.fixed(pool)
        return self.emit.builder.place(pool, self.index, self.of_pass, row=self.emit.config.bond)


def linear_backward(
    emit: Emitter, name: str, stream: int, x: Operand, dy: Operand, dx: Operand, addend: Operand | None = None
) -> None:
    """The backward pass of one layer."""
    Linear(emit, name, BACKWARD, stream).backward(x, dy, dx, addend)
