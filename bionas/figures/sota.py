"""Figures of the comparison with other networks: scores against the majority class and against cost, metadata's part.

The frames are those of `sota_tables`; percentages stay percent. What was not run has a place of its own in each figure.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bionas.figures.palette import ACCENT, GRID, INK, PAPER
from bionas.figures.placement import text_positions
from bionas.figures.sheet import BELOW, HEAD, MUTED, Chart, plain, rows, sheet

TABLE_COLORS = {"II": "#3d5a80", "III": "#8e7dbe", "V": "#5b8e7d", "I": ACCENT}
"""One colour a table of the paper; the proposed network's is the accent."""

TABLE_NAMES = {
    "II": "Table II, transfer learning",
    "III": "Table III, transformers",
    "V": "Table V, AutoML and NAS",
    "I": "BioAutoML-NAS",
}

SCALES = {"10^9": "10⁹", "10^6": "10⁶"}

LARGEST = 46
"""Diameter in pixels of the largest bubble."""

SMALLEST = 7

LINE_NAME = 17
"""Pixels from the name of one vertical reference line to the next."""

PLOT = 690, 353
"""Pixels of the plot of accuracy against cost, across and up, in a figure of 800."""

ABSENT_LETTERS, ABSENT_LINE = 92, 16
"""Letters per line, and pixels per line, of the names of what was not run."""


def published_scores(
    frame: pd.DataFrame, majority: float, order: str, metric: str = "bioscan5m_accuracy", caption: str = ""
) -> Chart:
    """Every published model by its accuracy, and the line of always naming the commonest order.

    Args:
        frame: model, table (I, II, III or V), and the published percentages, one of them `metric`.
        majority, order: percent that always naming this order gets right.
    """
    frame = frame.sort_values(metric, ascending=False, kind="stable").reset_index(drop=True)
    backbones = frame[frame["table"].isin(("II", "III"))]
    below = int((backbones[metric] < majority).sum())
    scores = [c for c in frame if c.rpartition("_")[2] in ("accuracy", "precision", "recall", "f1")]
    figure = Chart()
    for number, color in TABLE_COLORS.items():
        own = frame[frame["table"] == number]
        if own.empty:
            continue
        low = own[metric] < majority
        figure.add_scatter(
            x=plain(own[metric], 2),
            y=plain(own.index),
            mode="markers",
            name=TABLE_NAMES[number],
            marker={
                "color": [PAPER if under else color for under in low],
                "size": 11,
                "line": {"color": color, "width": 2.2},
            },
            text=[_details(row, scores) for _, row in own.iterrows()],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.add_vline(x=round(majority, 2), line={"color": INK, "width": 1.4, "dash": "dash"})
    figure.add_annotation(
        x=round(majority, 2),
        y=1,
        yref="paper",
        yanchor="bottom",
        showarrow=False,
        font={"size": 12},
        text=f"always {order}: {majority:.2f} %",
    )
    for y, value in enumerate(frame[metric]):
        figure.add_annotation(
            x=1.01,
            xref="paper",
            y=y,
            xanchor="left",
            showarrow=False,
            text=f"{value:.2f}",
            font={"size": 12, "color": INK},
        )
    sheet(
        figure,
        f"{below} of {len(backbones)} published backbones score below always answering {order}",
        caption,
        height=rows(len(frame), 23) + 64,
        left=190,
        right=76,
        head=HEAD + 24,
        bottom=104,
        legend=BELOW,
    )
    figure.update_xaxes(title_text="accuracy as published (%)")
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(frame))),
        ticktext=[str(m) for m in frame["model"]],
        range=[len(frame) - 0.4, -0.6],
        gridcolor=GRID,
        ticksuffix="  ",
    )
    return figure


