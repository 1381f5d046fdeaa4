"""The kernel as a device: images are bits, state is its own, and nothing but arguments decides the results.

Building and caching are in test_build.py, the builds for hardware in test_hardware_build.py.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga_bridge.devices.csim import LOAD, STORE, CsimDevice
from fpga_bridge.devices.reference import JaxDevice
from fpga_bridge.kernel import build
from fpga_bridge.kernel.build import build_kernel, find_compiler
from fpga_bridge.memory.layout import HASH_WORDS
from fpga_bridge.program.manifest import make_manifest
from tests.fpga_bridge.samples import (
    OTHER_CONFIGS,
    RATE,
    TINY,
    differing,
    one_of,
    random_bits,
    random_params,
    rates,
    same_bits,
    sentences,
)
from ttjax import Batch, Params, UserError, flatten, preset, unflatten

MANIFEST = make_manifest(TINY)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def device() -> CsimDevice:
    return CsimDevice(TINY)


def trained(device: CsimDevice, params: Params, batch: Batch) -> Params:
    """Parameters after one step on each sentence."""
    device.load(params)
    device.steps(batch, rates(len(batch.length)))
    return device.read()


@given(seeds)
def test_store_after_load_is_the_identity_on_all_bits(device: CsimDevice, seed: int) -> None:
    """NaNs with payloads, infinities and denormals too: an image is bits, not numbers."""
    params = random_bits(TINY, seed)
    device.load(params)
    assert differing(device.read(), params) == []


def test_store_after_load_is_the_identity_on_every_config() -> None:
    for config in (*OTHER_CONFIGS.values(), preset("enc2")):
        other, params = CsimDevice(config), random_bits(config, 0)
        other.load(params)
        assert differing(other.read(), params) == []


def test_a_word_that_reads_back_as_another_is_named(
    device: CsimDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = device._run

    def flipping(command: int, *, image: np.ndarray | None = None, **buffers: np.ndarray | None) -> None:
        run(command, image=image, **buffers)
        if command == STORE and image is not None:
            image[HASH_WORDS + 3] ^= 1

    monkeypatch.setattr(device, "_run", flipping)
    with pytest.raises(UserError, match=f"read-back differs: image word {HASH_WORDS + 3} was written as 0x"):
        device.load(random_params(TINY, 0))


def test_what_the_kernel_does_not_record_is_no_number(
    device: CsimDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A zero there would agree with a truth that is zero."""
    run = device._run

    def silent(command: int, *, trace: np.ndarray | None = None, **buffers: np.ndarray | None) -> None:
        run(command, **buffers)

    device.load(random_params(TINY))
    monkeypatch.setattr(device, "_run", silent)
    traced = device.step(one_of(sentences(TINY, 1, lengths=[TINY.seq_len])), RATE, trace=True).trace
    assert traced and all(np.isnan(array).all() for array in traced.values())


def test_two_devices_in_one_process_do_not_share_state(device: CsimDevice) -> None:
    """Neither two of one config nor two of different ones, in parameters, gradients or activations."""
    other, larger = CsimDevice(TINY), CsimDevice(OTHER_CONFIGS["two_cores_a_side"])
    batch = sentences(TINY, 3)
    alone = trained(device, random_params(TINY, 1), batch)
    device.load(random_params(TINY, 1))
    for n in range(3):
        other.load(random_params(TINY, 2))
        larger.load(random_params(larger.config))
        device.step(one_of(batch, n), RATE)
        other.step(one_of(batch, 0), 1.0)
        larger.step(one_of(sentences(larger.config, 1)), 1.0)
    assert differing(device.read(), alone) == []
    assert differing(other.read(), alone) != []


def test_an_image_of_another_kernel_is_refused_by_the_kernel_itself(device: CsimDevice) -> None:
    params = random_params(TINY)
    device.load(params)
    for word in range(HASH_WORDS):
        image = device.pack(random_params(TINY, 1))
        image[word] ^= 1
        with pytest.raises(UserError, match="packed for another kernel"):
            device._run(LOAD, image=image)
    assert differing(device.read(), params) == []


def test_an_unknown_command_is_refused_and_changes_nothing(device: CsimDevice) -> None:
    params = random_params(TINY)
    device.load(params)
    with pytest.raises(UserError, match="unknown command"):
        device._run(17)
    assert differing(device.read(), params) == []


def test_a_kernel_of_another_config_is_refused() -> None:
    library = build_kernel(make_manifest(OTHER_CONFIGS["two_cores_a_side"]))
    with pytest.raises(UserError, match=r"stale kernel: .* built for another configuration"):
        CsimDevice(TINY, library)


