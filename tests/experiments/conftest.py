"""What the tests of the studies share: options of small trainings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.runs import RunOptions


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., RunOptions]:
    def make(**changes: Any) -> RunOptions:
        common = {"seeds": (0, 1, 4), "recipe": ("epochs=2",), "data": "travel", "limit": 60}
        return RunOptions(**{**common, "runs": tmp_path / "runs", **changes})

    return make
