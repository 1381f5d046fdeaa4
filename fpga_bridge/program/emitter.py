"""What all stages of the program share: operands by name, contractions, norms, updates and taps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod

from fpga_bridge.memory.memory_map import make_memory_map
from fpga_bridge.program.accelerator import Accelerator
from fpga_bridge.program.instructions import LENGTH, Builder, Flag, Op, Operand
from fpga_bridge.program.manifest import Manifest
from fpga_bridge.program.ports import Ports
from fpga_bridge.program.products import Contractor
from ttjax.params import norm_names

FORWARD, BACKWARD = 0, 1  # which pass an array is for


class Emitter:
    """Appends instructions of one step; the stages' modules call it in the order of execution."""

    def __init__(self, manifest: Manifest, accelerator: Accelerator) -> None:
        self.manifest = manifest
        self.config = manifest.layout.config
        self.memory = make_memory_map(self.config)
        self.builder = Builder(self.memory)
        self.contract = Contractor(self.builder, Ports(self.memory, accelerator))

    def stage(self, phase: str, name: str) -> None:
        """Instructions from now on belong to that stage."""
        self.builder.stage = (phase, name)

    def activation(self, name: str, index: int = 0, of_pass: int = FORWARD) -> Operand:
        """A temporary array of rows of the model's width."""
        return self.builder.place(name, index, of_pass, row=self.config.d_model)

    def fixed(self, name: str, row: int = 0) -> Operand:
        """A small array with a memory of its own."""
        return Operand(name, 0, row)

    def norm_forward(
        self, name: str, of_pass: int, x: Operand, y: Operand, residual: Operand | None = None
    ) -> None:
        """Emits y = LayerNorm(x + residual); keeps the normalised rows and their inverse deviations."""
        scale, shift = self._scale_and_shift(name)
        self.builder.emit(
            Op.NORM,
            x,
            self._unit(name, of_pass),
            y,
            scale,
            self._inverse_std(name),
            shift,
            residual,
            stream=LENGTH,
            cols=self.config.d_model,
        )
        self.tap(name, y)

    def norm_again(self, name: str, y: Operand) -> None:
        """The output of a norm, from its kept normalised rows."""
        scale, shift = self._scale_and_shift(name)
        operands = (None, self._unit(name, BACKWARD), y, scale, None, shift)
        self.builder.emit(Op.NORM_AGAIN, *operands, stream=LENGTH, cols=self.config.d_model)
        self.tap(name, y)

    def norm_backward(self, name: str, dy: Operand, dx: Operand, copy: Operand | None = None) -> None:
        """From dy: dx, to two places if wanted, and the gradients of scale and shift."""
        self.tap(f"d_{name}", dy)
        trains = self.config.trains(name)
        gradients = [
            self.builder.gradient(f"{name}.{part}") if trains else None for part in ("scale", "bias")
        ]
        self.builder.emit(
            Op.NORM_BACKWARD,
            dy,
            self._unit(name, BACKWARD),
            dx,
            self._scale_and_shift(name)[0],
            self._inverse_std(name),
            copy,
            *gradients,
            stream=LENGTH,
            cols=self.config.d_model,
            flags=int(Flag.TRAINS) if trains else 0,
        )
        if trains:
            self.complete(f"{name}.scale", f"{name}.bias")

    def _unit(self, name: str, of_pass: int) -> Operand:
        scope, _, part = name.rpartition(".")
        if not scope:
            return self.activation({"embed_norm": "embed_unit", "slot_norm": "slot_unit"}[name], 0, of_pass)
        return self.activation(f"unit{part.removeprefix('norm')}", int(scope.removeprefix("block")), of_pass)

    def _scale_and_shift(self, name: str) -> tuple[Operand, Operand]:
        return self.builder.parameter(f"{name}.scale"), self.builder.parameter(f"{name}.bias")

    def _inverse_std(self, name: str) -> Operand:
        return self.fixed("inverse_std").at(norm_names(self.config).index(name) * self.config.seq_len)

    def complete(self, *parameters: str) -> None:
        """The gradients of these parameters are complete: they are applied now, unless gradients are held."""
        for name in parameters:
            self._tap_parameter("d_", name, self.builder.gradient(name))
        if self.config.immediate:
            self.update(*parameters)

    def update(self, *parameters: str) -> None:
        """Parameter -= rate * gradient, for what of a parameter the sentence's tokens have touched.

        Parameters that follow one another in a bank, and their gradients as well, are one instruction's.
        """
        for names in self._neighbours(parameters):
            self._update(names)
            for name in names:
                self._tap_parameter("new_", name, self.builder.parameter(name))

    def _neighbours(self, parameters: Sequence[str]) -> Iterator[list[str]]:
        run: list[str] = []
        for name in parameters:
            if run and self._behind(run[-1]) != (self.builder.parameter(name), self.builder.gradient(name)):
                yield run
                run = []
            run.append(name)
        if run:
            yield run

    def _behind(self, name: str) -> tuple[Operand, Operand]:
        """Where a parameter and its gradient end."""
        size = self.memory.layout.placement(name).size
        return self.builder.parameter(name).at(size), self.builder.gradient(name).at(size)

    def _update(self, names: Sequence[str]) -> None:
        name, config = names[0], self.config
        p = self.memory.layout.placement(name)
        parameter, gradient = self.builder.parameter(name), self.builder.gradient(name)
        digits, size = 1, len(names) * p.size
        if name.startswith("embed.core"):
            k = int(name.removeprefix("embed.core"))
            digits = config.vocab_modes[k]
            size = p.size // digits
            parameter, gradient = (replace(o, batch=size, digit=k) for o in (parameter, gradient))
        # Rows with padding between them, or all elements one after another.
        rows, cols = (size // p.pitch, p.row) if p.row < p.pitch else (1, size)
        if name == "embed.position":
            rows, cols = LENGTH, config.d_model
        self.builder.emit(Op.UPDATE, parameter, gradient, batches=digits, stream=rows, cols=cols)

    def _tap_parameter(self, prefix: str, name: str, operand: Operand) -> None:
        p = self.memory.layout.placement(name)
        point = self.manifest.by_name[prefix + name]
        rows = p.size // p.pitch
        # Only the positions that a sentence has get a gradient; the others' is zero, and is not stored.
        valid = LENGTH if prefix == "d_" and name == "embed.position" else rows
        self.builder.emit(
            Op.TAP, operand, rows=rows, stream=valid, cols=p.row, load=p.pitch, trace=point.offset
        )

    def tap(self, name: str, operand: Operand) -> None:
        """Records the value of that name, a row for each position or all of it where it has no positions."""
        point = self.manifest.by_name[name]
        axes, shape = point.token_axes, point.shape or (1,)
        cols = shape[-1]
        rows = shape[-2] if len(shape) > 1 else 1
        self.builder.emit(
            Op.TAP,
            operand,
            rows=rows,
            stream=LENGTH if len(shape) - 2 in axes else rows,
            cols=LENGTH if len(shape) - 1 in axes else cols,
            load=cols,
            batches=prod(shape[:-2]),
            trace=point.offset,
        )
