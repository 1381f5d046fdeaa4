"""Merges of all layers, one instruction a product: which elements they touch, and the updates behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given

from fpga_bridge.memory.memory_map import MemoryMap, make_memory_map
from fpga_bridge.memory.timeline import merged_together
from fpga_bridge.program.instructions import ENGINE, LENGTH, NONE, Instruction, Op, Operand
from fpga_bridge.program.make_program import make_program
from fpga_bridge.program.manifest import make_manifest
from tests.fpga_bridge.samples import OTHER_CONFIGS, TINY, memory_configs
from ttjax import ModelConfig, preset
from ttjax.params import linear_names

# Those with room for the gradients of all cores.
CONFIGS = {
    "tiny": TINY,
    "enc2": preset("enc2"),
    **{name: config.replace(immediate=False) for name, config in {"held": TINY, **OTHER_CONFIGS}.items()},
}


def jobs_of(config: ModelConfig, phase: str, op: tuple[Op, ...]) -> list[Instruction]:
    """Instructions of the stage "merges" of a phase."""
    program = make_program(make_manifest(config)).instructions
    return [job for job in program if job.stage == (phase, "merges") and job.op in op]


def core_elements(job: Instruction, operand: Operand, memory: MemoryMap) -> Iterator[range]:
    """Of each batch the elements from an operand's first to the end of a core there."""
    [size] = {p.size for p in memory.layout.placements if memory.layout.banks[p.bank].name == operand.array}
    for batch in range(job.batches):
        first = operand.base + batch * operand.batch
        yield range(first, first + size)


@pytest.mark.parametrize("name", CONFIGS)
def test_one_instruction_merges_a_product_of_all_layers_from_each_layer_s_own_cores(name: str) -> None:
    config = CONFIGS[name]
    memory, layers = make_memory_map(config), linear_names(config)
    jobs = jobs_of(config, "forward", ENGINE)
    n_cores = len(config.in_modes) + len(config.out_modes)
    assert len(jobs) == n_cores - 2  # two chains, each of a product less than it has cores
    read = set()
    for job in jobs:
        assert job.batches == len(layers)
        for operand in job.operands:
            if operand is None or not operand.array.startswith("linear_core"):
                continue
            k = operand.array.removeprefix("linear_core")
            read.add(int(k))
            own = [memory.layout.placement(f"{layer}.core{k}") for layer in layers]
            assert [*core_elements(job, operand, memory)] == [range(p.start, p.start + p.size) for p in own]
    assert read == set(range(n_cores))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_layer_s_products_have_a_place_of_their_own_where_its_linear_layer_finds_them(
    name: str,
) -> None:
    config = CONFIGS[name]
    memory, layers = make_memory_map(config), linear_names(config)
    merged: dict[str, list[int]] = {}
    for job in jobs_of(config, "forward", ENGINE):
        for operand in job.operands:
            if operand is not None and not operand.array.startswith("linear_core"):
                size = memory.slot_size[operand.array]  # type: ignore[index]
                at = [operand.base + batch * operand.batch for batch in range(job.batches)]
                assert all(b - a == size for a, b in pairwise(at))
                assert at[-1] < memory.slots[operand.array] * size  # type: ignore[index]
                merged[operand.array] = at
    read: dict[str, dict[str, int]] = {"left": {}, "right": {}}
    for job in make_program(make_manifest(config)).instructions:
        tile = job.operands[2] if job.op in ENGINE else None
        if tile is not None and tile.array in read and job.stage[0] == "forward":
            read[tile.array][job.stage[1]] = tile.base
    for half, found in read.items():
        assert [found[layer] for layer in layers] == merged[half]


@pytest.mark.parametrize("frozen", [(), ("block0.k",), ("block0.q", "block1.ffn_in", "intent_pre")])
def test_gradients_go_back_through_layers_between_frozen_ones_together(frozen: tuple[str, ...]) -> None:
    config = TINY.replace(frozen=frozen)
    layers = linear_names(config)
    trained = [i for i, layer in enumerate(layers) if layer not in frozen]
    size = make_memory_map(config).slot_size["left"]
    seen: Counter[int] = Counter()
    for job in jobs_of(config, "backward", (Op.TO_WIDE, Op.TO_NARROW)):
        for operand in job.operands[:2]:
            if operand is not None and operand.array == "left":
                seen.update((operand.base + batch * operand.batch) // size for batch in range(job.batches))
    assert sorted(seen) == trained and set(seen.values()) == {1}
    runs = 1 + sum(b - a > 1 for a, b in pairwise(trained))
    # Of each run and each product of the two chains, the gradients of both factors.
    n_cores = len(config.in_modes) + len(config.out_modes)
    assert len(jobs_of(config, "backward", ENGINE)) == runs * 2 * (n_cores - 2)
    assert len(jobs_of(config, "backward", (Op.UPDATE,))) == runs * 5


def crowded(config: ModelConfig) -> bool:
    """Whether the gradients of all cores take more activations than the blocks' linear layers result in."""
    sizes: Counter[str] = Counter()
    for p in make_memory_map(config).layout.placements:
        if p.name.rpartition(".")[0] in linear_names(config) and "core" in p.name:
            sizes[p.name.rpartition(".")[2]] += p.size
    results = 6 * config.n_blocks
    return sum(-(-size // (config.seq_len * config.d_model)) for size in sizes.values()) > results


def test_a_larger_rank_does_not_take_more_activations() -> None:
    """Where the gradients of all cores at once would, each layer's are applied by themselves."""
    start = preset("enc2")
    activations = make_memory_map(start).slots["activation"]
    for rank in (24, 48):
        larger = start.replace(tt_ranks=(1, *[rank] * 5, 1))
        assert make_memory_map(larger).slots["activation"] == activations
    assert merged_together(start) and not merged_together(larger)


@given(memory_configs())
def test_halves_are_merged_together_where_all_layers_keep_them_and_else_one_by_one(
    config: ModelConfig,
) -> None:
    kept = not config.rederive and not config.recompute and not (config.immediate and crowded(config))
    assert merged_together(config) == kept
    memory = make_memory_map(config)
    assert (("forward", "merges") in memory.timeline.stages) == kept
    jobs = jobs_of(config, "forward", ENGINE)
    assert bool(jobs) == kept and all(job.batches == len(linear_names(config)) for job in jobs)


@given(memory_configs())
def test_updates_touch_every_element_that_trains_once_and_no_other(config: ModelConfig) -> None:
    """Of the embedding, whose updates depend on the sentence, the instructions."""
    memory = make_memory_map(config)
    banks = [bank.name for bank in memory.layout.banks]
    touched: Counter[tuple[str, int]] = Counter()
    embedding = 0
    for job in make_program(make_manifest(config)).instructions:
        if job.op != Op.UPDATE:
            continue
        parameter = job.operands[0]
        assert parameter is not None
        if parameter.digit != NONE or job.stream == LENGTH:
            embedding += 1
            continue
        for row in range(job.stream):
            first = parameter.base + row * parameter.row
            touched.update((parameter.array, first + col) for col in range(job.cols))
    trained = [
        (banks[p.bank], p.start + row * p.pitch + col)
        for p in memory.layout.placements
        if p.name.rpartition(".")[0] not in (*config.frozen, "embed")
        for row in range(p.size // p.pitch)
        for col in range(p.row)
    ]
    assert touched == Counter(trained)
    assert embedding == ("embed" not in config.frozen) * (len(config.vocab_modes) + 1)
