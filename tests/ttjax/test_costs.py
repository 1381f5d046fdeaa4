"""The counts: the paper's figures come out of the code, and opt_einsum counts the same."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import opt_einsum
import pytest
from jax import lax

from ttjax import costs
from ttjax.config import ModelConfig, preset
from ttjax.contraction import plan
from ttjax.costs import linear_layer_costs, model_costs, multiplications
from ttjax.params import flatten, init_params, linear_core_shapes

ENC2 = preset("enc2")


def aval(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_the_papers_figures_for_one_linear_layer() -> None:
    layer = linear_layer_costs(ENC2)
    dense, right_to_left, bidirectional = (layer[f] for f in ("dense", "right_to_left", "bidirectional"))
    assert (dense.multiplications, dense.stored) == (18_874_368, 589_824)
    assert (bidirectional.multiplications, bidirectional.stored) == (838_656, 26_016)
    assert bidirectional.backward == 1_677_312
    assert right_to_left.multiplications == 1_253_376
    assert round(dense.multiplications / bidirectional.multiplications, 2) == 22.51
    assert round(dense.stored / bidirectional.stored, 2) == 22.67
    assert round(right_to_left.multiplications / bidirectional.multiplications, 2) == 1.49


@pytest.mark.parametrize(
    ("name", "dense_mb", "tt_mb"), [("enc2", 36.72, 1.20), ("enc4", 65.09, 1.50), ("enc6", 93.47, 1.80)]
)
def test_the_sizes_of_the_presets(name: str, dense_mb: float, tt_mb: float) -> None:
    assert round(model_costs(preset(name).replace(format="dense")).bytes / 1e6, 2) == dense_mb
    assert round(model_costs(preset(name)).bytes / 1e6, 2) == tt_mb


def test_enc2_has_301055_parameters() -> None:
    assert model_costs(ENC2).parameters == 301_055


@pytest.mark.parametrize("format", ["tt", "dense"])
def test_parameters_are_those_that_training_starts_from(format: str) -> None:
    config = preset("tiny").replace(format=format)
    leaves = flatten(init_params(jax.random.key(0), config))
    found = model_costs(config)
    assert found.parameters == sum(leaf.size for leaf in leaves.values())
    assert found.bytes == sum(leaf.nbytes for leaf in leaves.values())
    d = config.d_model
    assert found.parts["positions"] == config.seq_len * d
    assert found.parts["norms"] == 2 * d * (2 * config.n_blocks + 2)
    assert found.parts["heads"] == (d + 1) * (config.n_intents + config.n_slots)


def test_a_parameter_of_a_layer_that_no_part_knows_is_not_counted_as_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(costs, "parameter_shapes", lambda config: {"block0.gate.core0": (1, 2, 3)})
    with pytest.raises(AssertionError, match=r"a parameter of no part: block0.gate.core0"):
        model_costs(ENC2)


@pytest.mark.parametrize("config", [ENC2, preset("tiny"), ENC2.with_rank(3)], ids=["enc2", "tiny", "rank 3"])
def test_the_bidirectional_flow_against_opt_einsum(config: ModelConfig) -> None:
    """The same order of products, counted by another library: it counts a multiply-add as two."""
    modes, n_in = config.in_modes + config.out_modes, len(config.in_modes)
    rank_letters, mode_letters = "abcdefgh", "ijklmnop"
    shapes: list[tuple[int, ...]] = [
        (config.tt_ranks[k], modes[k], config.tt_ranks[k + 1]) for k in range(len(modes))
    ]
    terms = [rank_letters[k] + mode_letters[k] + rank_letters[k + 1] for k in range(len(modes))]
    # The ends of the train have rank 1: without their letters, no sum over them is counted.
    terms[0], shapes[0] = terms[0][1:], shapes[0][1:]
    terms[-1], shapes[-1] = terms[-1][:-1], shapes[-1][:-1]

    def cost(term_list: list[str], shape_list: list[tuple[int, ...]], out: str) -> tuple[float, str]:
        _, info = opt_einsum.contract_path(",".join(term_list) + "->" + out, *shape_list, shapes=True)
        return float(info.opt_cost) / 2, out

    total = 0.0
    left, left_shape = terms[0], shapes[0]
    for k in range(1, n_in):
        out = left[:-1] + terms[k][1:]
        total += cost([left, terms[k]], [left_shape, shapes[k]], out)[0]
        left, left_shape = out, (*left_shape[:-1], *shapes[k][1:])
    right, right_shape = terms[-1], shapes[-1]
    for k in range(len(modes) - 2, n_in - 1, -1):
        out = terms[k][:-1] + right[1:]
        total += cost([terms[k], right], [shapes[k], right_shape], out)[0]
        right, right_shape = out, (*shapes[k][:-1], *right_shape[1:])
    x = "t" + mode_letters[:n_in]
    bond = "t" + left[-1]
    total += cost([x, left], [(config.seq_len, *config.in_modes), left_shape], bond)[0]
    total += cost([bond, right], [(config.seq_len, left_shape[-1]), right_shape], "t" + right[1:])[0]
    assert linear_layer_costs(config)["bidirectional"].multiplications == total


@pytest.mark.parametrize("tokens", [2, 32, 256])
def test_the_planned_flow_multiplies_as_little_as_any(tokens: int) -> None:
    """As little as the best of all orders, which opt_einsum tries one by one, and as the other flows."""
    layer = linear_layer_costs(ENC2.replace(seq_len=tokens))
    x, y = (tokens, *ENC2.in_modes), "afgh"
    cores = [(12, 12), (12, 8, 12), (12, 8, 12), (12, 8, 12), (12, 8, 12), (12, 12)]
    terms = "abcd,bi,icj,jdk,kfl,lgm,mh->" + y
    _, best = opt_einsum.contract_path(terms, x, *cores, shapes=True, optimize="optimal")
    planned = layer["planned"].multiplications
    assert planned == float(best.opt_cost) / 2
    assert planned <= min(flow.multiplications for flow in layer.values())


@pytest.mark.parametrize(
    ("tokens", "order"),
    [
        (1, "(((((x G1) G2) G3) G4) G5) G6"),
        (32, "(((x (G1 G2)) G3) G4) (G5 G6)"),
        (256, "(x ((G1 G2) G3)) (G4 (G5 G6))"),
    ],
)
def test_the_planned_order_depends_on_the_tokens(tokens: int, order: str) -> None:
    shapes = linear_core_shapes(ENC2)
    assert plan(tokens, shapes, len(ENC2.in_modes)).order == order


def test_batched_products_and_nested_calls_are_counted() -> None:
    assert multiplications(lambda a, b: a @ b, aval(5, 2, 3), aval(5, 3, 4)) == 5 * 2 * 3 * 4
    assert multiplications(jax.jit(lambda a, b: a @ b + 1), aval(2, 3), aval(3, 4)) == 24
    assert multiplications(lambda a: jnp.sin(a) * a, aval(2, 3)) == 0


def test_loops_count_as_often_as_they_run() -> None:
    def scan(a: jax.Array) -> jax.Array:
        return lax.scan(lambda x, _: (x @ a, None), a, None, length=7)[0]

    def conditional(a: jax.Array) -> jax.Array:
        return lax.cond(a[0, 0] > 0, lambda x: x @ a @ a, lambda x: x @ a, a)

    def unknown(a: jax.Array) -> jax.Array:
        return lax.while_loop(lambda x: x[0, 0] > 0, lambda x: x @ a, a)

    assert multiplications(scan, aval(3, 3)) == 7 * 27
    assert multiplications(conditional, aval(3, 3)) == 2 * 27
    with pytest.raises(ValueError, match="loop of unknown length"):
        multiplications(unknown, aval(3, 3))
