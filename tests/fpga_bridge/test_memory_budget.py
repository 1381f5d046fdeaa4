"""What a step's memory costs: it fits the U50, what it saves, what the planner picks, what it can't fit.

And the command that shows it: its JSON, its picture and its errors.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from math import prod
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpga_bridge.budget import limits
from fpga_bridge.budget.buffers import kernel_shapes, program_blocks, program_shape, training_bytes
from fpga_bridge.budget.limits import blocks_of, first_to_run_out, fits, largest, shortage
from fpga_bridge.budget.planner import cheapest_plan
from fpga_bridge.budget.slr_picture import draw, place_on_slrs
from fpga_bridge.cli import main
from fpga_bridge.memory.banks import bank_shapes, core_shapes
from fpga_bridge.memory.blocks import U50_USABLE, BankShape, Budget, block_count, efficiency, total_blocks
from fpga_bridge.memory.memory_map import extra_multiplications, make_memory_map
from fpga_bridge.memory.uncompressed import dense_config, dense_live_bytes, saved_activation_bytes, xla_bytes
from tests.fpga_bridge.samples import TINY, configs, recomputed
from ttjax import Batch, ModelConfig, Params, UserError, preset
from ttjax.costs import model_costs, multiplications
from ttjax.model import attention, embed, forward
from ttjax.params import abstract_params, linear_core_shapes, linear_names, parameter_shapes
from ttjax.tt import merge_left, merge_right, ttm_core_shapes

PAPER = ("enc2", "enc4", "enc6")
needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="no matplotlib: pip install 'ttjax-fpga[test]'"
)


@pytest.mark.parametrize("immediate", [True, False])
@pytest.mark.parametrize("name", PAPER)
def test_the_papers_models_fit_the_usable_u50_with_gradients_and_activations(
    name: str, immediate: bool
) -> None:
    memory = make_memory_map(preset(name).replace(immediate=immediate))
    count = total_blocks(kernel_shapes(memory))
    assert count == blocks_of(memory.config) + program_blocks(memory.config)
    assert count.bram36 < 1128 and count.uram < 608
    assert U50_USABLE.fits(count) and shortage(count, U50_USABLE) == {}


def test_six_blocks_with_everything_kept_do_not_fit_and_uram_is_what_runs_out() -> None:
    count = blocks_of(preset("enc6").replace(rederive=False))
    over = shortage(count, U50_USABLE)
    assert over.keys() == {"URAM"} and over["URAM"] == count.uram - 608 > 0
    assert first_to_run_out(count, U50_USABLE) == "URAM"


def test_the_first_resource_to_run_out_is_the_one_used_most() -> None:
    count = blocks_of(TINY)
    assert first_to_run_out(count, Budget(int(count.bram36), 2 * count.uram)) == "BRAM36"
    assert first_to_run_out(count, Budget(2 * int(count.bram36), count.uram)) == "URAM"


@pytest.mark.parametrize("name", PAPER)
def test_grouped_tt_cores_use_their_blocks_three_times_as_well(name: str) -> None:
    memory = make_memory_map(preset(name))
    grouped, single = (list(core_shapes(memory, grouped=g)) for g in (True, False))
    config = memory.config
    n_cores = len(config.in_modes) + len(config.out_modes)
    assert len(grouped) == n_cores and len(single) == n_cores * (6 * config.n_blocks + 2)
    cores = [p.size for p in memory.layout.placements if "core" in p.name and p.name[:5] != "embed"]
    for shapes in (grouped, single):  # whole words: in LUTRAM of twice the width
        assert 0 <= sum(s.bits for s in shapes) - 32 * sum(cores) < 1024 * len(shapes)
    assert efficiency(grouped) >= 3 * efficiency(single)
    assert total_blocks(grouped).bits < total_blocks(single).bits


def test_six_blocks_made_again_train_in_3_8_megabytes_51_times_below_the_uncompressed() -> None:
    """With rows padded to words and with the units' own buffers."""
    config = recomputed(preset("enc6"))
    held = training_bytes(make_memory_map(config))
    assert held <= 3.8e6
    assert dense_live_bytes(config) / held >= 51
    assert U50_USABLE.fits(blocks_of(config))


