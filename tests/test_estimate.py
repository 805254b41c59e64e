"""Times are multiplied up from trial steps: the arithmetic by hand, the trial without a trace in the random state."""

import dataclasses

import pytest
import torch
from laboratory import photographs, plan

from bionas.training import experiments
from bionas.training.estimate import Trial, estimate, trial_steps, what_it_takes


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("estimate")
    return plan(photographs(folder / "photographs"), folder / "runs", search_epochs=5, epochs=3)


def test_hours_are_steps_times_images_times_epochs(small):
    table = estimate(small, 1_000_000, Trial(w=0.01, theta=0.004, retraining=0.002, images=4, device="cpu"))
    hours = dict(zip(table["phase"], table["hours"], strict=True))
    assert hours["search, w steps"] == pytest.approx(700_000 * 0.01 * 5 / 3600, abs=0.05)
    assert hours["search, theta steps"] == pytest.approx(700_000 * 0.004 * 5 / 3600, abs=0.05)
    assert hours["retraining of one derived network"] == pytest.approx(700_000 * 0.002 * 3 / 3600, abs=0.05)
    assert hours["as published"] == 10


def test_a_trial_step_leaves_no_trace(small):
    state = torch.get_rng_state()
    trial = trial_steps(small)
    assert torch.equal(torch.get_rng_state(), state)
    assert trial.w > 0 and trial.theta > 0 and trial.retraining > 0 and trial.images == 4
    said = what_it_takes(small, "search")
    assert "42 training" in said and "16 px" in said and "5 epochs" in said


def test_a_full_run_says_what_it_takes_before_it_starts_wherever_it_is_started(small, capsys):
    quick = dataclasses.replace(small, search_epochs=1, epochs=1)
    full = dataclasses.replace(quick, mode="full")
    alphas = [experiments.search(one).alphas["alpha"] for one in (quick, full)]
    assert (alphas[0] == alphas[1]).all()  # the trial step changes no number
    said = capsys.readouterr().out
    assert said.count("per epoch") == 1 and "search: 42 training" in said
    genotype = experiments.search(full).genotype
    experiments.retrain(full, genotype)
    experiments.retrain(full, genotype, "another")
    assert (
        capsys.readouterr().out.count("per epoch") == 1
    )  # of the headline run, and not when a finished run is read