def test_a_file_that_is_no_kernel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no kernel at"):
        CsimDevice(TINY, tmp_path / "absent.so")
    (tmp_path / "text.so").write_text("not a library")
    with pytest.raises(UserError, match="is not a simulation kernel"):
        CsimDevice(TINY, tmp_path / "text.so")
    library = tmp_path / "stranger.so"
    command = [find_compiler(), "-shared", "-fPIC", "-x", "c++", os.devnull, "-o", str(library)]
    subprocess.run(command, check=True)
    with pytest.raises(UserError, match="is not a simulation kernel"):
        CsimDevice(TINY, library)


@given(seeds, st.integers(1, 5))
def test_n_examples_in_one_call_are_n_calls_of_one(device: CsimDevice, seed: int, n: int) -> None:
    batch, params = sentences(TINY, n, seed), random_params(TINY, seed)
    device.load(params)
    losses = device.steps(batch, rates(n))
    together = device.read()
    device.load(params)
    results = [device.step(one_of(batch, i), RATE) for i in range(n)]
    assert differing(device.read(), together) == []
    assert [(r.loss, r.intent_loss, r.slot_loss) for r in results] == [tuple(row) for row in losses.tolist()]


def test_each_example_of_a_call_has_its_own_learning_rate(device: CsimDevice) -> None:
    batch, params = sentences(TINY, 2), random_params(TINY)
    device.load(params)
    device.steps(batch, np.array([0.0, RATE], np.float32))
    after_both = device.read()
    device.load(params)
    device.step(one_of(batch, 1), RATE)
    assert differing(device.read(), after_both) == []
    device.load(params)
    device.step(one_of(batch, 0), 0.0)
    assert differing(device.read(), params) == []


@given(seeds)
def test_a_trace_changes_no_bit(device: CsimDevice, seed: int) -> None:
    batch, params = one_of(sentences(TINY, 1, seed)), random_params(TINY, seed)
    device.load(params)
    plain = device.step(batch, RATE)
    after_plain = device.read()
    device.load(params)
    traced = device.step(batch, RATE, trace=True)
    assert differing(device.read(), after_plain) == []
    assert (traced.loss, traced.intent_loss, traced.slot_loss) == (
        plain.loss,
        plain.intent_loss,
        plain.slot_loss,
    )
    assert plain.trace is None and traced.trace is not None
    new = {name: traced.trace[f"new_{name}"] for name in flatten(params)}
    assert differing(unflatten(new), after_plain) == []


def test_denormals_are_zero_in_the_kernel_and_not_in_the_rest_of_the_process(device: CsimDevice) -> None:
    """As in AMD's operators. At a rate of 0 an update only reads and writes each parameter."""
    params = random_params(TINY)
    params["block0"]["q"]["bias"][...] = np.float32(1e-40)
    device.load(params)
    device.step(one_of(sentences(TINY, 1)), 0.0)
    after = device.read()
    assert differing(after, params) == ["block0.q.bias"]
    assert not np.any(after["block0"]["q"]["bias"])
    assert np.all(params["block0"]["q"]["bias"] * np.float32(0.5) > 0)


def test_a_denormal_operand_is_zero_where_the_product_would_be_none(device: CsimDevice) -> None:
    """Not only results are flushed: 1e-40 times 1e20 is 0, not 1e-20."""
    params = random_params(TINY)
    params["slot_norm"]["scale"][...] = 0.0
    params["slot_norm"]["bias"][...] = np.float32(1e20)
    params["slot_out"]["weight"][...] = np.float32(1e-40)
    params["slot_out"]["bias"][...] = 0.0
    device.load(params)
    assert not np.any(device.infer(one_of(sentences(TINY, 1))).slots)
    # Normal operands are seen in the logits.
    params["slot_out"]["weight"][...] = np.float32(1e-37)
    device.load(params)
    assert np.any(device.infer(one_of(sentences(TINY, 1))).slots > 1e-18)


@given(seeds)
def test_inference_leaves_the_parameters_alone_and_agrees_with_jax(device: CsimDevice, seed: int) -> None:
    batch, params = sentences(TINY, 3, seed), random_params(TINY, seed)
    device.load(params)
    logits = device.infer_all(batch)
    assert differing(device.read(), params) == []
    jax = JaxDevice(TINY)
    jax.load(params)
    for n in range(3):
        one, expected = device.infer(one_of(batch, n)), jax.infer(one_of(batch, n))
        assert same_bits(one.intent, logits.intent[n]) and same_bits(one.slots, logits.slots[n])
        np.testing.assert_allclose(one.intent, expected.intent, rtol=0, atol=3e-5)
        np.testing.assert_allclose(one.slots, expected.slots, rtol=0, atol=3e-5)


