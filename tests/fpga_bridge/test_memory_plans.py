"""Memory plans on the kernel: what is kept, made again or applied at once changes no bit of the result.

Frozen layers stay as they are, and memory that is shared wrongly is found where it is overwritten.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fpga_bridge.agreement.lockstep import Report, cosimulate
from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.kernel import header
from fpga_bridge.kernel.build import build_kernel
from fpga_bridge.memory import memory_map
from fpga_bridge.memory.lifetimes import Temporary, temporaries
from fpga_bridge.memory.memory_map import MemoryMap, make_memory_map
from fpga_bridge.memory.timeline import Timeline
from fpga_bridge.program import emitter
from fpga_bridge.program.manifest import make_manifest
from tests.fpga_bridge.samples import (
    RATE,
    TINY,
    Trio,
    differing,
    one_of,
    random_params,
    rates,
    same_bits,
    sentences,
)
from ttjax import ModelConfig, Params, flatten, preset
from ttjax.params import HEAD_LINEARS

KEPT = TINY.replace(immediate=False)
MIXED = TINY.replace(recompute=(1,), rederive=True)
PLANS = {
    "applied at once": TINY,
    "rederived": TINY.replace(rederive=True),
    "recomputed": TINY.replace(recompute=(0, 1)),
    "one recomputed, all rederived": MIXED,
    "all made again, held": TINY.replace(recompute=(0, 1), rederive=True, immediate=False),
}
FROZEN = ("embed", "block0.q", "block0.norm1", "block0.ffn_out", "block1.ffn_in", "intent_out", "slot_norm")


def trained(config: ModelConfig, params: Params) -> tuple[Params, np.ndarray]:
    """Parameters and losses after three steps without trace."""
    device = CsimDevice(config)
    device.load(params)
    losses = device.steps(sentences(config, 3), rates(3))
    return device.read(), losses


def blind(name: str) -> bool:
    """Whether a parameter has no gradient but rounding: the softmax does not see the keys' biases."""
    return name.endswith(".k.bias")


def run(config: ModelConfig, mode: str = "locked", device: CsimDevice | None = None, n: int = 2) -> Report:
    """Steps of a kernel beside JAX, on sentences with padding and without."""
    batch = sentences(config, n, lengths=[config.seq_len - 3, config.seq_len][:n])
    return cosimulate(
        device or CsimDevice(config),
        random_params(config),
        batch,
        rates(n),
        mode=mode,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("name", PLANS)
def test_every_plan_trains_to_the_bits_of_keeping_everything(name: str) -> None:
    params = random_params(TINY)
    expected, losses = trained(KEPT, params)
    found, found_losses = trained(PLANS[name], params)
    assert set(differing(expected, params)) >= {name for name in flatten(params) if not blind(name)}
    assert differing(found, expected) == []
    assert same_bits(found_losses, losses)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("one recomputed, all rederived", "locked"),
        ("one recomputed, all rederived", "isolated"),
        ("all made again, held", "locked"),
    ],
)
def test_plans_agree_with_jax_stage_by_stage(name: str, mode: str) -> None:
    report = run(PLANS[name], mode)
    assert report.agree, report.first_divergence


def test_a_value_handed_in_holds_where_it_is_made_again() -> None:
    """Handed in at the rederived norm and in a recomputed block: gradients are of those values, as in JAX."""
    rng = np.random.default_rng(0)
    shape = (TINY.seq_len, TINY.d_model)
    names = ("embed_norm", "block0.norm1", "block1.q", "block1.norm1")
    overrides = {name: rng.standard_normal(shape).astype(np.float32) for name in names}
    traces = []
    for config in (KEPT, MIXED):
        device = CsimDevice(config)
        device.load(random_params(config))
        traces.append(device.step(one_of(sentences(config, 1)), RATE, overrides=overrides).trace or {})
    kept, again = traces
    assert [name for name in kept if not same_bits(kept[name], again[name])] == []


