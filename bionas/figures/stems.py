"""The study of pretrained stems as a figure: accuracy against the time that one photograph takes."""

from __future__ import annotations

import pandas as pd

from bionas.figures.palette import INK, class_color
from bionas.figures.sheet import BELOW, MUTED, Chart, plain, sheet

MAJORITY = "majority class"


def accuracy_against_milliseconds(table: pd.DataFrame, caption: str = "") -> Chart:
    """One marker per model and stage, with the spread over seeds.

    Args:
        table: model, stage (missing for a whole network), accuracy and accuracy_sd (shares of one) and milliseconds per
            photograph, as `studies/stems.py` writes it. The majority class is a line, rows without a time are left out.
    """
    majority = table.loc[table["model"] == MAJORITY, "accuracy"]
    timed = table[table["milliseconds"].notna()]
    figure, models = Chart(), list(timed["model"].unique())
    for model, own in timed.groupby("model", sort=False):
        figure.add_scatter(
            x=plain(own["milliseconds"], 2),
            y=plain(100 * own["accuracy"], 2),
            text=_stages(own["stage"]),
            textposition="middle right",
            textfont={"size": 11.5, "color": INK},
            mode="markers+text",
            name=str(model),
            marker={"size": 11, "color": class_color(str(model), models)},
            error_y={
                "type": "data",
                "array": plain((100 * own["accuracy_sd"]).fillna(0), 2),
                "color": MUTED,
                "thickness": 1.4,
            },
            hovertemplate="%{text}: %{y:.1f} %, %{x:.1f} ms<extra>" + str(model) + "</extra>",
        )
    if len(majority):
        figure.add_hline(
            y=round(100 * float(majority.iloc[0]), 2), line={"color": INK, "width": 1, "dash": "dot"}
        )
    sheet(figure, _finding(timed), caption, height=460, bottom=130, showlegend=True, legend=BELOW)
    figure.update_xaxes(title_text="milliseconds per photograph, one core", rangemode="tozero")
    figure.update_yaxes(title_text="accuracy on test (%)")
    return figure


def _stages(stages: pd.Series) -> list[str]:
    """Beside each marker of a model that stands on several stages; the others would cover each other."""
    return ["" if stages.nunique() < 2 else f"stage {int(stage)}" for stage in stages]


def _finding(timed: pd.DataFrame) -> str:
    """The best model of those with a spread over seeds."""
    several = timed[timed["accuracy_sd"].notna()]
    best = several.loc[several["accuracy"].idxmax()]
    return f"Best: {best['model']}, {100 * best['accuracy']:.1f} % in {best['milliseconds']:.0f} ms"
