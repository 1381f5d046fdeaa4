"""The units by themselves as a fixture: compiled once."""

from __future__ import annotations

import pytest

from tests.hls.units import Units, build_units


@pytest.fixture(scope="session")
def units(tmp_path_factory: pytest.TempPathFactory) -> Units:
    return build_units(tmp_path_factory.mktemp("units"))
