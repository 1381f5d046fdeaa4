"""Whose result a trace point shows: by ranges of addresses, as by a replay that marks every element."""

from __future__ import annotations

from typing import Any

import pytest

from fpga_bridge.memory.memory_map import make_memory_map
from fpga_bridge.program.instructions import TRACE_ONLY, Op
from fpga_bridge.program.makers import RESULTS, makers
from fpga_bridge.program.manifest import make_manifest
from tests.fpga_bridge.replay import GIVEN, NEVER, Memories, blocks, emitted
from tests.fpga_bridge.samples import TINY, one_of, sentences
from ttjax import preset


@pytest.mark.parametrize(
    ("point", "made_by"),
    [
        ("block0.q.left", ["TO_WIDE of forward merges"]),
        ("slot_loss", ["CROSS_ENTROPY of forward loss"]),
        ("new_slot_pre.bias", ["UPDATE of backward slot_pre"]),
        # Named after k, made where the scores' gradient is.
        ("d_block1.k", ["TO_TILE of backward block1.attention"]),
        # The residual stream's, and what each of the three layers that read it adds.
        (
            "d_block0.norm2",
            [
                "NORM_BACKWARD of backward block1.norm1",
                "TO_WIDE of backward block1.v",
                "TO_WIDE of backward block1.k",
                "TO_WIDE of backward block1.q",
            ],
        ),
    ],
)
def test_a_point_is_made_by(point: str, made_by: list[str]) -> None:
    assert [job.label for job in makers(make_manifest(TINY))[point]] == made_by


@pytest.mark.parametrize("name", ["tiny", "enc2"])
@pytest.mark.parametrize("options", [{}, {"rederive": True, "recompute": (0,)}, {"immediate": False}])
def test_the_last_maker_of_every_point_is_whoever_wrote_its_last_element(
    name: str, options: dict[str, Any]
) -> None:
    config = preset(name).replace(**options)
    manifest, memory = make_manifest(config), make_memory_map(config)
    found, jobs = makers(manifest), emitted(memory)
    points = {point.offset: point.name for point in manifest.points}
    shown = {}
    batch = one_of(sentences(config, 1, lengths=[config.seq_len]))
    for job, _, views in Memories(memory, batch, shared=True).play(jobs):
        if job.does.op == Op.TAP:
            shown[points[job.does.trace]] = max(int(view.max()) for view in views)
    assert shown.keys() == found.keys() == {point.name for point in manifest.points}
    assert not {GIVEN, NEVER} & set(shown.values())
    assert {point: jobs[last].does for point, last in shown.items()} == {p: of[-1] for p, of in found.items()}


def test_results_are_what_a_unit_writes() -> None:
    memory = make_memory_map(TINY)
    for job in emitted(memory):
        if job.does.op not in TRACE_ONLY:
            _, writes = blocks(job.does, TINY.seq_len)
            assert {*RESULTS[job.does.op]} == {*writes}
    assert RESULTS.keys() == set(Op) - {*TRACE_ONLY}
