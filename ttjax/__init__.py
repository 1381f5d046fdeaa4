"""Tensor-train transformers for joint intent and slot prediction, as pure JAX functions on pytrees.

The mathematics and the jitted baseline; nothing here knows of the accelerator. Start with ``preset``,
``init_params``, ``loss`` and ``sgd_step``.
"""

from ttjax.batch import Batch
from ttjax.checkpoint import TrainedModel, load_params
from ttjax.config import PRESETS, ConfigError, ModelConfig, preset
from ttjax.contraction import Flow, contract
from ttjax.costs import linear_layer_costs, model_costs, multiplications
from ttjax.errors import UserError
from ttjax.evaluate import predict
from ttjax.model import Logits, forward, loss
from ttjax.modules import TTDense, TTMEmbed
from ttjax.params import Params, flatten, init_params, unflatten
from ttjax.recipe import Recipe
from ttjax.step import sgd_step
from ttjax.taps import tapped_value_and_grad, trace_shapes
from ttjax.train import TrainState, train_epoch
from ttjax.tt import from_dense, to_dense, ttm_from_dense, ttm_to_dense

__all__ = [
    "PRESETS",
    "Batch",
    "ConfigError",
    "Flow",
    "Logits",
    "ModelConfig",
    "Params",
    "Recipe",
    "TTDense",
    "TTMEmbed",
    "TrainState",
    "TrainedModel",
    "UserError",
    "contract",
    "flatten",
    "forward",
    "from_dense",
    "init_params",
    "linear_layer_costs",
    "load_params",
    "loss",
    "model_costs",
    "multiplications",
    "predict",
    "preset",
    "sgd_step",
    "tapped_value_and_grad",
    "to_dense",
    "trace_shapes",
    "train_epoch",
    "ttm_from_dense",
    "ttm_to_dense",
    "unflatten",
]
