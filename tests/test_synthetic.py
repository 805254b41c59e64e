"""The embedded collection: drawn the same every time, long-tailed, and honest about what its records give away."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score
from sklearn.tree import DecisionTreeClassifier

from bionas.errors import SpecimenError
from bionas.specimens.metadata import METADATA_PRESETS
from bionas.specimens.schema import COLUMNS
from bionas.specimens.sources import SOURCES
from bionas.specimens.sources.synthetic import (
    CAMPAIGNS,
    HOMES,
    MIN_RECORDS,
    sketch_collection,
    sketch_specimen,
    synthetic,
    write_records,
)
from bionas.specimens.synthetic import ORDERS, draw, plan_specimen


@pytest.fixture(scope="module")
def sketches() -> list:
    return sketch_collection(3000, seed=0)


@pytest.fixture(scope="module")
def records(sketches) -> pd.DataFrame:
    return write_records(sketches)


def _picture(look, seed: int, size: int = 48) -> np.ndarray:
    return draw(plan_specimen(look, "Syntesta", 0, np.random.default_rng(seed)), size)


def test_is_registered_and_draws_once(tmp_path, monkeypatch):
    first = SOURCES["synthetic"](None, image_size=24, cache_dir=tmp_path, seed=3, n_specimens=40)
    monkeypatch.setattr("bionas.specimens.sources.synthetic.draw", None)  # the second time nothing is drawn
    second = SOURCES["synthetic"](None, image_size=24, cache_dir=tmp_path, seed=3, n_specimens=40)
    assert first.synthetic and len(first.images) == len(first.records) == 40
    assert first.images.fingerprint == second.images.fingerprint
    pd.testing.assert_frame_equal(first.records, second.records)
    assert "not photographs" in first.notes[0]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    once, twice, other = (
        synthetic(image_size=24, cache_dir=tmp_path / name, seed=seed, n_specimens=34)
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    assert once.images.fingerprint == twice.images.fingerprint != other.images.fingerprint
    assert once.records.equals(twice.records) and not once.records.equals(other.records)


def test_a_specimen_depends_on_no_other():
    backwards = [sketch_specimen(ORDERS[2], index, seed=1) for index in reversed(range(4))][::-1]
    forwards = [sketch_specimen(ORDERS[2], index, seed=1) for index in range(4)]
    for one, other in zip(backwards, forwards, strict=True):
        assert one.plan == other.plan
        assert np.array_equal(draw(one.plan, 32), draw(other.plan, 32))


def test_a_damaged_cache_is_drawn_again(tmp_path):
    options = {"image_size": 16, "cache_dir": tmp_path, "seed": 0, "n_specimens": 32}
    sound = synthetic(**options).images.fingerprint
    (path,) = tmp_path.glob("*.npy")
    path.write_bytes(path.read_bytes()[:500])
    next(tmp_path.glob("*.csv")).write_text("processid\nSYN00001-26\n")
    assert synthetic(**options).images.fingerprint == sound
    assert not list(tmp_path.glob("*.part"))


def test_the_tail_is_long_and_its_end_is_folded_by_the_rule(records):
    counts = records["order"].value_counts()
    assert len(counts) == len(ORDERS) >= 14
    assert counts.index[0] == "Diptera" and counts.iloc[0] >= 0.6 * len(records)
    rare = counts[counts < MIN_RECORDS]
    assert len(rare) >= 3 and rare.sum() >= MIN_RECORDS  # "Other" is a class that can be split, too
    assert counts[counts >= MIN_RECORDS].min() >= 30  # 70/20/10 leaves three or more in each part
    for part in ("train", "val", "test"):
        assert set(records.loc[records["split"] == part, "order"]) >= set(counts[counts >= MIN_RECORDS].index)


def test_records_have_the_whole_schema_and_bioscans_gaps(records):
    assert tuple(records.columns) == COLUMNS
    assert records["processid"].is_unique and records["sampleid"].is_unique
    for column, share in {"family": 0.958, "genus": 0.24, "species": 0.09, "dna_bin": 0.998}.items():
        assert records[column].notna().mean() == pytest.approx(share, abs=0.02), column
    assert records.loc[records["species"].notna(), "genus"].notna().all()
    assert records.loc[records["genus"].notna(), "family"].notna().all()
    assert records["dna_barcode"].str.fullmatch("[ACGT]{160}").all()
    assert records["coord-lat"].dropna().between(-60, 70).all()
    assert records["area_fraction"].between(0, 1).all()


def test_a_bin_has_one_genus_and_a_genus_one_order(sketches):
    frame = pd.DataFrame(
        [(s.bin_number, s.genus, s.family.name, s.order.name) for s in sketches],
        columns=["bin", "genus", "family", "order"],
    )
    assert (frame.groupby("bin")["genus"].nunique() == 1).all()
    assert (frame.groupby("genus")["family"].nunique() == 1).all()
    assert (frame.groupby("family")["order"].nunique() == 1).all()
    assert frame["bin"].nunique() > 200
    names = [genus for order in ORDERS for family in order.families for genus in family.genus_names]
    assert len(set(names)) == len(names) and all("syn" in name.lower() for name in names)


def test_barcodes_follow_the_bin(records):
    known = records[records["dna_bin"].notna()].head(400)
    codes = np.array([list(code) for code in known["dna_barcode"]])
    differences = (codes[:, None] != codes[None]).mean(axis=2)
    bins = known["dna_bin"].to_numpy()
    same = (bins[:, None] == bins[None]) & ~np.eye(len(bins), dtype=bool)
    assert differences[same].mean() < 0.02 < 0.1 < differences[bins[:, None] != bins[None]].mean()


def test_places_and_sizes_say_a_little_about_the_order_and_no_more(records):
    fields = list(METADATA_PRESETS["leak_free"])
    inputs = records[fields].apply(lambda c: pd.factorize(c)[0] if c.dtype.kind not in "fi" else c).fillna(-1)
    train = (records["split"] == "train").to_numpy()
    target = records["order"]
    tree = DecisionTreeClassifier(max_depth=8, min_samples_leaf=5, random_state=0).fit(
        inputs[train], target[train]
    )
    said, truth = tree.predict(inputs[~train]), target[~train]
    assert (said == truth).mean() < (truth == "Diptera").mean() + 0.06
    assert 1 / len(ORDERS) < balanced_accuracy_score(truth, said) < 0.25


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.name)
def test_every_family_can_be_drawn(order):
    for family in order.families:
        for seed in range(2):  # dorsal, ventral and lateral, spread and folded, come by chance
            picture = _picture(family.look, seed)
            assert picture.shape == (48, 48, 3) and picture.dtype == np.uint8
            border = np.concatenate([picture[0], picture[-1]]).mean()
            assert border > 120  # a pale floor
            assert picture[12:36, 12:36].min() < border - 40  # and something darker lies on it


def test_orders_differ_in_what_is_drawn_and_not_in_colour_alone():
    """The same individual in the colours of another order is still another animal."""
    flies, spiders, beetles = (
        next(o for o in ORDERS if o.name == n) for n in ("Diptera", "Araneae", "Coleoptera")
    )
    assert {f.look.leg_pairs for f in flies.families} == {3} and {
        f.look.leg_pairs for f in spiders.families
    } == {4}
    assert all(len(f.look.wings) == 1 for f in flies.families) and not any(
        f.look.wings for f in spiders.families
    )
    assert all(f.look.covering == "elytra" for f in beetles.families)
    for order in ORDERS:
        own = {colour for family in order.families for colour in family.look.colours}
        others = {c for o in ORDERS if o is not order for family in o.families for c in family.look.colours}
        assert len(own & others) >= len(own) - 1, order.name
    means = [np.mean([_picture(o.families[0].look, seed, 32) for seed in range(3)]) for o in ORDERS]
    assert np.std(means) < 15  # brightness alone does not tell


def test_a_larger_picture_shows_the_same_specimen():
    plan = plan_specimen(ORDERS[3].families[0].look, "Syntesta", 0, np.random.default_rng(4))
    small, large = draw(plan, 64).astype(float), draw(plan, 128).astype(float)
    shrunk = large.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.corrcoef(small.mean(axis=2).ravel(), shrunk.mean(axis=2).ravel())[0, 1] > 0.85


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"data_dir": "photos"}, 'source="folder"'),
        ({"image_size": 4}, "image_size"),
        ({"n_specimens": 5}, "n_specimens"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, wrong, says):
    with pytest.raises(SpecimenError, match=says):
        synthetic(**{"data_dir": None, "cache_dir": tmp_path, **wrong})


def test_metadata_strength_changes_places_and_measurements_alone():
    sketches = sketch_collection(600, 0)
    plain, told = write_records(sketches), write_records(sketches, 0.7)
    changed = {name for name in plain if not plain[name].equals(told[name])}
    places = {"country", "province_state", "coord-lat", "coord-lon"}
    assert changed == places | {"image_measurement_value", "area_fraction", "scale_factor"}
    at_home = [CAMPAIGNS[HOMES[order]][1] for order in told["order"]]
    known = told["province_state"].notna()
    share = (told["province_state"] == at_home)[known].mean()
    assert 0.65 < share < 0.85  # 0.7 on purpose, and some more by chance
    assert write_records(sketches, 0.0).equals(plain)


def test_metadata_strength_is_a_share(tmp_path):
    with pytest.raises(SpecimenError, match=r"metadata_strength=1\.5: give a number from 0 to 1"):
        synthetic(cache_dir=tmp_path, metadata_strength=1.5)
