"""The memory map: no two live arrays share memory, every value is still there when the kernel reads it.

``kernel_accesses`` says what each stage reads and writes, written down from the program's emitters and not
from the lifetimes: a step played on it sees what a wrong lifetime or a wrong place would overwrite.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from fpga_bridge.memory.banks import SLOT_MEMORIES
from fpga_bridge.memory.lifetimes import BLOCK_ARRAYS, HALVES, Pool
from fpga_bridge.memory.memory_map import MemoryMap, Place, make_memory_map
from fpga_bridge.memory.timeline import BLOCK_STAGES, Phase, merged_together
from fpga_bridge.program.instructions import Op
from fpga_bridge.program.make_program import make_program
from fpga_bridge.program.manifest import make_manifest
from tests.fpga_bridge.samples import TINY, memory_configs
from ttjax import ModelConfig, preset
from ttjax.params import linear_names

Value = tuple[str, int, int]  # name, index and pass, as the program asks for a place


@dataclass(frozen=True)
class Access:
    """One stage: what it reads before it writes, and what it writes."""

    moment: int
    reads: list[Value]
    writes: list[Value]


def kernel_accesses(memory: MemoryMap) -> Iterator[Access]:
    """The temporary arrays that each stage of a step touches, stage by stage (``program/emit_*.py``)."""
    config, time = memory.config, memory.timeline
    numbers = {name: i for i, name in enumerate(linear_names(config))}
    branch, d_stream, d_branch, d_wide = (one(n) for n in ("branch", "d_stream", "d_branch", "d_wide"))

    chains = [pool for pool in HALVES if pool in memory.slots]  # of two cores there is nothing between

    def trains(layer: str, *values: Value) -> list[Value]:
        return [] if layer in config.frozen else list(values)

    def at_once(layer: str, *values: Value) -> list[Value]:
        return trains(layer, *values) if config.immediate else []

    def stage(phase: Phase, name: str, reads: list[Value], writes: list[Value]) -> Access:
        return Access(time.at(phase, name), reads, writes)

    # The halves of all layers are one array then, merged in a stage of their own.
    together = merged_together(config)
    of_all = [one(pool) for pool in chains]
    streamed = [one("left"), one("right")]

    def ahead(phase: Phase, layer: str, reads: list[Value], writes: list[Value]) -> Access:
        n, of_pass = numbers[layer], int(phase != "forward")
        halves: list[Value] = [(pool, n, of_pass) for pool in chains]
        merged = (streamed, []) if together else ([], halves)
        return stage(phase, layer, [*reads, *merged[0]], [*writes, *merged[1], ("bond", n, of_pass)])

    def back(layer: str, x: Value, reads: list[Value], writes: list[Value]) -> Access:
        n = numbers[layer]
        halves: list[Value] = [(pool, n, 1) for pool in chains]
        merged = ([], halves) if config.rederive else (halves, trains(layer, *halves))
        if together:  # gradients of halves take the halves' places, the inner products wait
            merged = streamed, trains(layer, *streamed)
        needed = trains(layer, x, ("bond", n, 1))
        if x in writes:  # made again in this stage
            needed = [value for value in needed if value != x]
        return stage("backward", layer, [*reads, *needed, *merged[0]], [*writes, *merged[1]])

    def block_ahead(phase: Phase, b: int) -> Iterator[Access]:
        of_pass, x = int(phase != "forward"), ("hidden", b, 0)

        def of(name: str) -> Value:
            return name, b, of_pass

        for layer, y in (("q", "query"), ("k", "key"), ("v", "value")):
            yield ahead(phase, f"block{b}.{layer}", [x], [of(y)])
        qkv = [of("query"), of("key"), of("value")]
        yield stage(phase, f"block{b}.attention", qkv, [of("probs"), of("context")])
        yield ahead(phase, f"block{b}.o", [of("context"), x], [branch])
        yield stage(phase, f"block{b}.norm1", [branch], [of("unit1"), of("attended")])
        yield ahead(phase, f"block{b}.ffn_in", [of("attended")], [of("ffn_hidden")])
        yield stage(phase, f"block{b}.gelu", [of("ffn_hidden")], [of("ffn_active")])
        yield ahead(phase, f"block{b}.ffn_out", [of("ffn_active"), of("attended")], [branch])
        out = branch if of_pass else ("hidden", b + 1, 0)
        yield stage(phase, f"block{b}.norm2", [branch], [of("unit2"), out])

    def block_back(b: int) -> Iterator[Access]:
        def of(name: str) -> Value:
            return name, b, 1

        yield stage("backward", f"block{b}.norm2", [d_stream, of("unit2")], [d_branch])
        yield back(f"block{b}.ffn_out", of("ffn_active"), [d_branch], [d_wide])
        yield stage("backward", f"block{b}.gelu", [of("ffn_hidden"), d_wide], [d_wide])
        ffn_in, reads, writes = f"block{b}.ffn_in", [d_wide, d_branch], [d_stream]
        if config.rederive:
            reads, writes = reads + trains(ffn_in, of("unit1")), writes + trains(ffn_in, of("attended_again"))
        attended = of("attended_again" if config.rederive and trains(ffn_in, of("attended")) else "attended")
        yield back(ffn_in, attended, reads, writes)
        yield stage("backward", f"block{b}.norm1", [d_stream, of("unit1")], [d_branch])
        yield back(f"block{b}.o", of("context"), [d_branch], [d_wide])
        kept = [of("query"), of("key"), of("value"), of("probs")]
        d_qkv = {"q": one("d_query"), "k": one("d_key"), "v": one("d_value")}
        made = [one("d_scores"), *d_qkv.values()]
        yield stage("backward", f"block{b}.attention", [d_wide, *kept], made)
        # The gradient of the block's input goes back and forth between two places as it gathers three parts.
        for layer, so_far, with_it in (
            ("v", d_branch, d_stream),
            ("k", d_stream, d_branch),
            ("q", d_branch, d_stream),
        ):
            yield back(f"block{b}.{layer}", ("hidden", b, 0), [d_qkv[layer], so_far], [with_it])

    n = config.n_blocks
    # Of a table of two cores a row is made at once.
    rows = [one("row_products")] if len(config.vocab_modes) > 2 else []
    summary, embedded = ("hidden", n, 0), [*rows, one("embedding")]
    yield stage("forward", "embed", [], embedded)
    if together:
        yield stage("forward", "merges", [], of_all)
    yield stage("forward", "embed_norm", [one("embedding")], [("embed_unit", 0, 0), ("hidden", 0, 0)])
    for b in range(n):
        yield from block_ahead("forward", b)
    yield ahead("forward", "slot_pre", [summary], [one("slot_hidden")])
    yield ahead("forward", "intent_pre", [summary], [])
    yield stage("forward", "slot_gelu", [one("slot_hidden")], [one("slot_active")])
    normed = [("slot_unit", 0, 0), one("slot_normed")]
    yield stage("forward", "slot_norm", [one("slot_active")], normed)
    yield stage("forward", "slot_out", [one("slot_normed")], [one("slot_logits")])
    yield stage("forward", "loss", [one("slot_logits")], [one("d_slot_logits")])
    reads = [one("d_slot_logits"), *trains("slot_out", one("slot_normed"))]
    yield stage("backward", "slot_out", reads, [d_wide, *at_once("slot_out", one("slot_gradient"))])
    yield stage("backward", "slot_norm", [d_wide, ("slot_unit", 0, 1)], [d_branch])
    # The gradient of the classifier's weights may still be on its way, beside this stage and the one before.
    late = trains("slot_out", one("slot_normed"))
    yield stage("backward", "slot_gelu", [one("slot_hidden"), d_branch, *late], [d_wide])
    yield back("slot_pre", summary, [d_wide], [d_stream])
    yield stage("backward", "intent_out", [], at_once("intent_out", one("intent_gradient")))
    yield back("intent_pre", summary, [d_stream], [d_stream])
    for b in reversed(range(n)):
        if b in config.recompute:
            yield from block_ahead("recompute", b)
        yield from block_back(b)
    unit = ("embed_unit", 0, 1)
    again = [*embedded, unit] if config.rederive else []
    yield stage("backward", "embed_norm", [d_stream] if again else [d_stream, unit], [d_branch, *again])
    made = [
        *trains("embed", *(one(f"d_{name}") for name, _, _ in rows)),
        *at_once("embed", one("embed_gradient")),
    ]
    yield stage("backward", "embed", [d_branch, *trains("embed", *rows)], made)
    if together:
        # The gradients of all cores, of each position in a place of its own.
        cores = [one(f"linear_core{k}_gradient") for k in range(len(config.in_modes + config.out_modes))]
        made = [value for value in of_all if value not in streamed]
        # The embedding may still be updated, beside this stage.
        late = [d_branch, one("embed_gradient")] if config.immediate and trains("embed", d_branch) else []
        yield stage("backward", "merges", [*of_all, *late], made + (cores if config.immediate else []))


def one(name: str) -> Value:
    """An array that there is once."""
    return name, 0, 0


def place_of(memory: MemoryMap, value: Value) -> Place:
    """Where a value lies; the forward pass's place stands for both where the backward pass has none."""
    name, index, of_pass = value
    found = {
        n: p for p in memory.places if (p.array.name, p.array.index) == (name, index) for n in p.array.passes
    }
    return found.get(of_pass) or found[0]


