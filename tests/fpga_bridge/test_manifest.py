"""The trace manifest and the generated header: places without gaps, order of execution, both ways equal.

The header is held against the config by a C++ compiler, which evaluates it.
"""

from __future__ import annotations

import subprocess
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from fpga_bridge.kernel.build import find_compiler
from fpga_bridge.kernel.header import HEADER_NAME, header, kernel_hash
from fpga_bridge.memory.layout import HASH_WORDS, pitch_of
from fpga_bridge.memory.memory_map import make_memory_map
from fpga_bridge.memory.timeline import make_timeline
from fpga_bridge.program.manifest import KEEP, Manifest, make_manifest
from tests.fpga_bridge.samples import OTHER_CONFIGS, TINY, configs, is_padding, token_axes_of
from ttjax import ModelConfig, preset

MANIFEST = make_manifest(TINY)


def counting(manifest: Manifest) -> np.ndarray:
    """A trace buffer in which each element is its own place."""
    assert manifest.words < 2**24
    return np.arange(manifest.words, dtype=np.float32)


@given(configs())
def test_points_have_names_of_their_own_and_fill_the_buffer_without_gap_or_overlap(
    config: ModelConfig,
) -> None:
    manifest = make_manifest(config)
    assert len(manifest.by_name) == len(manifest.points)
    placed = {p.name: p.size for p in manifest.layout.placements}  # padding of rows included
    sizes = {p.name: placed.get(p.name.removeprefix("d_").removeprefix("new_"), 0) for p in manifest.points}
    spans = sorted((p.offset, p.offset + (sizes[p.name] or prod(p.shape))) for p in manifest.points)
    assert spans[0][0] == 0
    assert all(end == start for (_, end), (start, _) in pairwise(spans))
    assert spans[-1][1] == manifest.words


def test_enc2_has_at_least_250_points() -> None:
    assert len(make_manifest(preset("enc2")).points) >= 250


@pytest.mark.parametrize("immediate", [True, False])
@pytest.mark.parametrize("name", ["tiny", "enc4"])
def test_points_come_in_order_of_execution(name: str, immediate: bool) -> None:
    points = make_manifest(preset(name).replace(immediate=immediate)).points
    kinds = [p.kind for p in points]
    n_values, n_updated = kinds.count("value"), kinds.count("updated")
    assert set(kinds[:n_values]) == {"value"}
    for before, point in pairwise(points):
        if point.kind == "updated" and immediate:
            assert before.name == "d_" + point.name.removeprefix("new_")
    if not immediate:
        assert set(kinds[len(kinds) - n_updated :]) == {"updated"}
    values = [p.name for p in points if p.kind == "value"]
    assert values[:5] == ["embed", "embed_norm", "block0.q.left", "block0.q.right", "block0.q.bond"]
    assert values[-3:] == ["intent_loss", "slot_loss", "loss"]
    backward = [p.name.removeprefix("d_") for p in points if p.kind == "value_gradient"]
    assert backward == [name for name in reversed(values) if not name.endswith("loss")]


def test_a_layers_parameter_gradients_stand_right_behind_the_gradients_of_its_values() -> None:
    middle = [p for p in MANIFEST.points if p.kind in ("value_gradient", "parameter_gradient")]
    for before, point in pairwise(middle):
        if point.kind == "parameter_gradient":
            assert before.stage == point.stage
    gradients = {p.name.removeprefix("d_") for p in middle if p.kind == "parameter_gradient"}
    updated = {p.name.removeprefix("new_") for p in MANIFEST.points if p.kind == "updated"}
    assert gradients == updated == {p.name for p in MANIFEST.layout.placements}


@pytest.mark.parametrize("options", [{}, {"rederive": True}], ids=["kept", "rederived"])
def test_every_point_is_of_a_stage_that_the_kernel_runs(options: dict[str, Any]) -> None:
    manifest = make_manifest(TINY.replace(**options))
    stages = {name for _, name in make_timeline(manifest.layout.config).stages}
    assert {point.stage for point in manifest.points} == stages - {"merges", "parameters"}


@given(configs())
def test_overrides_put_every_element_where_read_finds_it(config: ModelConfig) -> None:
    """So the round trip holds for the TTM cores too, whose axes lie permuted on the chip."""
    manifest = make_manifest(config)
    buffer = counting(manifest)
    arrays = manifest.read(buffer)
    assert [*arrays] == [p.name for p in manifest.points]
    assert {n: a.shape for n, a in arrays.items()} == {p.name: p.shape for p in manifest.points}
    before_updates = {n: a for n, a in arrays.items() if not n.startswith("new_")}
    handed_in = manifest.overrides(before_updates)
    at = manifest.updated_offset
    padding = handed_in[:at] == KEEP
    np.testing.assert_array_equal(handed_in[:at].view(np.float32)[~padding], buffer[:at][~padding])
    elements = sum(array.size for array in before_updates.values())
    assert at - np.count_nonzero(padding) == elements
    np.testing.assert_array_equal(handed_in[at:], KEEP)


@pytest.mark.parametrize("name", ["block0.q", "d_block1.norm2", "d_embed.core1", "d_slot_out.bias", "loss"])
def test_an_override_touches_its_own_elements_alone(name: str) -> None:
    point = MANIFEST.by_name[name]
    array = np.random.default_rng(0).standard_normal(point.shape).astype(np.float32)
    buffer = MANIFEST.overrides({name: array})
    assert np.count_nonzero(buffer != KEEP) == array.size
    read = MANIFEST.read(buffer.view(np.float32))
    np.testing.assert_array_equal(read[name], array)