@pytest.mark.parametrize(("name", "ratio"), [("enc2", 30.49), ("enc4", 43.38), ("enc6", 52.01)])
def test_the_parameters_alone_shrink_as_the_paper_says(name: str, ratio: float) -> None:
    config = preset(name)
    numbers = [sum(map(prod, parameter_shapes(c).values())) for c in (dense_config(config), config)]
    assert numbers[0] / numbers[1] == pytest.approx(ratio, abs=0.005)
    assert model_costs(dense_config(config)).bytes == 4 * numbers[0]
    memory = make_memory_map(config)
    padding = sum(p.size - prod(p.shape) for p in memory.layout.placements)
    assert memory.parameter_bytes == 4 * (numbers[1] + padding)
    assert padding < 0.02 * numbers[1]


@pytest.mark.parametrize("name", ["tiny", *PAPER])
def test_saved_activations_are_those_counted_by_hand(name: str) -> None:
    """Of (tokens, width): a block's input, q, k, v, context, attended, the hidden layer before and after GELU
    and two norms' values, 10 in all; the embedding norm's; and of the heads the encoder's output, the slots'
    hidden, normalised and normed. Besides: the attention weights, and the gradient of the slots' logits."""
    config = preset(name)
    wide = 10 * config.n_blocks + 5
    weights = config.n_blocks * config.n_heads * config.seq_len**2
    by_hand = wide * config.seq_len * config.d_model + weights + config.seq_len * config.n_slots
    assert saved_activation_bytes(config) == 4 * by_hand
    assert saved_activation_bytes(recomputed(config)) == 4 * by_hand, "the uncompressed model keeps all"
    assert dense_live_bytes(config) == 2 * model_costs(dense_config(config)).bytes + 4 * by_hand


def test_xla_needs_more_than_the_parameters_twice_for_its_step() -> None:
    """Old and new parameters at the least: a step of XLA's has both, and gradients in between."""
    dense = model_costs(dense_config(TINY)).bytes
    assert 2 * dense < xla_bytes(TINY) < 20 * dense
    assert xla_bytes(TINY.replace(recompute=(0,), frozen=("embed",))) == xla_bytes(TINY)


def kernel_fits(config: ModelConfig, budget: Budget) -> bool:
    """By every memory of the config's kernel: none counted apart."""
    return budget.fits(total_blocks(kernel_shapes(make_memory_map(config))))