def accuracy_against_macs(
    frame: pd.DataFrame,
    choices: Mapping[str, str],
    title: str,
    caption: str = "",
    lines: Mapping[str, Mapping[str, float]] | None = None,
    unit: str = "10^9",
) -> Chart:
    """Accuracy against multiply-accumulates, the area of a bubble by parameters; hover tells every column.

    Models without a score are crosses on the lower edge, named under the plot; those without MACs are left out.

    Args:
        frame: model, table (its colour), macs (in `unit` an image), parameters, and the columns of `choices`, percent;
            other columns are shown on hover.
        choices: words on a button -> the column that it draws. The first is drawn at first; one alone has no button.
        lines: words on a button -> name -> percent of a horizontal line.
        unit: of `macs`: one of `SCALES`.
    """
    frame = frame[frame["macs"].notna()].reset_index(drop=True)
    scale, lines = SCALES[unit], lines or {}
    named = frame.rename(columns={"macs": f"MACs per image ({scale})"})
    details = [
        _details(row, [c for c in named if c not in ("model", "table")]) for _, row in named.iterrows()
    ]
    spans = {
        words: _span(frame[column], list(lines.get(words, {}).values())) for words, column in choices.items()
    }
    drawn = frame.loc[frame[list(choices.values())].notna().any(axis=1), "parameters"]  # a cross has no area
    most = (drawn if len(drawn) else frame["parameters"]).max()
    radius = frame["parameters"].astype(float).map(lambda p: _diameter(p, most) / 2)
    radii = pd.DataFrame({"across": radius / PLOT[0], "up": radius / PLOT[1]})
    left, right = math.log10(frame["macs"].min()) - 0.3, math.log10(frame["macs"].max()) + 0.3
    numbers = [n for n in TABLE_COLORS if (frame["table"] == n).any()]

    def heights(words: str) -> list[dict[str, list[Any]]]:
        """y, text and its position, of each table's bubbles and then of its crosses."""
        score = frame[choices[words]].astype(float)
        across = (frame["macs"].astype(float).map(math.log10) - left) / (right - left)
        high, floor = spans[words]
        bottom, top = _ends(high, floor)
        levels = [(value - bottom) / (top - bottom) for value in lines.get(words, {}).values()]
        beside = text_positions(across, (score - bottom) / (top - bottom), frame["model"], levels, radii)
        traces = []
        for own in (frame.index[frame["table"] == n] for n in numbers):
            texts = [str(m) if pd.notna(v) else "" for m, v in zip(frame["model"][own], score[own])]
            traces.append(
                {"y": plain(score[own], 2), "text": texts, "textposition": [beside[i] for i in own]}
            )
            crosses = [round(floor, 2) if pd.isna(v) else None for v in score[own]]
            traces.append({"y": crosses, "text": [""] * len(own), "textposition": ["top center"] * len(own)})
        return traces

    absent = {
        words: _absent([str(m) for m in frame.loc[frame[column].isna(), "model"]])
        for words, column in choices.items()
    }
    below = ABSENT_LINE * max(map(len, absent.values()))

    def layout(words: str) -> dict[str, Any]:
        found = _line_layout(lines.get(words, {}))
        return found | {"annotations": found["annotations"] + _under_the_axis(absent[words])}

    figure = Chart()
    for i, trace in enumerate(heights(next(iter(choices)))):
        number, crosses = numbers[i // 2], bool(i % 2)
        own = frame[frame["table"] == number]
        figure.add_scatter(
            x=plain(own["macs"].astype(float), 4),
            **trace,
            mode="markers" if crosses else "markers+text",
            name="not run" if crosses else TABLE_NAMES[number],
            legendgroup=number,
            showlegend=not crosses,
            textfont={"size": 11.5, "color": INK},
            customdata=[details[j] for j in own.index],
            hovertemplate="%{customdata}<extra></extra>",
            marker=_crosses() if crosses else _bubbles(own["parameters"], most, TABLE_COLORS[number]),
        )
    buttons = []
    for words in choices:
        traces = heights(words)
        drawn = {part: [trace[part] for trace in traces] for part in ("y", "text", "textposition")}
        changed = layout(words) | {"yaxis.range": plain(_ends(*spans[words]), 2)}
        buttons.append({"label": words, "method": "update", "args": [drawn, changed]})
    menus = [
        {
            "type": "buttons",
            "direction": "right",
            "buttons": buttons,
            "x": 1,
            "xanchor": "right",
            "y": 1.02,
            "yanchor": "bottom",
            "showactive": True,
            "font": {"size": 12},
            "bgcolor": PAPER,
            "bordercolor": GRID,
        }
    ]
    sheet(
        figure,
        title,
        caption,
        height=590 + below,
        head=HEAD + 40,
        bottom=105 + below,
        right=40,
        legend=BELOW | {"itemsizing": "constant"},
        updatemenus=menus if len(choices) > 1 else [],
        **layout(next(iter(choices))),
    )
    decades = range(math.ceil(left), math.floor(right) + 1)
    figure.update_xaxes(
        title_text=f"multiply-accumulates per image ({scale}, logarithmic)",
        type="log",
        range=plain((left, right), 3),
        tickmode="array",
        tickvals=[10.0**d for d in decades],
        ticktext=[f"{10.0**d:,g}" for d in decades],
    )
    figure.update_yaxes(title_text="accuracy (%)", range=plain(_ends(*spans[next(iter(choices))]), 2))
    return figure


def with_and_without_metadata(
    frame: pd.DataFrame, lines: Mapping[str, float], metric: str = "accuracy", caption: str = ""
) -> Chart:
    """Each network on images alone and with the same metadata: two dots and what lies between.

    Args:
        frame: model, image, image_sd, both, both_sd (percent; NaN where not run), gain, in the order from top to
            bottom.
        lines: what does without images, name -> percent: the majority class, the metadata alone.
    """
    named = metric.replace("_", " ")
    complete = frame["gain"].notna()
    median = frame.loc[complete, "gain"].median()
    title = f"The same metadata for all: {named} with and without"
    if complete.any():
        title = f"The same metadata for all: {median:+.1f} points of {named} in the median"
    figure = Chart()
    for y, row in enumerate(frame.itertuples()):
        if pd.notna(row.gain):
            figure.add_shape(
                type="line",
                x0=round(row.image, 2),
                x1=round(row.both, 2),
                y0=y,
                y1=y,
                layer="below",
                line={"color": "#b9bdc4", "width": 5},
            )
        details = [
            name for name, value in (("image", row.image), ("image+metadata", row.both)) if pd.isna(value)
        ]
        words = (
            f"{row.gain:+.1f}"
            if pd.notna(row.gain)
            else "not run"
            if len(details) == 2
            else f"{details[0]}: not run"
        )
        figure.add_annotation(
            x=1.012,
            xref="paper",
            y=y,
            xanchor="left",
            showarrow=False,
            text=words,
            font={"size": 12.5 if pd.notna(row.gain) else 11, "color": INK if pd.notna(row.gain) else MUTED},
        )
    for column, words, color in (("image", "image alone", "#3d5a80"), ("both", "image and metadata", ACCENT)):
        own = frame[column].astype(float)
        figure.add_scatter(
            x=plain(own, 2),
            y=list(range(len(frame))),
            mode="markers",
            name=words,
            marker={"color": color, "size": 13, "line": {"color": PAPER, "width": 1.5}},
            error_x={
                "type": "data",
                "array": plain(frame[f"{column}_sd"].astype(float), 2),
                "color": color,
                "width": 4,
                "thickness": 1.4,
            },
            customdata=plain(frame[f"{column}_seeds"]),
            hovertemplate="%{y}<br>" + words + ": %{x:.1f} %<br>seeds: %{customdata}<extra></extra>",
        )
    _lines(figure, lines, vertical=True)
    sheet(
        figure,
        title,
        caption,
        height=rows(len(frame), 40) + 70,
        left=170,
        right=150,
        head=HEAD + 44,
        bottom=96,
        legend=BELOW,
    )
    figure.update_xaxes(title_text=f"{named} on the test split (%)")
    if not frame[["image", "both"]].notna().any().any() and not lines:
        figure.update_xaxes(range=[0, 100])
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(frame))),
        ticktext=[str(m) for m in frame["model"]],
        range=[len(frame) - 0.5, -0.5],
        gridcolor=GRID,
        ticksuffix="  ",
    )
    return figure