@pytest.mark.parametrize("lengths", [[2, TINY.seq_len, 5]])
def test_slot_logits_are_zero_at_padding_and_nowhere_else(device: CsimDevice, lengths: list[int]) -> None:
    batch, jax = sentences(TINY, len(lengths), lengths=lengths), JaxDevice(TINY)
    is_token = np.arange(TINY.seq_len) < np.array(lengths)[:, None]
    for one in (device, jax):
        one.load(random_params(TINY))
        slots = np.stack([one.infer(one_of(batch, n)).slots for n in range(len(lengths))])
        np.testing.assert_array_equal(np.any(slots, axis=-1), is_token)
    np.testing.assert_array_equal(np.any(device.infer_all(batch).slots, axis=-1), is_token)


def test_inference_gives_the_logits_of_the_traced_step(device: CsimDevice) -> None:
    batch = one_of(sentences(TINY, 1))
    device.load(random_params(TINY))
    logits = device.infer(batch)
    trace = device.step(batch, RATE, trace=True).trace or {}
    assert same_bits(logits.intent, trace["intent_logits"])
    assert same_bits(logits.slots, trace["slot_logits"])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("tokens", TINY.vocab_size, "example tokens: expected 0 to 239, found"),
        ("tokens", -1, "example tokens: expected 0 to 239, found -1"),
        ("length", 1, "example length: expected 2 to 10, found 1"),
        ("length", TINY.seq_len + 1, "example length: expected 2 to 10, found"),
        ("intent", TINY.n_intents, "example intent: expected 0 to 4, found"),
        ("slots", TINY.n_slots, "example slots: expected 0 to 10, found"),
        ("slots", -1, "example slots: expected 0 to 10, found -1"),
    ],
)
def test_an_example_out_of_range_is_refused_and_nothing_runs(
    device: CsimDevice, field: str, value: int, message: str
) -> None:
    params, batch = random_params(TINY), sentences(TINY, 2)
    device.load(params)
    getattr(batch, field)[1, ...] = value
    with pytest.raises(UserError, match=message):
        device.steps(batch, rates(2))
    with pytest.raises(UserError, match=message):
        device.infer_all(batch)
    assert differing(device.read(), params) == []


@pytest.mark.parametrize("field", Batch._fields)
def test_an_example_of_another_shape_or_type_is_refused(device: CsimDevice, field: str) -> None:
    batch = sentences(TINY, 2)
    for wrong in (getattr(batch, field).astype(np.int64), getattr(batch, field)[:1]):
        with pytest.raises(UserError, match=f"example {field}: expected int32"):
            device.steps(batch._replace(**{field: wrong}), rates(2))


@given(seeds, st.integers(2, TINY.seq_len - 1))
def test_slot_labels_of_padding_and_of_cls_change_nothing(device: CsimDevice, seed: int, length: int) -> None:
    batch, params = sentences(TINY, 1, seed, lengths=[length]), random_params(TINY)
    after = trained(device, params, batch)
    unread = np.r_[0, length : TINY.seq_len]
    batch.slots[:, unread] = (batch.slots[:, unread] + 1) % TINY.n_slots
    assert differing(trained(device, params, batch), after) == []
    batch.slots[:, 1] = (batch.slots[:, 1] + 1) % TINY.n_slots
    assert differing(trained(device, params, batch), after) != []


@settings(max_examples=5)
@given(seeds)
def test_what_ran_before_a_load_changes_nothing(device: CsimDevice, seed: int) -> None:
    """Activations and gradients of another sentence, infinities and NaNs among them, lie in the arrays."""
    batch, params = sentences(TINY, 2, seed), random_params(TINY)
    fresh = CsimDevice(TINY)
    expected = trained(fresh, params, batch)
    trained(device, random_bits(TINY, seed), sentences(TINY, 1, seed + 1))
    assert differing(trained(device, params, batch), expected) == []


@pytest.mark.parametrize("flags", [("-O0",), ("-O1", "-mno-avx512f"), ("-O2", "-march=x86-64")])
def test_other_optimisation_gives_the_same_bits(
    device: CsimDevice, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the flags are x86-64's")
    kept = [flag for flag in build.FLAGS if not flag.startswith(("-O", "-march"))]
    monkeypatch.setattr(build, "FLAGS", (*kept, *flags))
    other, batch = CsimDevice(TINY), sentences(TINY, 10)
    monkeypatch.undo()
    assert (
        differing(trained(other, random_params(TINY), batch), trained(device, random_params(TINY), batch))
        == []
    )
