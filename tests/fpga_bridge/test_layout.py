"""The memory map: every element has one place of its own, and packing puts it there and back.

What is refused: parameters, images and configs that don't fit.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpga_bridge.memory import layout
from fpga_bridge.memory.layout import HASH_WORDS, MAX_LANES, Layout, make_layout
from tests.fpga_bridge.samples import TINY, configs, differing, random_bits, random_params
from ttjax import ModelConfig, Params, UserError, flatten, preset, unflatten

LAYOUT = make_layout(TINY)
KERNEL = np.arange(0xFFFFFFF0, 0xFFFFFFF8, dtype=np.uint32)  # any kernel's hash


def places(layout: Layout) -> np.ndarray:
    """(bank, word, lane) of every element of every parameter, one row each."""
    return np.concatenate([layout.address(p.name).reshape(-1, 3) for p in layout.placements])


def numbered(layout: Layout) -> Params:
    """Parameters in which no two elements are the same number (all exact in float32)."""
    first, leaves = 0, {}
    for p in reversed(layout.placements):
        n = prod(p.shape)
        leaves[p.name] = np.arange(first, first + n, dtype=np.float32).reshape(p.shape)
        first += n
    assert first < 2**24
    return unflatten(leaves)


@given(configs())
def test_every_element_has_an_address_of_its_own_and_what_is_left_is_the_rows_padding(
    config: ModelConfig,
) -> None:
    layout = make_layout(config)
    every = {
        (b, word, lane)
        for b, bank in enumerate(layout.banks)
        for word in range(bank.words)
        for lane in range(bank.lanes)
    }
    used = [tuple(place) for place in places(layout).tolist()]
    assert len(set(used)) == len(used)
    assert set(used) <= every
    padding = sum(prod(p.shape) // p.row * (p.pitch - p.row) for p in layout.placements)
    assert len(every) - len(used) == padding


@given(configs())
def test_a_row_longer_than_a_word_begins_at_one_and_no_row_has_a_word_of_padding(config: ModelConfig) -> None:
    layout = make_layout(config)
    for p in layout.placements:
        bank = layout.banks[p.bank]
        assert prod(p.shape) % p.row == 0
        assert p.row <= p.pitch < p.row + MAX_LANES
        if p.row > MAX_LANES:
            assert (p.start % MAX_LANES, p.pitch % MAX_LANES, bank.lanes) == (0, 0, MAX_LANES), p.name
        else:
            assert p.pitch == p.row
        address = p.gather(np.arange(p.size)).transpose(p.axes).reshape(-1, p.row)
        np.testing.assert_array_equal(address[:, 0], p.pitch * np.arange(len(address)))
        np.testing.assert_array_equal(address - address[:, :1], np.tile(np.arange(p.row), (len(address), 1)))


@given(configs())
def test_every_parameter_has_a_place_and_banks_lie_one_after_the_other(config: ModelConfig) -> None:
    layout = make_layout(config)
    leaves = flatten(random_params(config))
    assert {p.name: p.shape for p in layout.placements} == {name: leaf.shape for name, leaf in leaves.items()}
    assert layout.size == sum(p.size for p in layout.placements)
    assert layout.size >= sum(leaf.size for leaf in leaves.values())
    offset = HASH_WORDS
    for bank in layout.banks:
        assert bank.offset == offset
        assert 1 <= bank.lanes <= MAX_LANES
        offset += bank.words * bank.lanes
    assert layout.image_words == offset


def test_a_parameter_of_no_bank_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {bank: names for bank, names in layout._groups(TINY).items() if bank != "slot_bias"}
    monkeypatch.setattr(layout, "_groups", lambda config: groups)
    with pytest.raises(AssertionError, match=r"parameters of no bank: \['slot_out.bias'\]"):
        make_layout.__wrapped__(TINY)


@given(configs())
def test_pack_puts_each_element_where_its_address_says(config: ModelConfig) -> None:
    layout = make_layout(config)
    params = numbered(layout)
    elements = layout.pack(params, KERNEL).view(np.float32)
    for name, leaf in flatten(params).items():
        bank, word, lane = np.moveaxis(layout.address(name), -1, 0)
        offset = np.array([bank.offset for bank in layout.banks])[bank]
        lanes = np.array([bank.lanes for bank in layout.banks])[bank]
        np.testing.assert_array_equal(elements[offset + word * lanes + lane], leaf)


@given(configs(), st.integers(0, 2**32 - 1))
def test_unpack_after_pack_is_the_identity_on_all_bits(config: ModelConfig, seed: int) -> None:
    layout = make_layout(config)
    params = random_bits(config, seed)
    assert differing(layout.unpack(layout.pack(params, KERNEL), KERNEL), params) == []


@given(configs(), st.integers(0, 2**32 - 1))
def test_pack_after_unpack_is_the_identity_on_images_and_clears_the_padding(
    config: ModelConfig, seed: int
) -> None:
    layout = make_layout(config)
    image = np.random.default_rng(seed).integers(0, 2**32, layout.image_words, np.uint32)
    image[:HASH_WORDS] = KERNEL
    bank, word, lane = places(layout).T
    offsets, lanes = np.array([(b.offset, b.lanes) for b in layout.banks]).T
    used = np.zeros(layout.image_words, bool)
    used[:HASH_WORDS] = used[offsets[bank] + word * lanes[bank] + lane] = True
    packed = layout.pack(layout.unpack(image, KERNEL), KERNEL)
    np.testing.assert_array_equal(packed, np.where(used, image, 0))


@given(configs())
def test_split_reads_elements_as_unpack_reads_the_image(config: ModelConfig) -> None:
    layout = make_layout(config)
    image = layout.pack(numbered(layout), KERNEL)
    split = layout.split(image[HASH_WORDS:].view(np.float32))
    assert differing(unflatten(split), layout.unpack(image, KERNEL)) == []


def test_what_comes_out_are_copies() -> None:
    image = LAYOUT.pack(random_params(TINY), KERNEL)
    before = image.copy()
    for leaf in flatten(LAYOUT.unpack(image, KERNEL)).values():
        leaf[...] = 0.0
    np.testing.assert_array_equal(image, before)


def test_a_core_digit_of_the_embedding_is_contiguous() -> None:
    """A token picks one row digit of each TTM core: that slice is one run of the bank, padding included."""
    for name in ("embed.core0", "embed.core1", "embed.core2"):
        [placement] = [p for p in LAYOUT.placements if p.name == name]
        lanes = LAYOUT.banks[placement.bank].lanes
        _, word, lane = np.moveaxis(LAYOUT.address(name), -1, 0)
        element = word * lanes + lane
        for digit in range(placement.shape[1]):
            run = np.sort(element[:, digit].reshape(-1))
            of_digit = placement.size // placement.shape[1]
            first = digit * of_digit
            assert first % lanes == 0
            rows = first + np.arange(of_digit).reshape(-1, placement.pitch)[:, : placement.row]
            np.testing.assert_array_equal(run, rows.reshape(-1))


@pytest.mark.parametrize(("name", "classes"), [("intent_out", TINY.n_intents), ("slot_out", TINY.n_slots)])
def test_a_classifiers_classes_are_the_rows_of_its_bank(name: str, classes: int) -> None:
    placement = LAYOUT.placement(f"{name}.weight")
    lanes = LAYOUT.banks[placement.bank].lanes
    _, word, lane = np.moveaxis(LAYOUT.address(f"{name}.weight"), -1, 0)
    element = word * lanes + lane
    assert element.shape == (TINY.d_model, classes)
    for c in range(classes):
        first = c * placement.pitch
        np.testing.assert_array_equal(element[:, c], np.arange(first, first + TINY.d_model))


def test_cores_of_one_position_share_a_bank_across_layers() -> None:
    bank_of = {p.name: LAYOUT.banks[p.bank].name for p in LAYOUT.placements}
    for name, bank in bank_of.items():
        layer, _, part = name.rpartition(".")
        if part.startswith("core"):
            assert bank == f"{'embed' if layer == 'embed' else 'linear'}_{part}"


@pytest.mark.parametrize(
    "change",
    [
        {"seq_len": 11},
        {"d_model": 48, "in_modes": (8, 3, 2), "out_modes": (6, 8), "embed_modes": (4, 3, 4)},
        {"n_heads": 4},
        {"n_blocks": 1},
        {"vocab_size": 288, "vocab_modes": (6, 8, 6)},
        {"n_intents": 6},
        {"n_slots": 12},
        {"in_modes": (3, 4, 2)},
        {"out_modes": (4, 6)},
        {"tt_ranks": (1, 5, 4, 3, 3, 1)},
        {"vocab_modes": (8, 5, 6)},
        {"embed_modes": (3, 2, 4)},
        {"ttm_ranks": (1, 4, 3, 1)},
        {"norm_eps": 2e-5},
        {"slot_weight": 2.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_config_has_another_hash(change: dict[str, Any]) -> None:
    assert not np.array_equal(make_layout(TINY.replace(**change)).hash, LAYOUT.hash)


def test_the_hash_is_that_of_the_content_and_an_image_begins_with_its_kernels() -> None:
    np.testing.assert_array_equal(make_layout(preset("tiny")).hash, LAYOUT.hash)
    np.testing.assert_array_equal(LAYOUT.pack(random_params(TINY), KERNEL)[:HASH_WORDS], KERNEL)


def test_another_map_of_the_same_config_has_another_hash() -> None:
    """A kernel built by another version of the map must not take an image of this one's."""
    first, *others = LAYOUT.placements
    moved = replace(LAYOUT, placements=(replace(first, start=first.start + 1), *others))
    longer = replace(LAYOUT, banks=(*LAYOUT.banks[:-1], replace(LAYOUT.banks[-1], lanes=1)))
    assert len({layout.hash.tobytes() for layout in (LAYOUT, moved, longer)}) == 3


