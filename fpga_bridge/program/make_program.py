"""The whole program of one training step of a config: the order in which the stages' instructions stand."""

from __future__ import annotations

from fpga_bridge.program.accelerator import DEFAULT, Accelerator
from fpga_bridge.program.emit_encoder import encoder_backward, encoder_forward
from fpga_bridge.program.emit_heads import heads_backward, heads_forward, loss
from fpga_bridge.program.emitter import Emitter
from fpga_bridge.program.instructions import NONE, Op, Program
from fpga_bridge.program.manifest import Manifest
from fpga_bridge.program.schedule import with_waits
from fpga_bridge.program.unit_ports import serve_ports
from ttjax import ModelConfig
from ttjax.params import layer_of


def make_program(manifest: Manifest, accelerator: Accelerator = DEFAULT) -> Program:
    """Forward pass, loss, backward pass with its updates; updates at the end where gradients are held."""
    emit = Emitter(manifest, accelerator)
    encoder_forward(emit)
    heads_forward(emit)
    forward = len(emit.builder.instructions)
    loss(emit)
    heads_backward(emit)
    encoder_backward(emit)
    if not emit.config.immediate:
        emit.stage("update", "parameters")
        names = (placement.name for placement in manifest.layout.placements)
        emit.update(*(name for name in names if emit.config.trains(layer_of(name))))
    program = Program(with_waits(emit.builder.instructions, emit.memory), forward)
    return serve_ports(program, emit.memory, accelerator)


def sum_depth(program: Program, config: ModelConfig, accelerator: Accelerator) -> int:
    """Rows of the engine's accumulators: most results at once that are sums over tiles, or over tokens."""
    depth = 1
    for job in program.instructions:
        extents = job.extents(config.seq_len)
        rows = -(-extents.rows // accelerator.tile_rows)
        cols = -(-extents.cols // accelerator.tile_lanes)
        if job.op in (Op.TO_WIDE, Op.TO_NARROW):
            summed, results = (rows, cols) if job.op == Op.TO_WIDE else (cols, rows)
            if job.order != NONE:
                depth = max(depth, results * extents.stream)
            elif summed > 1:
                depth = max(depth, extents.stream)
    return depth