def span(memory: MemoryMap, value: Value) -> tuple[Pool, slice]:
    """The elements of its pool that a value is read from and written to."""
    pool, start = memory.place(*value)
    return pool, slice(start, start + place_of(memory, value).array.size)


@given(memory_configs())
def test_no_two_arrays_that_are_live_at_one_moment_share_an_element(config: ModelConfig) -> None:
    memory = make_memory_map(config)
    for moment in range(len(memory.timeline.stages)):
        used = {pool: np.zeros(n * memory.slot_size[pool], int) for pool, n in memory.slots.items()}
        for place in memory.places:
            array = place.array
            if any(first <= moment <= last for first, last in array.intervals):
                at = place.slot * memory.slot_size[array.pool]
                assert at + array.size <= used[array.pool].size
                used[array.pool][at : at + array.size] += 1
        assert all(counts.max(initial=0) <= 1 for counts in used.values()), memory.timeline.stages[moment]


@given(memory_configs())
def test_every_value_is_in_its_place_still_when_the_kernel_reads_it(config: ModelConfig) -> None:
    """The step played on marks: a write marks all its elements, a read must find its own mark on each.

    Looked for before the stage's writes and after them: a stage still reads while it writes.
    """
    memory = make_memory_map(config)
    marks = {pool: np.full(n * memory.slot_size[pool], -1) for pool, n in memory.slots.items()}
    numbers: dict[tuple[str, int], int] = {}
    for access in kernel_accesses(memory):
        for writes in ([], access.writes):
            for value in writes:
                pool, elements = span(memory, value)
                marks[pool][elements] = numbers.setdefault(value[:2], len(numbers))
            for value in access.reads:
                pool, elements = span(memory, value)
                found = set(marks[pool][elements].tolist())
                assert found == {numbers.get(value[:2])}, (memory.timeline.stages[access.moment], value)