# --- parts -------------------------------------------------------------------------------------------------------


def _span(scores: pd.Series, levels: Sequence[float]) -> tuple[float, float]:
    """(highest, where crosses stand) of scores and lines, percent."""
    values = [float(v) for v in scores.astype(float) if pd.notna(v)] + list(levels)
    if not values:
        return 100.0, 0.0
    return max(values), min(values) - 0.12 * max(max(values) - min(values), 4.0)


def _ends(high: float, floor: float) -> tuple[float, float]:
    """The range of the accuracy axis; above, there is room for a name over the largest bubble."""
    return floor - 0.05 * (high - floor), high + 0.17 * (high - floor)


def _absent(names: Sequence[str]) -> list[str]:
    """The names of those that were not run, as lines of text under the plot."""
    if not names:
        return []
    return textwrap.wrap(f"× not run ({len(names)}): {', '.join(names)}", ABSENT_LETTERS)


def _under_the_axis(lines: Sequence[str]) -> list[dict[str, Any]]:
    if not lines:
        return []
    return [
        {
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "y": 0,
            "yref": "paper",
            "yanchor": "top",
            "yshift": -52,
            "align": "left",
            "showarrow": False,
            "text": "<br>".join(lines),
            "font": {"size": 11.5, "color": MUTED},
        }
    ]