def test_one_more_than_the_largest_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the blocks it is the program that decides: one more would fit with the program of fewer."""
    monkeypatch.setattr(limits, "MOST", {"blocks": 8, "rank": 16, "sequence": 256})
    budget = Budget(210, 490)
    most = largest(TINY, budget)
    assert all(0 < size < limits.MOST[name] for name, size in most.items())

    def grown(extra: int) -> list[ModelConfig]:
        return [
            TINY.replace(n_blocks=most["blocks"] + extra),
            TINY.with_rank(most["rank"] + extra),
            TINY.replace(seq_len=most["sequence"] + extra),
        ]

    assert all(kernel_fits(config, budget) for config in grown(0))
    assert not any(kernel_fits(config, budget) for config in grown(1))
    banks = total_blocks(bank_shapes(make_memory_map(grown(1)[0])))
    assert budget.fits(banks + program_blocks(TINY))


def test_a_model_that_recomputes_grows_recomputing_and_more_blocks_of_it_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MOST", {"blocks": 7, "rank": 1, "sequence": 2})
    budget = Budget(200, 240)
    assert largest(recomputed(TINY), budget)["blocks"] > largest(TINY, budget)["blocks"]


def test_a_model_that_recomputes_one_block_grows_recomputing_that_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MOST", {"blocks": 7, "rank": 1, "sequence": 2})
    budget, one = Budget(200, 240), TINY.replace(recompute=(0,), frozen=("block1.q",))
    most = largest(one, budget)["blocks"]
    assert 2 <= most < 7
    assert fits(one.replace(n_blocks=most), budget) and not fits(one.replace(n_blocks=most + 1), budget)


def test_where_nothing_fits_the_largest_is_0() -> None:
    assert largest(TINY, Budget(1, 1)) == {"blocks": 0, "rank": 0, "sequence": 0}


@pytest.mark.parametrize("name", PAPER)
def test_each_memory_lies_on_one_die_and_no_die_is_over_full(name: str) -> None:
    shapes = kernel_shapes(make_memory_map(preset(name)))
    dies = place_on_slrs(shapes, U50_USABLE)
    assert len(dies) == 2
    assert len({shape.name for shape in shapes}) == len(shapes)
    placed = sorted(shape.name for die in dies for shape in die)
    assert placed == sorted(shape.name for shape in shapes)
    for die in dies:
        assert U50_USABLE.per_slr.fits(total_blocks(die))


@given(configs(), st.booleans(), st.booleans())
def test_extra_multiplications_are_those_of_the_traced_functions(
    config: ModelConfig, recompute: bool, rederive: bool
) -> None:
    config = config.replace(recompute=tuple(range(config.n_blocks)) if recompute else (), rederive=rederive)
    tokens, width, n_in = config.seq_len, config.d_model, len(config.in_modes)
    cores = [abstract(s) for s in linear_core_shapes(config)]
    merges = multiplications(merge_left, cores[:n_in]) + multiplications(merge_right, cores[n_in:])
    x, narrow = abstract((tokens, width)), abstract((tokens, config.bond))
    a, b = abstract((width, config.bond)), abstract((config.bond, width))
    applied = multiplications(jnp.matmul, x, a) + multiplications(jnp.matmul, narrow, b)
    mask = jax.ShapeDtypeStruct((tokens,), jnp.bool_)
    attended = multiplications(lambda x, mask: attention(x, x, x, mask, config), x, mask)
    shapes = ttm_core_shapes(config.vocab_modes, config.embed_modes, config.ttm_ranks)
    layer = {f"core{k}": abstract(s) for k, s in enumerate(shapes)} | {"position": x}
    ids, number = jax.ShapeDtypeStruct((tokens,), jnp.int32), jax.ShapeDtypeStruct((), jnp.int32)
    rows = multiplications(
        lambda layer, ids, n: embed(layer, Batch(ids, n, n, ids), config), layer, ids, number
    )
    assert extra_multiplications(config) == {
        "recompute": len(config.recompute) * (6 * (merges + applied) + attended),
        "rederive": len(linear_names(config)) * merges + rows if config.rederive else 0,
    }


@pytest.mark.parametrize("name", ["tiny", "enc2"])
def test_a_block_that_runs_again_multiplies_what_one_more_block_does(name: str) -> None:
    """Whatever a block is made of."""

    def forward_pass(blocks: int) -> int:
        config = preset(name).replace(n_blocks=blocks)
        tokens = jax.ShapeDtypeStruct((config.seq_len,), jnp.int32)
        number = jax.ShapeDtypeStruct((), jnp.int32)

        def run(params: Params, tokens: Any, length: Any) -> Any:
            return forward(params, Batch(tokens, length, length, tokens), config)

        return multiplications(run, abstract_params(config), tokens, number)

    again = extra_multiplications(preset(name).replace(recompute=(0,)))["recompute"]
    assert again == forward_pass(2) - forward_pass(1)


def abstract(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.fixture
def short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's search of the largest models, which is tested by itself, ends early."""
    monkeypatch.setattr(limits, "MOST", {"blocks": 2, "rank": 3, "sequence": 4})


