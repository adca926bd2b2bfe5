"""Kill -9 at random moments of every long stage, and two notebooks at the same work.

`python benchmarks/kills.py` does more of the same and stores the result.
"""

import json

import pytest
from killing import (
    BATCH,
    STAGES,
    World,
    artefacts,
    asked,
    kill_all,
    run,
    run_twice_at_once,
    run_until,
    steps_kept,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    world = World(tmp_path_factory.mktemp("world"))
    world.prepare()
    return world


def test_ten_kills_change_nothing(world):
    done = kill_all(world, kills=10, seed=0)
    assert [kill for kill in done if not kill.equal] == []
    assert {kill.stage for kill in done} == set(STAGES)
    # Training is deterministic: equal losses do not tell going on from beginning anew. This does,
    # where a kill came after a save; in the next test it surely does.
    assert all(kill.steps_kept != 0 for kill in done)
    # The same of the stages with a model: no more than the batch in flight is asked for again.
    assert {kill.stage for kill in done if kill.asked_again is not None} == set(BATCH)
    for kill in done:
        assert kill.asked_again is None or 0 <= kill.asked_again <= BATCH[kill.stage], kill
    # The moments lie within the stages, not before or behind them.
    assert any(kill.files_before_rerun for kill in done)
    assert max(kill.part for kill in done) > 0.5


def test_a_rerun_of_training_goes_on_after_the_last_step_that_was_saved(world, tmp_path):
    run("training", world, tmp_path / "whole")
    run_until(4, "training", world, tmp_path / "broken")
    run("training", world, tmp_path / "broken")
    assert steps_kept(tmp_path / "broken") == 3
    assert artefacts(tmp_path / "broken") == artefacts(tmp_path / "whole")


@pytest.mark.parametrize("stage", BATCH)
def test_a_rerun_asks_only_for_the_batch_that_was_lost_and_what_follows(world, tmp_path, stage):
    """Killed in a batch of a known number, so that one which began anew would be noticed."""
    run(stage, world, tmp_path / "whole")
    run_until(4, stage, world, tmp_path / "broken")
    before = asked(tmp_path / "broken")
    assert before == 4 * BATCH[stage] < asked(tmp_path / "whole")
    run(stage, world, tmp_path / "broken")
    after = asked(tmp_path / "broken") - before
    assert after == asked(tmp_path / "whole") - 3 * BATCH[stage]
    assert artefacts(tmp_path / "broken") == artefacts(tmp_path / "whole")


@pytest.mark.parametrize(
    ("stage", "journal"), [("captioning", "captions.jsonl"), ("refinement", "refined.jsonl")]
)
def test_two_notebooks_writing_the_same_journal(world, tmp_path, stage, journal):
    """Both finish; every item has its answer, and no line of one stands in a line of the other."""
    run(stage, world, tmp_path / "one")
    run_twice_at_once(stage, world, tmp_path / "two")

    def answers(home: str) -> dict[str, str]:
        rows = [json.loads(row) for row in artefacts(tmp_path / home)[journal]]
        return {row["product_id"]: json.dumps(row, sort_keys=True) for row in rows}

    assert answers("two") == answers("one")
