"""What the planner picks: the cheapest of all plans, found by brute force, that fits; and refusals."""

from __future__ import annotations

from itertools import combinations

import pytest

from fpga_bridge.budget.buffers import training_bytes
from fpga_bridge.budget.limits import blocks_of
from fpga_bridge.budget.planner import cheapest_plan, plans
from fpga_bridge.memory.banks import bank_shapes
from fpga_bridge.memory.blocks import U50_USABLE, Budget, total_blocks
from fpga_bridge.memory.memory_map import extra_multiplications, make_memory_map
from tests.fpga_bridge.samples import TINY, recomputed
from ttjax import ModelConfig, UserError, preset


def every_plan(config: ModelConfig) -> list[ModelConfig]:
    """All plans, found by brute force."""
    n = config.n_blocks
    sets = [set_ for size in range(n + 1) for set_ in combinations(range(n), size)]
    return [
        config.replace(recompute=set_, rederive=r, immediate=True) for set_ in sets for r in (False, True)
    ]


def cost(config: ModelConfig) -> int:
    return sum(extra_multiplications(config).values())


@pytest.mark.parametrize("uram", [1000, 231, 208, 184, 150, 144, 128, 104])
def test_the_cheapest_plan_fits_and_nothing_cheaper_does(uram: int) -> None:
    budget = Budget(40, uram)
    plan = cheapest_plan(TINY.replace(immediate=False), budget=budget)
    assert budget.fits(plan.blocks) and plan.blocks == blocks_of(plan.config)
    assert plan.extra == cost(plan.config) and plan.config.immediate
    fitting = [c for c in every_plan(TINY) if budget.fits(blocks_of(c))]
    assert plan.config in fitting
    assert plan.extra == min(map(cost, fitting))


@pytest.mark.parametrize("config", every_plan(TINY), ids=lambda c: f"{c.recompute}-{c.rederive}")
def test_the_cheapest_plan_keeps_to_the_bytes_it_is_given(config: ModelConfig) -> None:
    limit = training_bytes(make_memory_map(config))
    plan = cheapest_plan(TINY, budget=U50_USABLE, max_bytes=limit)
    assert plan.bytes == training_bytes(plan.memory) <= limit
    fitting = [c for c in every_plan(TINY) if training_bytes(make_memory_map(c)) <= limit]
    assert plan.extra == min(map(cost, fitting))


@pytest.mark.parametrize("n_blocks", [3, 4])
def test_of_as_many_recomputed_blocks_the_first_need_the_least(n_blocks: int) -> None:
    """So that the planner need not try the others."""

    def needs(config: ModelConfig) -> tuple[float, ...]:
        memory, count = make_memory_map(config), blocks_of(config)
        return memory.total_bytes, count.bram36, count.uram

    tried = {plan.config for plan in plans(TINY.replace(n_blocks=n_blocks))}
    assert len(tried) == 2 * (n_blocks + 1)
    for planned in every_plan(TINY.replace(n_blocks=n_blocks)):
        first = planned.replace(recompute=tuple(range(len(planned.recompute))))
        assert first in tried and cost(first) == cost(planned)
        assert all(least <= other for least, other in zip(needs(first), needs(planned), strict=True))


def test_frozen_layers_make_blocks_unlike_and_each_set_is_tried() -> None:
    config = TINY.replace(frozen=("block0.q",))
    assert {p.config for p in plans(config)} == set(every_plan(config))
    with pytest.raises(UserError, match="tries each set of blocks: expected at most 8, found 9"):
        cheapest_plan(config.replace(n_blocks=9), budget=U50_USABLE)


def test_the_cheapest_plan_of_six_blocks_in_3_8_megabytes_makes_all_again() -> None:
    plan = cheapest_plan(preset("enc6"), budget=U50_USABLE, max_bytes=3_800_000)
    assert plan.config == recomputed(preset("enc6"))


def test_a_budget_that_no_plan_fits_is_refused_with_what_the_smallest_needs() -> None:
    memory = make_memory_map(recomputed(TINY))
    count = total_blocks(bank_shapes(memory))
    needs = f"{count.bram36:g} BRAM36, {count.uram} URAM and {training_bytes(memory) / 1e6:.3f} MB"
    with pytest.raises(UserError, match=f"^no plan fits 7 BRAM36 and 3 URAM: the smallest needs {needs}"):
        cheapest_plan(TINY, budget=Budget(7, 3))
    with pytest.raises(UserError, match=r"608 URAM in 0\.001 MB"):
        cheapest_plan(TINY, budget=U50_USABLE, max_bytes=1000)
