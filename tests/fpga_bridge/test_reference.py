"""JAX as a device: how its step is compiled."""

from __future__ import annotations

from typing import Any

import jax
import pytest

from fpga_bridge.devices import reference
from ttjax.compiled import QUICK_TO_COMPILE


@pytest.mark.parametrize(("backend", "options"), [("cpu", QUICK_TO_COMPILE), ("gpu", None)])
def test_the_step_is_compiled_quickly_on_a_cpu_alone(
    backend: str, options: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without optimisation a GPU's step would be another than anybody trains with."""
    given: list[Any] = []
    monkeypatch.setattr(jax, "jit", lambda step, **others: given.append(others["compiler_options"]))
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    reference._compiled_step.__wrapped__()
    assert given == [options]
