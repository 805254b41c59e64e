"""Groups of photographs, fair divisions, and the checks that ask for them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bionas.errors import SpecimenError, UnknownName
from bionas.lab import checks
from bionas.lab.groups import by_look, by_name, divide, groups_of, name_key, repeated_evidence, thumbnails
from bionas.specimens import ImageStore, SpecimenSet


def collection(
    n: int = 120, per_specimen: int = 4, name: str = "bee_{specimen}_{view:02d}.jpg"
) -> SpecimenSet:
    """`n` photographs, `per_specimen` of each specimen nearly alike; the class is that of the specimen."""
    generator = np.random.default_rng(0)
    specimen = np.arange(n) // per_specimen
    looks = generator.integers(0, 256, (n // per_specimen, 32, 32, 3))
    pixels = np.clip(looks[specimen] + generator.integers(-3, 4, (n, 32, 32, 3)), 0, 255).astype(np.uint8)
    labels = specimen % 3
    files = [name.format(specimen=1000 + s, view=i % per_specimen, i=i) for i, s in enumerate(specimen)]
    records = pd.DataFrame(
        {"file": files, "order": np.array(list("abc"))[labels], "specimen": specimen.astype(str)}
    )
    return SpecimenSet(records, labels, ("a", "b", "c"), ImageStore(pixels))


def test_views_of_one_specimen_have_one_key():
    assert name_key("bee_1022_f_left_2.5x.jpg") == name_key("bee_1022_f_right_2.5x.jpg")
    assert name_key("stonefly__bug_image155_00.jpg") == name_key("stonefly__bug_image155_07.jpg")
    assert name_key("IMG_1234_1.jpg") == name_key("IMG_1234_2.jpg")
    for one, other in (
        ("ants_1.jpg", "ants_2.jpg"),
        ("IMG_0001.jpg", "IMG_0002.jpg"),
        ("a/7_1.jpg", "b/7_1.jpg"),
    ):
        assert name_key(one) != name_key(other)
    assert by_name(["x9_1.jpg", "x9_2.jpg", "x8_1.jpg"]).tolist() == [0, 0, 1]


def test_no_group_is_on_two_sides_and_all_photographs_are_on_one():
    specimens = collection()
    for group in ("specimen", "filename", "lookalikes"):
        groups = groups_of(specimens, group)
        for seed in range(5):
            sides, _ = divide(specimens, groups, seed)
            assert sorted(np.concatenate(sides).tolist()) == list(range(120))
            own = [set(groups[side]) for side in sides]
            assert not (own[0] & own[1] or own[0] & own[2] or own[1] & own[2])
            assert all(len(side) for side in sides)


def test_two_groups_leave_the_smaller_one_for_the_test():
    specimens = collection()
    groups = (np.arange(120) >= 80).astype(int)
    (train, val, test), words = divide(specimens, groups, 0)
    assert test.tolist() == list(range(80, 120))
    assert len(train) > len(val) > 0
    assert "two groups" in words


def test_look_alikes_are_found():
    assert by_look(collection().images).tolist() == (np.arange(120) // 4).tolist()


def test_evidence_of_repeated_photographs():
    assert [found.group for found in repeated_evidence(collection())] == [
        "specimen",
        "filename",
        "lookalikes",
    ]
    once = collection(per_specimen=1, name="IMG_{specimen}.jpg")
    assert repeated_evidence(once) == []


def test_the_inflation_of_a_random_division_is_measured():
    specimens = collection(n=240)
    features = thumbnails(specimens.images, 8).reshape(240, -1)
    found = checks.inflation(features, specimens.labels, groups_of(specimens, "specimen"))
    assert found.random > 0.9  # every specimen was seen
    assert found.grouped < 0.6  # the looks are noise
    assert "--group specimen" in checks.inflation_warning(repeated_evidence(specimens)[0], found)
    halves = (groups_of(specimens, "specimen") % 2).astype(int)  # two sessions
    assert checks.inflation(features, specimens.labels, halves) is not None
    assert checks.inflation(features, specimens.labels, np.zeros(240, dtype=int)) is None


def test_colour_alone_is_a_shortcut_only_where_it_tells_the_classes():
    specimens = collection(per_specimen=1)
    assert checks.shortcut_warning(checks.shortcut(specimens.images, specimens.labels)) == ""
    pixels = specimens.images.pixels(np.arange(120)) // 2
    pixels[specimens.labels == 1] += 90
    found = checks.shortcut(ImageStore(pixels), np.minimum(specimens.labels, 1) * (specimens.labels == 1))
    assert found.accuracy > 0.95
    assert "colour" in checks.shortcut_warning(found)


def test_a_wrong_label_is_suspected():
    generator = np.random.default_rng(1)
    specimens = collection(per_specimen=1)
    features = np.eye(3)[specimens.labels] * 6 + generator.normal(0, 0.3, (120, 3))
    labels = specimens.labels.copy()
    labels[[5, 50]] = (labels[[5, 50]] + 1) % 3
    wrong = SpecimenSet(specimens.records, labels, specimens.class_names, specimens.images)
    found = checks.suspected_labels(wrong, features, None)
    assert set(specimens.records["file"][[5, 50]]) <= set(found["file"])
    assert len(found) <= 6


def test_a_group_that_cannot_be_used_is_refused():
    with pytest.raises(UnknownName, match="column for --group"):
        groups_of(collection(), "specimens")
    alone = collection()
    alone.records["site"] = "one"
    with pytest.raises(SpecimenError, match="one group"):
        groups_of(alone, "site")