@pytest.mark.parametrize("plan", ["kept", "applied at once", "made again"])
def test_frozen_layers_keep_their_bits_and_the_others_train_as_in_jax(plan: str) -> None:
    config = {"kept": KEPT, "applied at once": TINY, "made again": MIXED}[plan].replace(frozen=FROZEN)
    params = random_params(config)
    device = CsimDevice(config)
    report = run(config, device=device)
    assert report.agree, report.first_divergence
    after = device.read()
    trains = {name for name in flatten(params) if name.rpartition(".")[0] not in FROZEN}
    changed = set(differing(after, params))
    assert {name for name in trains if not blind(name)} <= changed <= trains
    names = {point.name for point in device.manifest.points}
    for name in flatten(params):
        assert (f"d_{name}" in names, f"new_{name}" in names) == (name in trains,) * 2, name
    for layer in FROZEN:
        for half in ("left", "right"):
            assert f"d_{layer}.{half}" not in names
    assert "d_block0.k.left" in names


def test_a_frozen_layers_input_is_not_made_again_over_what_lies_there() -> None:
    """norm1's output is made again for the gradients of ffn_in alone; frozen, its place is another's."""
    config = MIXED.replace(frozen=("block0.ffn_in",))
    report = run(config)
    assert report.agree, report.first_divergence


@pytest.mark.parametrize("layer", HEAD_LINEARS)
def test_a_frozen_head_takes_nothing_from_the_other(layer: str) -> None:
    """With gradients handed in: the slots' own is 0 at [CLS], the one position that the intent's head has."""
    config, rng = TINY.replace(frozen=(layer,)), np.random.default_rng(0)
    shapes = {name: (TINY.seq_len if name == "slot_pre" else 1, TINY.d_model) for name in HEAD_LINEARS}
    handed_in = {f"d_{name}": rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    compared = Trio(config).compare(random_params(config), one_of(sentences(config, 1)), handed_in)
    assert [name for name, c in compared.items() if not c.agree] == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["locked", "isolated"])
def test_enc2_made_again_agrees(mode: str) -> None:
    report = run(
        preset("enc2").replace(recompute=(0, 1), rederive=True), mode, n=2 if mode == "locked" else 1
    )
    assert report.agree, report.first_divergence


def miscarried(memory: MemoryMap, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Two steps of a kernel whose header and program have this map instead of the config's own."""
    for module in (header, emitter):
        monkeypatch.setattr(module, "make_memory_map", lambda config: memory)
    # No header that is kept from another map, and none that is kept of this one.
    monkeypatch.setattr(header, "_own_content", header._own_content.__wrapped__)
    device = CsimDevice(memory.config, build_kernel(make_manifest(memory.config)))
    return run(memory.config, device=device)


def assert_found_at(point: str, report: Report) -> None:
    first = report.first_divergence
    assert not report.agree and first is not None
    assert (first.step, first.name) == (0, point)


@pytest.mark.parametrize(
    ("intruder", "host", "point"),
    [
        (("d_key", 0), ("d_query", 0), "d_block1.q"),
        (("bond", 0), ("bond", 1), "d_block0.q.right"),
        (("hidden", 1), ("query", 0), "d_block0.k"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value[0]}{value[1]}",
)
def test_two_live_arrays_in_one_place_disagree_where_the_lost_one_is_read(
    intruder: tuple[str, int], host: tuple[str, int], point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = make_memory_map(TINY)
    [lent] = [p for p in memory.places if (p.array.name, p.array.index) == host]
    places = [
        replace(p, slot=lent.slot) if (p.array.name, p.array.index) == intruder else p for p in memory.places
    ]
    assert_found_at(point, miscarried(replace(memory, places=tuple(places)), monkeypatch))


def test_a_life_that_ends_a_stage_early_costs_the_array(monkeypatch: pytest.MonkeyPatch) -> None:
    """The map then gives the place away a stage too soon, and the kernel reads what another wrote there."""

    def shortened(config: ModelConfig, time: Timeline) -> list[Temporary]:
        return [shorter(array) for array in temporaries(config, time)]

    def shorter(array: Temporary) -> Temporary:
        if (array.name, array.index) != ("probs", 1):
            return array
        [(first, last)] = array.intervals
        return replace(array, intervals=((first, last - 1),))

    monkeypatch.setattr(memory_map, "temporaries", shortened)
    memory = make_memory_map.__wrapped__(TINY)
    assert_found_at("d_block1.scores", miscarried(memory, monkeypatch))