def figures(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["memory", *arguments, "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("short_search")
def test_the_commands_json_has_the_counts_of_the_map(capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(["--preset", "tiny"], capsys)
    memory = make_memory_map(TINY)
    shapes = kernel_shapes(memory)
    count = total_blocks(shapes)
    assert (found["bram36"], found["uram"], found["fits"]) == (count.bram36, count.uram, True)
    assert found["largest"] == found["largest_searched_to"] == limits.MOST
    assert found["allocated_bytes"] == training_bytes(memory)
    assert found["program_bytes"] * 8 == program_shape(TINY).bits
    assert found["dense_live_bytes"] == dense_live_bytes(TINY)
    assert found["ratio_allocated"] == dense_live_bytes(TINY) / training_bytes(memory)
    assert [bank["name"] for bank in found["banks"]] == [shape.name for shape in shapes]
    for bank, shape in zip(found["banks"], shapes, strict=True):
        assert (bank["width"], bank["depth"], bank["kind"]) == (shape.width, shape.depth, shape.kind)
    assert sum(bank["bram36"] for bank in found["banks"]) == found["bram36"]
    assert sum(bank["uram"] for bank in found["banks"]) == found["uram"]


@pytest.mark.usefixtures("short_search")
def test_the_tables_are_whole_on_a_terminal_of_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["memory", "--preset", "tiny"]) == 0
    shown = capsys.readouterr().out
    assert "norm_scale_gradient " in shown and "…" not in shown


def test_the_command_plans_for_the_megabytes_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(["--preset", "tiny", "--max-mb", "0.09"], capsys)
    assert found["allocated_bytes"] <= 90_000
    chosen = found["config"]["recompute"], found["config"]["rederive"]
    plan = cheapest_plan(TINY, budget=U50_USABLE, max_bytes=90_000).config
    assert chosen == (list(plan.recompute), plan.rederive) != ([], False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preset", "tiny", "--max-mb", "0.001"], "the smallest needs"),
        (["--preset", "tiny", "--format", "dense"], "tensor-train only"),
        (
            ["--preset", "tiny", "--max-mb", "nan"],
            "--max-mb: expected a number of megabytes above 0, found nan",
        ),
        (
            ["--preset", "tiny", "--max-mb", "inf"],
            "--max-mb: expected a number of megabytes above 0, found inf",
        ),
        (["--preset", "tiny", "--plan", "--recompute", "0"], "--recompute: expected none with a plan"),
        (
            ["--preset", "tiny", "--max-mb", "9", "--immediate", "False"],
            "--immediate: expected none with a plan",
        ),
    ],
    ids=["no plan", "uncompressed", "not a number", "infinite", "recompute chosen", "immediate chosen"],
)
@pytest.mark.usefixtures("short_search")
def test_what_cannot_be_asked_for_is_one_line_and_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["memory", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("error: ") for line in lines] == [True]
    assert said in lines[0]


@pytest.mark.usefixtures("short_search")
def test_a_config_that_does_not_fit_is_shown_and_written_with_status_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "enc6.json"
    assert main(["memory", "--preset", "enc6", "--rederive", "False", "--json", str(path)]) == 1
    over = blocks_of(preset("enc6").replace(rederive=False)).uram - 608
    assert f"DOES NOT FIT the usable U50, by {over} URAM: let --plan choose" in capsys.readouterr().out
    assert json.loads(path.read_text())["fits"] is False


@needs_matplotlib
@pytest.mark.usefixtures("short_search")
def test_the_picture_is_a_png(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dies.png"
    assert main(["memory", "--preset", "tiny", "--picture", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    said = capsys.readouterr().out.replace("\n", "")
    assert str(path) in said
    assert "each grown alone: blocks at least 2, rank at least 3, sequence at least 4" in said


@needs_matplotlib
def test_a_picture_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    shapes = [BankShape("one", 72, 512, "bram"), BankShape("lanes", 32, 8, "lutram")]
    assert block_count(shapes[0]).bram36 == 1
    with pytest.raises(UserError, match=r"can't write .*missing.*choose another --picture"):
        draw(shapes, U50_USABLE, "title", tmp_path / "missing" / "dies.png")


def test_without_matplotlib_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 'ttjax-fpga\[plot\]'"):
        draw([], U50_USABLE, "title", tmp_path / "dies.png")
