"""How pictures are displayed: in untrusted notebooks, at any width, with alternative text, without an upload button."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from PIL import Image

from bionas import figures
from bionas.figures.drawings.cells import cell_svg
from bionas.figures.drawings.svg import Drawing
from bionas.figures.placement import POINT, text_positions
from bionas.figures.sheet import Chart, sheet
from bionas.genotype import Genotype


@pytest.fixture
def displayed(monkeypatch):
    """What a figure hands to the notebook, as (data, metadata)."""
    import IPython.display
    import plotly.io

    shown = []
    monkeypatch.setattr(plotly.io.renderers, "default", "plotly_mimetype")
    monkeypatch.setattr(
        IPython.display, "display", lambda data, metadata, raw: shown.append((data, metadata))
    )
    return shown


def test_a_drawing_carries_svg_png_and_words():
    genotype = Genotype.random(3, [False, True, True], generator=np.random.default_rng(0))
    for picture in (cell_svg(("conv_1x1", "none", "none"), title="a < b & c"), genotype):
        data, metadata = picture._repr_mimebundle_()
        svg = data["image/svg+xml"]
        assert 'viewBox="' in svg and 'width="100%"' in svg
        image = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
        width, height = (float(v) for v in re.search(r'viewBox="0 0 (\S+) (\S+)"', svg).groups())
        assert image.size == pytest.approx((2 * width, 2 * height), abs=2)
        assert len(image.convert("RGB").getcolors(maxcolors=10**6)) > 20  # something is drawn
        for kind in ("image/png", "image/svg+xml"):
            assert metadata[kind]["alt"] == data["text/plain"]
    assert cell_svg(("conv_1x1",) * 3, title="a < b & c").alternative.startswith(
        "a < b & c: x to z1: conv_1x1"
    )


def test_a_drawing_is_its_svg_and_saves_as_either(tmp_path):
    drawing = cell_svg(("conv_1x1", "none", "none"))
    assert isinstance(drawing, Drawing) and drawing.startswith("<svg ") and "<svg" not in repr(drawing)
    drawing.save(tmp_path / "cell.svg")
    drawing.save(tmp_path / "cell.png")
    assert (tmp_path / "cell.svg").read_text(encoding="utf-8") == drawing
    assert Image.open(tmp_path / "cell.png").format == "PNG"


def test_the_toolbar_offers_no_upload(displayed):
    chart = sheet(Chart(go.Bar(x=["a"], y=[1])), "One & only", "of <i>one</i>", height=300)
    chart._ipython_display_()
    ((data, metadata),) = displayed
    figure = data["application/vnd.plotly.v1+json"]
    assert figure["config"]["showSendToCloud"] is False and not figure["config"]["plotlyServerURL"]
    assert figure["config"]["responsive"] and "width" not in figure["layout"]
    assert metadata["image/png"]["alt"] == "One & only. of one"
    assert "sendChartToCloud" in chart.layout.modebar.remove  # by the layout too, for other renderers


def test_names_keep_off_points_names_and_lines():
    names = pd.Series(["first name", "second name", "third name"])
    close = text_positions(pd.Series([0.5, 0.51, 0.52]), pd.Series([0.5, 0.5, 0.5]), names)
    assert len(set(close.values())) == 3
    alone = names.iloc[:1]
    assert text_positions(pd.Series([0.5]), pd.Series([0.5]), alone)[0] == "top center"
    under_a_line = text_positions(pd.Series([0.5]), pd.Series([0.5]), alone, levels=[0.5 + 2 * POINT])[0]
    assert under_a_line == "bottom center"
    assert text_positions(pd.Series([0.01]), pd.Series([0.5]), alone)[0].endswith("right")  # inside the plot


def test_lines_of_nearly_one_value_have_names_one_above_the_other():
    frame = pd.DataFrame(
        {"model": ["A"], "image": [40.0], "image_sd": [1.0], "both": [47.5], "both_sd": [1.0], "gain": [7.5]}
    ).assign(image_seeds=3, both_seeds=3)
    lines = {"majority class": 59.1, "metadata alone": 58.4}
    notes = figures.with_and_without_metadata(frame, lines).layout.annotations
    shifts = [note.yshift or 0 for note in notes if "%" in note.text]
    assert len(shifts) == 2 and abs(shifts[0] - shifts[1]) >= 15  # pixels: a line of text
    models = pd.DataFrame(
        {"model": ["A"], "table": ["I"], "macs": [3.0], "parameters": [1e6], "score": [60.0]}
    )
    figure = figures.accuracy_against_macs(models, {"score": "score"}, "Cost", lines={"score": lines})
    assert {note.yanchor for note in figure.layout.annotations} == {"top", "bottom"}


def test_balanced_classes_are_not_called_a_long_tail():
    even = figures.long_tail(pd.Series([22, 21, 20], index=["a", "b", "c"]))
    assert "Balanced" in even.alternative and "tail" not in even.alternative
    assert even.layout.xaxis.type != "log" and even.layout.xaxis.range[0] == 0
    skewed = figures.long_tail(pd.Series([900, 30, 20], index=["a", "b", "c"]), threshold=25)
    assert "Long tail" in skewed.alternative and skewed.layout.xaxis.type == "log"
    low, high = (10**edge for edge in skewed.layout.xaxis.range)
    assert sum(low <= tick <= high for tick in skewed.layout.xaxis.tickvals) >= 2
