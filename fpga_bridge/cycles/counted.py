"""Trips and cycles that a compiled kernel counts while it runs a sentence, held against the model's."""

from __future__ import annotations

import numpy as np

from fpga_bridge.cycles.model import make_step_model
from fpga_bridge.cycles.trips import SentenceShape
from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.kernel.pipelines import pipelines
from fpga_bridge.program.accelerator import Accelerator
from ttjax import Batch, ModelConfig, unflatten
from ttjax.params import parameter_shapes


def open_counting(config: ModelConfig, accelerator: Accelerator) -> CsimDevice:
    """The kernel of an accelerator, built for simulation.

    Raises:
        UserError: as ``build_kernel``.
    """
    return CsimDevice(config, accelerator=accelerator)


def count(device: CsimDevice, batch: Batch) -> tuple[list[int], int]:
    """Trips of each instruction, and the loop's cycles, in one step on the one sentence of a batch.

    Parameters must be loaded.
    """
    trips, cycles = device.trips(), device.cycles()
    device.steps(batch, np.zeros(1, np.float32))
    return (device.trips() - trips).tolist(), device.cycles() - cycles


def differences(config: ModelConfig, accelerator: Accelerator, batch: Batch) -> list[str]:
    """Where a compiled kernel's units, or what it counts for a batch's one sentence, aren't Python's."""
    device = open_counting(config, accelerator)
    found = [
        f"pipeline {counted.name}: Python has {expected}, the kernel {counted}"
        for expected, counted in zip(pipelines(accelerator).values(), device.pipelines(), strict=True)
        if expected != counted
    ]
    # Neither depends on values.
    zeros = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(config).items()}
    device.load(unflatten(zeros))
    counted, cycles = count(device, batch)
    model, shape = make_step_model(config, accelerator), sentence_shape(config, batch)
    jobs = zip(model.program.instructions, model.trips(shape), counted, strict=True)
    for number, (job, expected, trips) in enumerate(jobs):
        if expected != trips:
            stage = " ".join(job.stage)
            found.append(
                f"instruction {number}, {job.op.name} of {stage}: Python has {expected} trips, found {trips}"
            )
    expected = model.step(shape, accelerator.clock_class)
    if expected != cycles:
        found.append(f"cycles of the loop: Python has {expected}, found {cycles}")
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
