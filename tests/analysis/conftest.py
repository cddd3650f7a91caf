"""Small hand-made results."""

import pytest

from tests.analysis.results_maker import ResultsMaker


@pytest.fixture
def maker(tmp_path):
    return ResultsMaker(tmp_path / "results.csv")
