"""Trips that a compiled kernel counts while it runs a sentence, held against those that Python gives."""

from __future__ import annotations

import numpy as np

from fpga_bridge.cycles.trips import SentenceShape, Trips, unit_name
from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.kernel.build import build_kernel, kernel_sources
from fpga_bridge.kernel.header import HEADER_NAME, header
from fpga_bridge.kernel.pipelines import pipelines
from fpga_bridge.memory.memory_map import make_memory_map
from fpga_bridge.program.accelerator import Accelerator
from fpga_bridge.program.make_program import make_program
from fpga_bridge.program.manifest import make_manifest
from ttjax import Batch, ModelConfig, unflatten
from ttjax.params import parameter_shapes


def open_counting(config: ModelConfig, accelerator: Accelerator) -> CsimDevice:
    """The kernel of an accelerator, built for simulation.

    Raises:
        UserError: as ``build_kernel``.
    """
    manifest = make_manifest(config)
    sources = {**kernel_sources(), HEADER_NAME: header(manifest, accelerator)}
    return CsimDevice(config, build_kernel(manifest, sources))


def count_trips(device: CsimDevice, batch: Batch) -> np.ndarray:
    """Trips of each instruction in one step on the one sentence of a batch; parameters must be loaded."""
    before = device.trips()
    device.steps(batch, np.zeros(1, np.float32))
    return device.trips() - before


def differences(config: ModelConfig, accelerator: Accelerator, batch: Batch) -> list[str]:
    """Where a compiled kernel's loops, or its trips for the one sentence of a batch, aren't Python's."""
    device = open_counting(config, accelerator)
    found = [
        f"pipeline {counted.name}: Python has {expected}, the kernel {counted}"
        for expected, counted in zip(pipelines(accelerator).values(), device.pipelines(), strict=True)
        if expected != counted
    ]
    # Trips don't depend on values.
    zeros = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(config).items()}
    device.load(unflatten(zeros))
    counted = count_trips(device, batch)
    count, shape = Trips(make_memory_map(config), accelerator), sentence_shape(config, batch)
    program = make_program(device.manifest, accelerator)
    for number, (job, trips) in enumerate(zip(program.instructions, counted, strict=True)):
        expected = count(job, shape)
        if unit_name(job.op) is not None and expected != trips:
            stage = " ".join(job.stage)
            found.append(
                f"instruction {number}, {job.op.name} of {stage}: Python has {expected} trips, found {trips}"
            )
    return found


def sentence_shape(config: ModelConfig, batch: Batch) -> SentenceShape:
    """What trips depend on, of the one sentence of a batch."""
    length = int(np.asarray(batch.length)[0])
    rest = np.asarray(batch.tokens)[0, :length].astype(np.int64)
    digits: dict[int, int] = {}
    for k in reversed(range(len(config.vocab_modes))):
        rest, digit = np.divmod(rest, config.vocab_modes[k])
        digits[k] = len(np.unique(digit))
    return SentenceShape(length, digits)
