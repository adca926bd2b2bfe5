"""Kill -9 at random moments of every long stage, and two notebooks at the same work.

`python benchmarks/kills.py` does more of the same and stores the result.
"""

import json

import pytest
from killing import STAGES, World, artefacts, kill_all, run, run_twice_at_once

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
    # Training is deterministic: equal losses do not tell going on from beginning anew. This does.
    kept = [kill.steps_kept for kill in done if kill.steps_kept is not None]
    assert kept and min(kept) > 0
    # The moments lie within the stages, not before or behind them.
    assert any(kill.files_before_rerun for kill in done)
    assert max(kill.part for kill in done) > 0.5


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
