"""The program as it is emitted: no read finds what another array, or another stage, has put in its place.

Memory is shared by lifetimes along the timeline, and some stages are emitted earlier or later than there.
What each read finds, by the instruction that wrote it, is compared with the same instructions in the
timeline's order, where every array has a memory of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given

from fpga_bridge.memory.memory_map import MemoryMap, make_memory_map
from fpga_bridge.program.instructions import TRACE_ONLY, Operand
from fpga_bridge.program.make_program import make_program
from fpga_bridge.program.manifest import make_manifest
from tests.fpga_bridge.replay import GIVEN, NEVER, Job, Meant, Memories, emitted
from tests.fpga_bridge.samples import TINY, memory_configs, one_of, sentences
from ttjax import Batch, ModelConfig, preset

Stage = tuple[str, str]
Reads = dict[tuple[int, int], int]  # what each read finds, by number of its instruction and operand

FORWARD, BACKWARD = "forward", "backward"


class Lost(NamedTuple):
    """A read that doesn't find what it must: its stage, the array it means, whose results it finds."""

    stage: Stage
    array: str
    found: tuple[Stage | str, ...]


def lost(memory: MemoryMap, jobs: list[Job], batch: Batch, *, shared: bool = True) -> list[Lost]:
    """Reads of a program, in that order, that differ from those in the timeline's order in memories apart."""
    moments: dict[Stage, int] = {stage: moment for moment, stage in enumerate(memory.timeline.stages)}
    by_number = {job.number: job.does for job in jobs}
    in_time = sorted(jobs, key=lambda job: (moments[job.does.stage], job.number))

    def report(job: Job, operand: int, views: list[np.ndarray]) -> Lost:
        writers = sorted({int(number) for view in views for number in np.unique(view)})
        special = {GIVEN: "parameter", NEVER: "nothing"}
        stages = [special.get(n) or by_number[n].stage for n in writers]
        return Lost(job.does.stage, array_of(job.does.operands[operand]), tuple(dict.fromkeys(stages)))

    expected: Reads = {}
    found = []
    for job, operand, views in Memories(memory, batch, shared=False).play(in_time):
        expected[job.number, operand] = hash(b"".join(view.tobytes() for view in views))
        if any(NEVER in view for view in views):
            found.append(report(job, operand, views))
    for job, operand, views in Memories(memory, batch, shared=shared).play(jobs):
        if hash(b"".join(view.tobytes() for view in views)) != expected[job.number, operand]:
            found.append(report(job, operand, views))
    return found


def array_of(operand: Operand | None) -> str:
    """Name and index of the array that an operand means: of a memory of its own, the memory's."""
    assert operand is not None
    if not isinstance(operand.array, Meant):
        return operand.array
    array = operand.array.place.array
    return f"{array.name} {array.index}"


def sentence(config: ModelConfig, length: int) -> Batch:
    return one_of(sentences(config, 1, lengths=[length]))


def untraced(jobs: list[Job]) -> list[Job]:
    """Those that a step without trace runs."""
    return [job for job in jobs if job.does.op not in TRACE_ONLY]


def stages(jobs: list[Job]) -> list[Stage]:
    """Stages in the order in which they have instructions; one that is interrupted stands twice."""
    return [stage for stage, _ in groupby(jobs, key=lambda job: job.does.stage)]


@given(memory_configs())
def test_every_read_finds_what_the_timelines_order_would_give_it(config: ModelConfig) -> None:
    memory = make_memory_map(config)
    jobs = emitted(memory)
    assert lost(memory, jobs, sentence(config, config.seq_len)) == []
    assert lost(memory, untraced(jobs), sentence(config, 2)) == []


PLANS: dict[str, dict[str, Any]] = {
    "kept": {},
    "rederived": {"rederive": True},
    "made again": {"recompute": (0, 1), "rederive": True},
    "one made again": {"recompute": (1,)},
    "held": {"immediate": False},
    "intent head frozen": {"frozen": ("intent_pre",)},
    "frozen": {"frozen": ("embed", "block0.q", "block1.v", "block1.ffn_in", "intent_pre", "slot_pre")},
}
CASES = [(name, plan) for name in ("tiny", "enc2") for plan in PLANS] + [
    ("enc4", "made again"),
    ("enc4", "kept"),
]


@pytest.mark.parametrize(("name", "plan"), CASES)
def test_every_read_of_a_preset_finds_it(name: str, plan: str) -> None:
    memory = make_memory_map(preset(name).replace(**PLANS[plan]))
    assert lost(memory, emitted(memory), sentence(memory.config, memory.config.seq_len)) == []


def test_the_program_that_tells_its_arrays_is_the_one_that_runs() -> None:
    for options in PLANS.values():
        memory = make_memory_map(TINY.replace(**options))
        assert (
            tuple(job.does for job in emitted(memory))
            == make_program(make_manifest(memory.config)).instructions
        )


