"""The tensor-train linear layer as instructions: x A B + b is streamed, and its gradients back again.

The bidirectional flow of arXiv 2501.06663, section III: W is never formed; the merged halves are kept for the
backward pass, or merged again there.
"""

from __future__ import annotations

from fpga_bridge.memory.timeline import merged_together
from fpga_bridge.program.emit_merges import Merges, half_of
from fpga_bridge.program.emitter import BACKWARD, Emitter
from fpga_bridge.program.instructions import Operand
from fpga_bridge.program.products import Product
from ttjax.params import linear_names


class Linear:
    """One linear layer of a program, in one pass; ``stream``: its rows, LENGTH or 1."""

    def __init__(self, emit: Emitter, name: str, of_pass: int, stream: int) -> None:
        config = emit.config
        self.emit, self.name, self.of_pass = emit, name, of_pass
        self.merged = merged_together(config)
        self.merges = Merges(emit, [name], of_pass)
        self.left, self.right = (half_of(emit, half, name, of_pass) for half in ("left", "right"))
        index = linear_names(config).index(name)
        self.bond = emit.builder.place("bond", index, of_pass, row=config.bond)
        self.z = Product(stream, config.d_model, config.bond)
        self.y = Product(stream, config.bond, config.d_model)

    def forward(self, x: Operand, y: Operand) -> None:
        """Emits y = x A B + b."""
        if not self.merged:
            self.merges.forward()
        emit, contract = self.emit, self.emit.contract
        contract.product(self.z, x, self.left, self.bond)
        emit.tap(f"{self.name}.bond", self.bond)
        bias = emit.builder.parameter(f"{self.name}.bias")
        contract.product(self.y, self.bond, self.right, y, bias=bias)
        emit.tap(self.name, y)

    def backward(self, x: Operand, dy: Operand, dx: Operand, addend: Operand | None) -> None:
        """Emits dx = dy B^T A^T + addend; then the parameters' gradients.

        The gradient of a half takes the half's place, which nothing reads any more. Where halves are merged
        together, the gradients of the cores wait for those of the other layers.
        """
        emit, contract, name = self.emit, self.emit.contract, self.name
        emit.tap(f"d_{name}", dy)
        if emit.config.rederive:
            # The taps see the halves again, so that an override of theirs holds here too.
            self.merges.forward()
        d_bond = emit.fixed("d_bond", emit.config.bond)
        contract.left(self.y, d_bond, self.right, dy)
        emit.tap(f"d_{name}.bond", d_bond)
        contract.left(self.z, dx, self.left, d_bond, addend=addend)
        if not emit.config.trains(name):
            return
        bias = emit.builder.gradient(f"{name}.bias")
        contract.right(self.y, self.bond, self.right, dy, column_sums=bias)
        emit.tap(f"d_{name}.right", self.right)
        contract.right(self.z, x, self.left, d_bond)
        emit.tap(f"d_{name}.left", self.left)
        if not self.merged:
            self.merges.backward()
            emit.complete(*(f"{name}.core{k}" for k in range(self.merges.n_cores)))
        emit.complete(f"{name}.bias")


def linear_backward(
    emit: Emitter, name: str, stream: int, x: Operand, dy: Operand, dx: Operand, addend: Operand | None = None
) -> None:
    """The backward pass of one layer."""
    Linear(emit, name, BACKWARD, stream).backward(x, dy, dx, addend)