def test_read_agrees_with_the_memory_map_on_gradients_and_updates() -> None:
    """A parameter's trace points lie as its banks do."""
    arrays = MANIFEST.read(counting(MANIFEST))
    for p in MANIFEST.layout.placements:
        bank, word, lane = np.moveaxis(MANIFEST.layout.address(p.name), -1, 0)
        start = np.array([b.offset - HASH_WORDS for b in MANIFEST.layout.banks])[bank]
        at = start + word * np.array([b.lanes for b in MANIFEST.layout.banks])[bank] + lane
        np.testing.assert_array_equal(arrays[f"d_{p.name}"], MANIFEST.gradients_offset + at)
        np.testing.assert_array_equal(arrays[f"new_{p.name}"], MANIFEST.updated_offset + at)


def test_an_override_that_fits_no_point_is_refused() -> None:
    with pytest.raises(KeyError, match="block9"):
        MANIFEST.overrides({"block9.q": np.zeros((10, 24), np.float32)})
    with pytest.raises(ValueError, match=r"expected shape \(10, 24\), found \(24, 10\)"):
        MANIFEST.overrides({"block0.q": np.zeros((24, 10), np.float32)})
    with pytest.raises(ValueError, match="end of the step"):
        MANIFEST.overrides({"new_block0.q.bias": np.zeros(24, np.float32)})


@pytest.mark.parametrize("name", ["tiny", "enc2", "rank_1_everywhere_and_one_word"])
def test_values_and_their_gradients_know_their_axes_over_positions(name: str) -> None:
    for point in make_manifest(OTHER_CONFIGS.get(name) or preset(name)).points:
        of_values = point.kind in ("value", "value_gradient")
        assert point.token_axes == (token_axes_of(point.name) if of_values else ()), point.name


@pytest.mark.parametrize("length", [2, 7, TINY.seq_len])
def test_without_padding_zeroes_what_stands_after_the_sentence_and_nothing_else(length: int) -> None:
    """Whatever stood there; and the arrays it was given stay as they are."""
    trace = {p.name: np.full(p.shape, np.nan, np.float64) for p in MANIFEST.points}
    kept = MANIFEST.without_padding(trace, length)
    assert [*kept] == [*trace]
    for point in MANIFEST.points:
        zero = is_padding(point, length) if point.token_axes else np.zeros(point.shape, bool)
        np.testing.assert_array_equal(kept[point.name], np.where(zero, 0.0, np.nan), point.name)
        assert np.isnan(trace[point.name]).all()
        assert (kept[point.name] is trace[point.name]) == (not zero.any()), point.name


def test_what_fits_no_point_is_handed_on_by_without_padding() -> None:
    strange = {"block9.q": np.ones((10, 24), np.float32), "block0.probs": np.ones(5, np.float32)}
    kept = MANIFEST.without_padding(strange, 2)
    assert kept.keys() == strange.keys() and all(kept[name] is strange[name] for name in strange)


def constants(config: ModelConfig) -> dict[str, str]:
    """C++ conditions that the header of a config must fulfil, by what they are about."""
    manifest = make_manifest(config)
    memory = make_memory_map(config)
    numbers = {
        "kHashWords": HASH_WORDS,
        "kTokens": config.seq_len,
        "kIntents": config.n_intents,
        "kSlots": config.n_slots,
        # Length, intent and rate, then tokens and slots.
        "kExampleWords": 3 + 2 * config.seq_len,
        "kHeadWords": 3,
        "kLogits": config.n_intents + config.seq_len * config.n_slots,
        "kSlotLogits": memory.place("slot_logits")[1],
        "kSlotPitch": pitch_of(config.n_slots),
        "kNormWidth": config.d_model,
        "kMaxRows": config.n_heads * config.seq_len,
        "kEmbedCores": len(config.vocab_modes),
        "kImageWords": manifest.layout.image_words,
        "kTraceWords": manifest.words,
    }
    numbers |= {f"sizeof({bank.name}) / sizeof(float)": bank.size for bank in manifest.layout.banks}
    arrays = {"kVocabModes": config.vocab_modes}
    for name, values in arrays.items():
        numbers[f"sizeof({name}) / sizeof({name}[0])"] = len(values)
        numbers |= {f"{name}[{i}]": value for i, value in enumerate(values)}
    conditions = {name: f"{name} == {value}" for name, value in numbers.items()}
    for i, word in enumerate(kernel_hash(manifest)):
        conditions[f"hash {i}"] = f"kHash[{i}] == {word}u"
    for name, value in (("kNormEps", config.norm_eps), ("kSlotLossWeight", config.slot_weight)):
        conditions[name] = f"{name} == static_cast<float>({value!r})"
    return conditions


@pytest.mark.parametrize("name", ["tiny", "enc2", "enc6", *OTHER_CONFIGS])
def test_the_header_stands_alone_and_says_what_the_config_says(name: str, tmp_path: Path) -> None:
    config = OTHER_CONFIGS.get(name) or preset(name)
    (tmp_path / HEADER_NAME).write_text(header(make_manifest(config)))
    checks = [f'static_assert({c}, "{about}");' for about, c in constants(config).items()]
    source = tmp_path / "check.cpp"
    source.write_text(
        f'#include "{HEADER_NAME}"\n#include "{HEADER_NAME}"\n'
        "using namespace ttfpga;\n" + "\n".join(checks) + "\n"
    )
    flags = [
        "-std=c++14",
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Werror",
        "-Wno-unused-variable",
        "-fsyntax-only",
    ]
    done = subprocess.run([find_compiler(), *flags, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_header_of_a_config_is_the_same_text() -> None:
    assert header(make_manifest(preset("tiny"))) == header(MANIFEST)