def touched_dead(memory: MemoryMap) -> list[tuple[tuple[str, str], Value]]:
    """Stages that touch an array outside all its lives, and the array."""
    found = []
    for access in kernel_accesses(memory):
        for value in (*access.reads, *access.writes):
            lives = place_of(memory, value).array.intervals
            if not any(first <= access.moment <= last for first, last in lives):
                found.append((memory.timeline.stages[access.moment], value))
    return found


@given(memory_configs())
def test_the_kernel_touches_an_array_only_while_it_is_live(config: ModelConfig) -> None:
    assert touched_dead(make_memory_map(config)) == []


@pytest.mark.parametrize("options", [{}, {"recompute": (1,), "rederive": True}], ids=["kept", "made again"])
def test_a_life_that_ends_a_stage_early_is_noticed_there(options: dict[str, Any]) -> None:
    memory = make_memory_map(TINY.replace(**options))
    for i, place in enumerate(memory.places):
        for n, (first, last) in enumerate(place.array.intervals):
            lives = list(place.array.intervals)
            lives[n] = (first, last - 1)
            short = replace(place, array=replace(place.array, intervals=tuple(lives)))
            places = (*memory.places[:i], short, *memory.places[i + 1 :])
            found = touched_dead(replace(memory, places=places))
            name = (place.array.name, place.array.index)
            assert {(stage, value[:2]) for stage, value in found} == {(memory.timeline.stages[last], name)}


