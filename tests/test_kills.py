"""Kill -9 at random moments of every long stage: the rerun ends as if nothing had happened."""

import pytest
from killing import STAGES, kill_all


@pytest.mark.slow
def test_ten_kills_change_nothing(tmp_path):
    done = kill_all(tmp_path, kills=10, seed=0)
    assert [kill for kill in done if not kill.equal] == []
    assert {kill.stage for kill in done} == set(STAGES)
    # The moments lie within the stages, not before or behind them.
    assert any(kill.files_before_rerun for kill in done)
    assert max(kill.part for kill in done) > 0.5
