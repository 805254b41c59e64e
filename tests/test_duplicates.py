"""Identical photographs are found by their pixels, whatever they are called and wherever they lie."""

import numpy as np

from bionas.specimens import ImageStore
from bionas.specimens.duplicates import contradicting, equal_groups, pixel_hashes


def test_equal_pixels_and_nothing_else_form_a_group():
    pixels = np.random.default_rng(0).integers(0, 256, (600, 4, 4, 3), dtype=np.uint8)
    pixels[[5, 300, 599]] = pixels[17]
    pixels[400] = pixels[2]
    pixels[41] = pixels[40]
    pixels[41, 3, 3, 2] ^= 1  # one value differs
    groups = equal_groups(pixel_hashes(ImageStore(pixels)))
    assert [group.tolist() for group in groups] == [[2, 400], [5, 17, 300, 599]]
    labels = np.zeros(600, dtype=np.int64)
    labels[300] = 1
    assert [group.tolist() for group in contradicting(groups, labels)] == [[5, 17, 300, 599]]
    assert equal_groups(pixel_hashes(ImageStore(pixels[:1]))) == [] == equal_groups(np.zeros(0, np.uint64))
