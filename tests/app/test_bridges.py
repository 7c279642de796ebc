"""Logs, metrics and artifacts find a run by the same words as `show` and `stop` do."""

from __future__ import annotations

import pytest

from nexus.app.bridges import RunsByRecords
from nexus.kernel.errors import UsageError
from tests.launch.service.house import House, in_house


@in_house
async def test_a_run_by_its_id_its_name_and_the_beginning_of_its_id(house: House) -> None:
    runs = RunsByRecords(house.records)
    made = [await house.submit(name="first"), await house.submit(name="second")]
    for run in made:
        for words in (run.id, run.name, run.id[:14], run.id.removeprefix("run_")[:10]):
            found = await runs.find(run.project, words)
            assert found is not None, words
            assert found.id == run.id
            assert await runs.find("another", words) is None
    with pytest.raises(UsageError, match="2 runs begin with 'run_'"):
        await runs.find(made[0].project, "run_")
    assert await runs.find(made[0].project, "third") is None
