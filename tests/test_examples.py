"""The examples run as they stand, at a size of seconds."""

from __future__ import annotations

import scripts


def test_the_minimal_search_runs_from_specimens_to_a_test_accuracy(capsys):
    example = scripts.loaded("search_minimal", "examples")
    accuracy = example.main(["--limit", "240", "--search-epochs", "2", "--epochs", "1"])
    printed = capsys.readouterr().out
    assert 0 <= accuracy <= 1
    for part in ("search 2/2", "theta reach", "3 cells from the primitive set 'full'", "fit 1/1", "majority"):
        assert part in printed