def _crosses() -> dict[str, Any]:
    return {"size": SMALLEST, "color": MUTED, "symbol": "x-thin", "line": {"color": MUTED, "width": 1.5}}


def _bubbles(parameters: pd.Series, most: float, color: str) -> dict[str, Any]:
    sizes = [_diameter(p, most) for p in parameters.astype(float)]
    return {"size": sizes, "color": color, "opacity": 0.62, "line": {"color": color, "width": 1.2}}


def _diameter(parameters: float, most: float) -> float:
    """Area by parameters, the largest `LARGEST` wide; never too small to see."""
    return round(max(LARGEST * (parameters / most) ** 0.5, SMALLEST), 1) if pd.notna(parameters) else SMALLEST


def _details(row: pd.Series, columns: Sequence[str]) -> str:
    """All values of a row, one line per value."""
    lines = [f"<b>{row['model']}</b>"]
    for name in columns:
        value = row[name]
        if pd.isna(value) or value == "":
            continue
        if not isinstance(value, (str, bool)):
            value = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4g}"
        lines.append(f"{name.replace('_', ' ')}: {value}")
    return "<br>".join(lines)


def _lines(figure: Chart, lines: Mapping[str, float], vertical: bool = False) -> None:
    layout = _line_layout(lines, vertical)
    figure.update_layout(shapes=[*figure.layout.shapes, *layout["shapes"]])
    figure.update_layout(annotations=[*figure.layout.annotations, *layout["annotations"]])


def _line_layout(lines: Mapping[str, float], vertical: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Reference lines and their names, as a layout holds them."""
    shapes, annotations = [], []
    highest = max(lines.values(), default=0.0)
    for i, (name, percent) in enumerate(lines.items()):
        at, dash = round(percent, 2), "dash" if i == 0 else "dot"
        words = f"{name}: {percent:.1f} %"
        line = {"type": "line", "line": {"color": INK, "width": 1.3, "dash": dash}}
        note = {"showarrow": False, "font": {"size": 12, "color": INK}, "text": words}
        if vertical:  # names one above the other: the lines may be close
            shapes.append({**line, "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper"})
            place = {"x": at, "y": 1, "yref": "paper", "yanchor": "bottom", "yshift": LINE_NAME * i}
        else:  # the name of the highest line above it, the others below theirs
            shapes.append({**line, "x0": 0, "x1": 1, "xref": "paper", "y0": at, "y1": at})
            anchor = "bottom" if percent == highest and len(lines) > 1 else "top"
            place = {"x": 0.995, "xref": "paper", "xanchor": "right", "y": at, "yanchor": anchor}
        annotations.append({**note, **place})
    return {"shapes": shapes, "annotations": annotations}
