"""The cycle model: trips and cycles equal to the kernel's own counters, intervals that memories can serve."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga_bridge.budget.buffers import kernel_shapes
from fpga_bridge.cycles.counted import count, differences, sentence_shape
from fpga_bridge.cycles.model import (
    LEAST_DEPTH,
    USABLE_DSP,
    StepModel,
    Timing,
    fits_dies,
    interval,
    make_step_model,
)
from fpga_bridge.cycles.power import watts
from fpga_bridge.cycles.roofline import BANKS, kinds, words_moved
from fpga_bridge.cycles.trips import SentenceShape, Trips, unit_name
from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.kernel.operators import OPERATORS, depth
from fpga_bridge.kernel.pipelines import pipelines
from fpga_bridge.memory.banks import PORTS
from fpga_bridge.memory.blocks import BlockCount, total_blocks
from fpga_bridge.memory.memory_map import make_memory_map
from fpga_bridge.program.accelerator import CLASSES, DEFAULT, Accelerator
from fpga_bridge.program.instructions import ENGINE, LENGTH, Op, Program
from fpga_bridge.program.make_program import make_program
from fpga_bridge.program.manifest import make_manifest
from fpga_bridge.program.ports import Ports
from fpga_bridge.program.schedule import UNITS
from fpga_bridge.program.unit_ports import check_ports
from tests.fpga_bridge.samples import OTHER_CONFIGS, TINY, random_params, sentences
from ttjax import UserError, preset
from ttjax.costs import step_multiplications
from ttjax.params import norm_names

CONFIGS = {"tiny": TINY, **OTHER_CONFIGS}
# Unlike the default in every size.
OTHER = Accelerator(
    tile_rows=4,
    tile_lanes=8,
    sum_distance=9,
    norm_lanes=8,
    nonlinear_lanes=4,
    update_lanes=4,
    clock_class="relaxed",
)


@pytest.fixture(scope="module")
def counting() -> CsimDevice:
    device = CsimDevice(TINY)
    device.load(random_params(TINY))
    return device


@cache
def model_of(name: str) -> StepModel:
    return make_step_model(CONFIGS[name])


@settings(max_examples=12)
@given(length=st.integers(2, TINY.seq_len), seed=st.integers(0, 99))
def test_trips_and_cycles_are_those_that_the_kernel_counts(
    counting: CsimDevice, length: int, seed: int
) -> None:
    batch = sentences(TINY, 1, seed, [length])
    trips, cycles = count(counting, batch)
    model, shape = model_of("tiny"), sentence_shape(TINY, batch)
    assert (trips, cycles) == (model.trips(shape), model.step(shape, "typical"))
    at_most = model.trips(SentenceShape(length))
    assert all(n <= most for n, most in zip(trips, at_most, strict=True))


def test_trips_and_cycles_of_enc2_are_those_that_the_kernel_counts() -> None:
    config = preset("enc2")
    device, model = CsimDevice(config), make_step_model(config)
    device.load(random_params(config))
    for length in (11, 24, config.seq_len):
        batch = sentences(config, 1, 0, [length])
        shape = sentence_shape(config, batch)
        assert count(device, batch) == (model.trips(shape), model.step(shape, "typical"))


@pytest.mark.parametrize(
    ("name", "accelerator"),
    [
        ("two_cores_a_side", DEFAULT),
        ("modes_of_1_and_uneven_ranks", OTHER),
        # An interval of 2, and one that leaves no time to fetch the next instruction.
        ("head_width_1_and_a_single_intent", replace(DEFAULT, clock_class="fast")),
        ("rank_1_everywhere_and_one_word", replace(OTHER, sum_distance=1, clock_class="fast")),
    ],
)
def test_other_models_and_accelerators_are_the_kernel_s_too(name: str, accelerator: Accelerator) -> None:
    config = OTHER_CONFIGS[name]
    assert differences(config, accelerator, sentences(config, 1, 0, [config.seq_len])) == []


def test_units_are_described_as_the_kernel_does(counting: CsimDevice) -> None:
    assert counting.pipelines() == tuple(pipelines(DEFAULT).values())
    # Not only where all are alike.
    assert pipelines(DEFAULT) != pipelines(OTHER)


def test_a_kernel_with_other_units_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fpga_bridge.cycles.counted.pipelines", lambda _: pipelines(OTHER))
    monkeypatch.setattr(Trips, "_nonlinear", lambda *_: 5)
    found = differences(TINY, DEFAULT, sentences(TINY, 1, 0, [4]))
    assert "pipeline engine" in found[0]
    assert any("SOFTMAX of forward block0.attention: Python has" in line for line in found)
    assert found[-1].startswith("cycles of the loop: Python has")


def test_an_instruction_takes_its_trips_and_then_the_depth_of_its_unit() -> None:
    model, facts = model_of("tiny"), pipelines(DEFAULT)
    trips = model.trips(SentenceShape(7))
    for c in CLASSES:
        every = interval(DEFAULT, c)
        durations = model.timing(SentenceShape(7), c).durations
        for job, n, cycles in zip(model.program.instructions, trips, durations, strict=True):
            unit = unit_name(job.op)
            deep = 0 if unit is None else -(-depth(facts[unit].path, c) // every)
            assert cycles == (0 if unit is None else every * (n - 1 + deep))
    # Two reads; scale in, product, scale out; 5 levels of the tree, the sum so far, bias and addend.
    assert depth(facts["engine"].path, "typical") == 2 * 2 + 3 * 3 + (5 + 1 + 1) * 5
    update = facts["update"].path
    assert depth(update, "typical") == 3 + 5 + 2 and depth(update, "fast") == 7 + 9 + 3


def test_an_instruction_takes_long_enough_to_fetch_the_next() -> None:
    model = make_step_model(TINY, replace(DEFAULT, sum_distance=1))
    durations = model.timing(SentenceShape(7), "typical").durations
    assert depth(model.pipelines["update"].path, "typical") < 5 * LEAST_DEPTH
    for job, n, cycles in zip(
        model.program.instructions, model.trips(SentenceShape(7)), durations, strict=True
    ):
        if job.op == Op.UPDATE:
            assert cycles == 5 * (n - 1 + LEAST_DEPTH)


def test_a_clock_class_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="clock_class: expected one of relaxed, typical, fast, found slow"):
        replace(DEFAULT, clock_class="slow")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("distance", "expected"), [(1, (3, 5, 9)), (5, (1, 1, 2)), (6, (1, 1, 2)), (9, (1, 1, 1))]
)
def test_the_loop_waits_where_an_addition_takes_longer_than_its_sums_lie_apart(
    distance: int, expected: tuple[int, ...]
) -> None:
    accelerator = replace(DEFAULT, sum_distance=distance)
    assert tuple(interval(accelerator, c) for c in CLASSES) == expected


def test_units_work_at_once_but_no_faster_than_the_busiest() -> None:
    model = model_of("tiny")
    for c in CLASSES:
        line = model.timing(SentenceShape(9), c)
        busy = [line.busy(unit) for unit in UNITS]
        assert sum(busy) == sum(line.durations)
        assert max(busy) <= line.cycles < 0.97 * sum(busy)


def test_the_part_of_the_cycles_in_which_units_work_at_once() -> None:
    line = Timing(["engine", None, "norm", "engine"], np.array([0, 0, 4, 10]), np.array([6, 0, 9, 20]))
    assert (line.cycles, line.busy("engine"), line.busy("norm"), line.at_once) == (20, 16, 5, 2 / 20)


def test_the_mean_weighs_lengths_by_their_sentences() -> None:
    model = model_of("tiny")
    short, long = (model.step(SentenceShape(n), "typical") for n in (3, 10))
    assert short < long
    assert model.mean_step({3: 3, 10: 1}, "typical") == (3 * short + long) / 4


@pytest.mark.parametrize("name", CONFIGS)
def test_the_memory_that_must_fit_is_that_of_the_budget(name: str) -> None:
    model = make_step_model(CONFIGS[name], OTHER)
    assert model.blocks == total_blocks(kernel_shapes(model.memory, OTHER))


# Sentences of ATIS' training set by length from 2 on, [CLS] included; longer ones count as of 32.
ATIS_LENGTHS = (
    *(1, 5, 63, 79, 130, 172, 305, 431, 461, 472, 481, 400, 334, 292, 211, 175),
    *(128, 91, 56, 56, 28, 21, 16, 21, 8, 8, 9, 4, 3, 2, 15),
)


@pytest.mark.parametrize(("name", "most", "mean"), [("enc2", 215_000, 160_000), ("enc6", 650_000, 650_000)])
def test_a_step_of_the_paper_s_models_stays_within_what_was_reached(name: str, most: int, mean: int) -> None:
    """Typical operators: cycles of the longest sentence, the mean; 60 % of the engine, 80 % of the DSP."""
    model = make_step_model(preset(name))
    cycles = model.step(SentenceShape(32), "typical")
    assert cycles <= most and model.utilisation(32, cycles) >= 0.6
    assert model.mean_step(dict(enumerate(ATIS_LENGTHS, 2)), "typical") <= mean
    assert sum(model.dsp("typical").values()) <= 0.8 * USABLE_DSP


@pytest.mark.parametrize("name", CONFIGS)
def test_the_engine_is_asked_for_the_products_of_a_step(name: str) -> None:
    """JAX counts a little more, such as the gradients of what a token doesn't pick.

    The means in LayerNorm's derivative are products there, and the norm unit's work here.
    """
    model, config = model_of(name), CONFIGS[name]
    asked, longest = model.products(config.seq_len), config.seq_len
    in_norms = 2 * longest * config.d_model * len(norm_names(config))
    counted = step_multiplications(config) - in_norms
    assert 0.95 * counted <= asked <= counted
    cycles = model.step(SentenceShape(longest), "typical")
    assert 0 < model.utilisation(longest, cycles) == asked / (DEFAULT.macs * cycles) < 1


@pytest.mark.parametrize("name", CONFIGS)
def test_no_kind_of_contraction_is_beyond_the_roof(name: str) -> None:
    model = model_of(name)
    longest = model.config.seq_len
    found = kinds(model, longest, "typical")
    assert sum(kind.products for kind in found) == model.products(longest)
    ports, jobs = Ports(model.memory, DEFAULT), [j for j in model.program.instructions if j.op in ENGINE]
    assert sum(kind.words for kind in found) == sum(words_moved(job, ports, longest) for job in jobs)
    assert all(kind.rate <= min(DEFAULT.macs, PORTS * BANKS * kind.intensity) for kind in found)


@pytest.mark.parametrize("name", CONFIGS)
def test_words_moved_hold_the_elements_that_must_cross(name: str) -> None:
    model = model_of(name)
    ports, a, longest = Ports(model.memory, DEFAULT), DEFAULT, model.config.seq_len
    for job in model.program.instructions:
        if job.op not in ENGINE:
            continue
        rows, cols, stream, batches = (
            longest if n == LENGTH else n for n in (job.rows, job.cols, job.stream, job.batches)
        )
        # What streams in comes again for each tile beside it; results and the tiled matrix cross once.
        narrow = batches * stream * rows * (1 if job.op == Op.TO_NARROW else -(-cols // a.tile_lanes))
        wide = batches * stream * cols * (1 if job.op == Op.TO_WIDE else -(-rows // a.tile_rows))
        words = 0.0
        for operand, elements in zip(job.operands, (narrow, wide, batches * rows * cols), strict=False):
            assert operand is not None
            words += elements / ports.lanes(operand.array)
        found = words_moved(job, ports, longest)
        assert words <= found


def test_dsp_blocks_are_those_of_the_operators() -> None:
    model = model_of("tiny")
    for c in CLASSES:
        mul, add = OPERATORS["mul"].dsp[c], OPERATORS["add"].dsp[c]
        units = pipelines(DEFAULT)
        assert model.dsp(c) == {u: mul * p.units.mul + add * p.units.add for u, p in units.items()}
    assert model.dsp("typical")["update"] == 16 * (2 + 2)
    assert model.operators.mul == sum(p.units.mul for p in pipelines(DEFAULT).values())


def test_units_fit_if_each_lies_whole_on_one_die() -> None:
    assert fits_dies({"a": 2760, "b": 2592})
    assert fits_dies({"a": 2592, "b": 2760})
    assert not fits_dies({"a": 2761, "b": 1})
    assert not fits_dies({"a": 1800, "b": 1800, "c": 1750})


def test_power_is_static_plus_what_works() -> None:
    units = {"engine": 1000, "update": 100}
    idle = watts(units, units, BlockCount(), {"engine": 0.0, "update": 0.0}, 200)
    assert idle == 15.0
    half = watts(units, units, BlockCount(bram18=20, uram=5), {"engine": 0.5, "update": 1.0}, 200)
    assert half == pytest.approx(15 + 200e-6 * (600 * 10.1 + 10 * 25 + 5 * 40))


@pytest.mark.parametrize("op", [Op.UPDATE, Op.NORM_BACKWARD, Op.SOFTMAX, Op.TO_TILE, Op.TO_WIDE])
def test_an_interval_that_memories_cannot_serve_is_refused_by_name(op: Op) -> None:
    memory = make_memory_map(TINY)
    program = make_program(make_manifest(TINY))
    check_ports(program, memory, DEFAULT)
    needs = [i for i, job in enumerate(program.instructions) if job.op == op and job.interval > 1]
    jobs = list(program.instructions)
    if needs:
        number = needs[0]
        jobs[number] = replace(jobs[number], interval=1)
    else:
        number = next(i for i, job in enumerate(jobs) if job.op == op)
        jobs[number] = replace(jobs[number], **({"load": 1} if op in ENGINE else {"interval": 0}))
    stage = " ".join(jobs[number].stage)
    with pytest.raises(UserError, match=f"instruction {number}, {op.name} of {stage}: expected"):
        check_ports(Program(tuple(jobs), program.forward), memory, DEFAULT)


def test_every_instruction_but_the_trace_s_belongs_to_a_unit() -> None:
    units = {op: unit_name(op) for op in Op}
    assert [op for op, unit in units.items() if unit is None] == [Op.TAP, Op.CLEAR]
    assert {unit for unit in units.values() if unit is not None} == set(UNITS)