@pytest.mark.parametrize("plan", PLANS)
def test_stages_are_emitted_in_the_timelines_order_but_for_the_attention(plan: str) -> None:
    memory = make_memory_map(TINY.replace(**PLANS[plan]))
    order = stages(emitted(memory))

    def others(stages: Iterable[Stage]) -> list[Stage]:
        return [stage for stage in stages if not stage[1].endswith((".v", ".attention"))]

    held = not memory.config.immediate
    assert others(order) == others(memory.timeline.stages[: None if held else -1])
    first = order.index((FORWARD, "block0.attention"))
    assert order[first : first + 3 : 2] == [order[first]] * 2
    assert order[first + 1] == (FORWARD, "block0.v")


def late(jobs: list[Job], stage: Stage, behind: Stage) -> list[Job]:
    """The program with a stage emitted behind another, later one."""
    others = [job for job in jobs if job.does.stage != stage]
    at = max(i for i, job in enumerate(others) if job.does.stage == behind) + 1
    return [*others[:at], *(job for job in jobs if job.does.stage == stage), *others[at:]]


@pytest.mark.parametrize(
    ("stage", "behind", "array", "found"),
    [
        ((FORWARD, "block1.v"), (FORWARD, "block1.attention"), "value 1", "nothing"),
        ((FORWARD, "slot_pre"), (FORWARD, "intent_out"), "slot_hidden 0", "nothing"),
        # Of one array and one life: the value is an older one.
        ((BACKWARD, "block1.gelu"), (BACKWARD, "block1.ffn_in"), "d_wide 0", (BACKWARD, "block1.ffn_out")),
        ((BACKWARD, "block0.k"), (BACKWARD, "block0.q"), "d_branch 0", (BACKWARD, "block0.norm1")),
    ],
    ids=lambda value: value if isinstance(value, str) else value[1],
)
def test_a_stage_emitted_behind_one_that_needs_it_is_noticed_there(
    stage: Stage, behind: Stage, array: str, found: Stage | str
) -> None:
    memory = make_memory_map(TINY)
    jobs = late(emitted(memory), stage, behind)
    for reads in (lost(memory, jobs, sentence(TINY, 5)), lost(memory, untraced(jobs), sentence(TINY, 5))):
        reader = next(read for read in reads if read.array == array)
        assert reader.found == (found,)
        assert reader.stage == ((FORWARD, "slot_gelu") if stage[1] == "slot_pre" else behind)


def lent(memory: MemoryMap, intruder: tuple[str, int], host: tuple[str, int]) -> MemoryMap:
    """The map with one array in another's slot."""
    [place] = [p for p in memory.places if (p.array.name, p.array.index) == host]
    places = [
        replace(p, slot=place.slot) if (p.array.name, p.array.index) == intruder else p for p in memory.places
    ]
    return replace(memory, places=tuple(places))


@pytest.mark.parametrize(
    ("intruder", "host", "reader", "writer"),
    [
        (("bond", 0), ("bond", 1), (BACKWARD, "block0.q"), (FORWARD, "block0.k")),
        (("hidden", 1), ("query", 0), (BACKWARD, "block0.attention"), (FORWARD, "block0.norm2")),
        (("probs", 0), ("probs", 1), (BACKWARD, "block0.attention"), (FORWARD, "block1.attention")),
        (("d_key", 0), ("d_query", 0), (BACKWARD, "block1.q"), (BACKWARD, "block1.attention")),
    ],
    ids=lambda value: f"{value[0]} {value[1]}",
)
def test_two_live_arrays_in_one_place_are_noticed_where_the_lost_one_is_read(
    intruder: tuple[str, int], host: tuple[str, int], reader: Stage, writer: Stage
) -> None:
    memory = lent(make_memory_map(TINY), intruder, host)
    first, *_ = lost(memory, untraced(emitted(memory)), sentence(TINY, 5))
    assert (first.stage, first.found) == (reader, (writer,))
    assert first.array in (f"{name} {index}" for name, index in (intruder, host))


def test_an_order_that_only_shared_memory_forbids_is_noticed() -> None:
    """Where the heads are frozen, the encoder's output is dead after intent_pre, and its place may be that of
    slot_gelu's result. An intent_pre that were emitted behind slot_gelu would read that."""
    config = TINY.replace(frozen=("intent_pre", "slot_pre"))
    memory = lent(make_memory_map(config), ("slot_active", 0), ("hidden", TINY.n_blocks))
    jobs, batch = untraced(emitted(memory)), sentence(config, 5)
    assert lost(memory, jobs, batch) == []
    for part in ("intent_tanh", "intent_pre"):
        jobs = late(jobs, (FORWARD, part), (FORWARD, "slot_gelu"))
    assert lost(memory, jobs, batch, shared=False) == []
    assert lost(memory, jobs, batch) == [
        Lost((FORWARD, "intent_pre"), f"hidden {TINY.n_blocks}", ((FORWARD, "slot_gelu"),))
    ]
