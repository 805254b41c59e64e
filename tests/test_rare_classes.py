"""Rare classes: the three treatments of the training loss by hand, the long-tailed draw, and the study."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import specimens

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens import MetadataEncoding
from bionas.specimens.loader import BatchLoader
from bionas.studies import imbalance
from bionas.training import experiments
from bionas.training.balance import criterion
from bionas.training.recipe import BALANCES, FitConfig

COUNTS = np.array([80, 15, 5])


def test_class_weights_are_inverse_frequencies():
    logits, labels = torch.randn(30, 3), torch.arange(30) % 3
    loss = criterion("class_weights", COUNTS, 0.0)(logits, labels)
    weights = torch.tensor([100 / (3 * n) for n in COUNTS], dtype=torch.float32)[labels]
    each = F.cross_entropy(logits, labels, reduction="none")
    assert torch.allclose(loss, (weights * each).sum() / weights.sum())


def test_logit_adjustment_adds_the_log_of_the_prior():  # Menon et al. 2021, Eq. 10
    logits, labels = torch.randn(30, 3), torch.arange(30) % 3
    loss = criterion("logit_adjustment", COUNTS, 0.1)(logits, labels)
    prior = torch.tensor(COUNTS / 100, dtype=torch.float32).log()
    assert torch.allclose(loss, F.cross_entropy(logits + prior, labels, label_smoothing=0.1))


def test_the_others_keep_the_plain_loss():
    assert criterion(None, COUNTS, 0.1) is None and criterion("resampling", COUNTS, 0.1) is None


def test_a_resampled_epoch_holds_every_class_equally_often():
    lopsided = specimens(300)
    kept = np.concatenate([np.flatnonzero(lopsided.labels == c)[:n] for c, n in enumerate((90, 9, 3))])
    lopsided = lopsided.subset(kept)
    encoding = MetadataEncoding.fit(lopsided)
    loader = BatchLoader(lopsided, encoding, 17, shuffle=True, resample=True)
    labels = [torch.cat([b.label for b in loader.epoch(e)]) for e in range(30)]
    counts = torch.bincount(torch.cat(labels))
    assert all(len(epoch) == len(lopsided) for epoch in labels)
    assert (abs(counts / counts.sum() - 1 / 3) < 0.03).all()
    again = torch.cat([b.label for b in loader.epoch(3)])
    assert torch.equal(again, labels[3]) and not torch.equal(labels[3], labels[4])


def test_the_long_tail_falls_by_powers_and_leaves_the_other_sides_alone():
    whole = specimens(600)
    plain, tailed = whole.split("paper"), whole.split("long_tailed:16")
    assert tailed.train.counts().tolist() == [140, 35, 8]  # 140, 140 / 4, 140 / 16
    assert tailed.train.records["coord-lat"].isin(plain.train.records["coord-lat"]).all()
    for side in ("val", "test"):
        assert getattr(tailed, side).records.equals(getattr(plain, side).records)
    assert any("no side" in note for note in tailed.notes)
    for wrong in ("long_tailed:0.5", "long_tailed:many"):
        with pytest.raises(SpecimenError, match="ratio of at least 1"):
            whole.split(wrong)


def test_an_unbalanced_run_keeps_its_folder_and_the_search_is_never_balanced(tmp_path):
    plan = experiments.plan("smoke", run_dir=tmp_path)
    balanced = dataclasses.replace(plan, balance="resampling", label_smoothing=0.0)
    assert balanced.search_config() == plan.search_config()
    assert balanced.fit_config() != plan.fit_config() and plan.fit_config().balance is None
    names = {
        plan.run("derived", dataclasses.replace(FitConfig(), balance=b), {}).path.name
        for b in (None, *BALANCES)
    }
    assert len(names) == 1 + len(BALANCES)
    with pytest.raises(UnknownName, match="class_weights"):
        experiments.plan("smoke", balance="class_weight")


@pytest.mark.slow
def test_one_network_is_trained_under_every_treatment(tmp_path):
    plan = experiments.plan("smoke", search_epochs=1, epochs=1, metadata="none", run_dir=tmp_path)
    rows = imbalance.measured(plan, [0, 1])
    assert rows["model"].tolist() == [*imbalance.TREATMENTS] * 2
    assert rows["run"].nunique() == len(rows) and rows["mmacs"].nunique() == 1
    train, _, test = plan.splits()
    rare = imbalance.rarest(plan)
    counts = train.counts()
    assert len(rare) == 5 and max(counts[rare]) <= min(counts.drop(rare)[test.counts().drop(rare) > 0])
    table = imbalance.summary(rows, plan, "bionas imbalance").set_index("model")
    assert table.index[0] == "majority class" and table.index[1] == imbalance.AS_PUBLISHED
    mean = 100 * rows[rows["model"] == "re-sampling"]["balanced_accuracy"].mean()
    base = 100 * rows[rows["model"] == imbalance.AS_PUBLISHED]["balanced_accuracy"].mean()
    row = table.loc["re-sampling"]
    assert row["difference"] == pytest.approx(mean - base, abs=0.02)
    assert row["low"] <= row["difference"] <= row["high"]