def test_a_dense_config_is_refused() -> None:
    with pytest.raises(UserError, match="expected format 'tt', found 'dense'"):
        make_layout(TINY.replace(format="dense"))


@pytest.mark.parametrize(
    ("name", "leaf", "message"),
    [
        ("block0.q.core1", None, "block0.q.core1 is missing"),
        ("block0.q.core9", np.zeros(3, np.float32), "block0.q.core9 is not a parameter of this model"),
        ("block1.o.bias", np.zeros(23, np.float32), r"block1.o.bias expected shape \(24,\), found \(23,\)"),
        ("slot_out.weight", np.zeros((24, 11)), "slot_out.weight expected float32, found float64"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(name: str, leaf: np.ndarray | None, message: str) -> None:
    leaves = flatten(random_params(TINY))
    if leaf is None:
        del leaves[name]
    else:
        leaves[name] = leaf
    with pytest.raises(UserError, match=message):
        LAYOUT.pack(unflatten(leaves), KERNEL)


def test_an_image_of_another_kernel_or_length_is_refused() -> None:
    image = LAYOUT.pack(random_params(TINY), KERNEL)
    with pytest.raises(UserError, match=f"expected an image of {LAYOUT.image_words} words"):
        LAYOUT.unpack(image[:-1], KERNEL)
    for word in range(HASH_WORDS):
        wrong = image.copy()
        wrong[word] ^= 1
        with pytest.raises(UserError, match="packed for another kernel"):
            LAYOUT.unpack(wrong, KERNEL)


def test_an_unknown_parameter_has_no_address() -> None:
    with pytest.raises(KeyError):
        LAYOUT.address("block7.q.core0")
