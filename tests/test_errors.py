"""Errors for readers: a sentence, in a notebook too, and the nearest name."""

from __future__ import annotations

from IPython.core.interactiveshell import InteractiveShell

from bionas.errors import UnknownName


def test_the_nearest_names_and_all_known_ones_are_listed():
    error = UnknownName("primitive", "sep_conv_3", ["none", "sep_conv_3x3", "max_pool_3x3"])
    of_many = UnknownName("architecture", "resnet2", [f"resnet{i:03}" for i in range(900)])
    assert "Did you mean" in str(of_many) and "and 840 more" in str(of_many) and len(str(of_many)) < 1000
    assert "Did you mean 'sep_conv_3x3'" in str(error)
    assert "Known: max_pool_3x3, none, sep_conv_3x3." in str(error)


def test_a_notebook_shows_the_sentence_and_no_traceback(capsys):
    shell = InteractiveShell.instance()
    shell.run_cell("from bionas.operators import build\nbuild('sep_conv_3', 8)")
    shown = capsys.readouterr()
    assert "UnknownName: unknown primitive 'sep_conv_3'" in shown.out + shown.err
    assert "Traceback" not in shown.out + shown.err and "operators.py" not in shown.out + shown.err