@given(memory_configs())
def test_a_life_begins_as_the_array_is_written_and_ends_as_it_is_last_touched(config: ModelConfig) -> None:
    """None is longer than it need be; with frozen layers some are."""
    memory = make_memory_map(config.replace(frozen=()))
    written, touched = set(), set()
    for access in kernel_accesses(memory):
        written |= {(id(place_of(memory, value)), access.moment) for value in access.writes}
        touched |= {(id(place_of(memory, value)), access.moment) for value in access.reads}
    touched |= written
    for place in memory.places:
        for first, last in place.array.intervals:
            assert (id(place), first) in written, (place.array, memory.timeline.stages[first])
            assert (id(place), last) in touched, (place.array, memory.timeline.stages[last])


@given(memory_configs())
def test_no_memory_serves_two_arrays_in_one_stage(config: ModelConfig) -> None:
    """Its two ports are the one array's, in the large pools; the others' are one layer's at a time."""
    memory = make_memory_map(config)
    for access in kernel_accesses(memory):
        users: dict[tuple[str, int], set[int]] = {}
        for value in (*access.reads, *access.writes):
            place = place_of(memory, value)
            pool = place.array.pool
            for slot in range(place.slot, place.slot + place.slots) if pool in SLOT_MEMORIES else ():
                users.setdefault((pool, slot), set()).add(id(place))
        assert all(len(arrays) == 1 for arrays in users.values()), memory.timeline.stages[access.moment]


@pytest.mark.parametrize("name", BLOCK_ARRAYS)
def test_an_array_of_a_block_is_made_before_it_is_read(name: str) -> None:
    _, made, read, read_back = BLOCK_ARRAYS[name]
    order = BLOCK_STAGES.index
    assert order(made) <= order(read)
    assert order(made) <= order(read_back), "read in the backward pass of its own stage or of a later one"
    for recompute in ((), (0,), (0, 1)):
        time = make_memory_map(TINY.replace(recompute=recompute)).timeline
        for b in range(TINY.n_blocks):
            kept_from = time.at("recompute" if b in recompute else "forward", f"block{b}.{made}")
            assert kept_from < time.at("backward", f"block{b}.{read_back}")


def program_touches_dead(memory: MemoryMap) -> list[tuple[tuple[str, str], str, int]]:
    """Operands of the program in a pool (stage, pool, element) that begin in no array that is live there."""
    found = []
    for job in make_program(make_manifest(memory.config)).instructions:
        moment = memory.timeline.stages.index(job.stage) if job.stage in memory.timeline.stages else None
        for number, operand in enumerate(job.operands):
            if moment is None or operand is None or operand.array not in memory.slots:
                continue
            # A norm may write where its residual lies: no element of that is read after it is written.
            in_place = job.op == Op.NORM and number == 6  # kNormResidual
            size = memory.slot_size[operand.array]  # type: ignore[index]
            live = [
                range(place.slot * size, place.slot * size + place.array.size)
                for place in memory.places
                if place.array.pool == operand.array
                and any(first <= moment <= last + in_place for first, last in place.array.intervals)
            ]
            if not any(operand.base in elements for elements in live):
                found.append((job.stage, operand.array, operand.base))
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rederive": True},
        {"recompute": (0, 1), "rederive": True},
        {"recompute": (1,)},
        {"immediate": False},
    ],
    ids=["kept", "rederived", "made again", "one made again", "held"],
)
def test_every_operand_of_the_program_begins_in_an_array_that_is_live(options: dict[str, Any]) -> None:
    memory = make_memory_map(TINY.replace(**options))
    assert program_touches_dead(memory) == []
    stages = {job.stage for job in make_program(make_manifest(memory.config)).instructions}
    assert set(memory.timeline.stages) <= stages | {("update", "parameters")}


@given(memory_configs())
def test_what_is_live_fits_what_is_there_and_sharing_saves(config: ModelConfig) -> None:
    memory = make_memory_map(config)
    assert max(memory.live_bytes()) <= memory.total_bytes
    assert memory.temporary_bytes <= memory.unshared_bytes
    assert memory.total_bytes < memory.parameter_bytes + memory.gradient_bytes + memory.unshared_bytes


@pytest.mark.parametrize("rederive", [False, True])
@pytest.mark.parametrize("name", ["tiny", "enc2", "enc4", "enc6"])
def test_gradients_applied_at_once_need_less_than_held_ones(name: str, rederive: bool) -> None:
    config = preset(name).replace(rederive=rederive)
    at_once, held = (make_memory_map(config.replace(immediate=i)).total_bytes for i in (True, False))
    assert at_once < held
