"""Figures of the audit from our own runs: inputs added, removed and shuffled, open choices changed, classes by size."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from bionas.figures.palette import ACCENT, INK, PAPER
from bionas.figures.sheet import ABOVE, BELOW, HEAD, MUTED, Chart, panels, plain, rows, sheet

BLUE = "#3d5a80"
GREY = "#b9bdc4"


def input_contributions(frame: pd.DataFrame, majority: Mapping[str, float], caption: str = "") -> Chart:
    """Accuracy by input: metadata alone and with the image, one dot per training; the image alone as a line.

    Args:
        frame: split, metadata, inputs ("image", "metadata", "image + metadata"), accuracy (share of 1), one row per training.
        majority: accuracy of the majority class, a share of 1, by split.
    """
    splits = list(dict.fromkeys(frame["split"]))
    choices = [c for c in dict.fromkeys(frame["metadata"]) if c != "none"]
    figure = panels(
        len(splits),
        1,
        shared_xaxes=True,
        vertical_spacing=0.12,
        subplot_titles=[f"split: {s}" for s in splits],
    )
    looks = {"metadata": (GREY, "circle", 0.16), "image + metadata": (BLUE, "circle", -0.16)}
    for row, split in enumerate(splits, start=1):
        of_split = frame[frame["split"] == split]
        for inputs, (color, symbol, shift) in looks.items():
            own = of_split[of_split["inputs"] == inputs]
            at = [choices.index(c) + shift for c in own["metadata"]]
            figure.add_scatter(
                x=plain(100 * own["accuracy"], 2),
                y=at,
                mode="markers",
                name=inputs,
                showlegend=row == 1,
                legendgroup=inputs,
                marker={"color": color, "size": 11, "symbol": symbol, "line": {"color": INK, "width": 0.6}},
                customdata=own["metadata"].tolist(),
                hovertemplate="%{customdata}: %{x:.1f} %<extra>" + inputs + "</extra>",
                row=row,
                col=1,
            )
        image = 100 * of_split.loc[of_split["inputs"] == "image", "accuracy"].mean()
        lines = [(100 * majority[split], "majority class", MUTED, "dot")]
        if math.isfinite(image):
            lines.append((image, "image alone (mean)", ACCENT, "solid"))
        for x, name, color, dash in lines:
            figure.add_scatter(
                x=[round(x, 2)] * 2,
                y=[-0.5, len(choices) - 0.5],
                mode="lines",
                name=name,
                showlegend=row == 1,
                legendgroup=name,
                line={"color": color, "width": 2, "dash": dash},
                hovertemplate="%{x:.1f} %<extra>" + name + "</extra>",
                row=row,
                col=1,
            )
    sheet(
        figure,
        _inputs_title(frame),
        caption,
        height=rows(len(splits) * len(choices), 46) + 60 * len(splits),
        left=140,
        head=HEAD + 44,
        legend=ABOVE | {"y": 1.06},
    )
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(choices))),
        ticktext=choices,
        range=[len(choices) - 0.5, -0.5],
        ticksuffix="  ",
        showgrid=False,
    )
    figure.update_xaxes(range=[0, 103], dtick=20)
    figure.update_xaxes(title_text="accuracy on the test split (%)", row=len(splits), col=1)
    figure.update_annotations(font={"size": 13, "color": INK})
    return figure


def fields_taken_away(frame: pd.DataFrame, majority: Mapping[str, float], caption: str = "") -> Chart:
    """Metadata alone as fields are removed: one panel per split scheme, one row per choice of fields, for BINs that
    occur in training and for those that do not.

    Args:
        frame: split, fields, model, accuracy (and accuracy_seen, accuracy_unseen; shares of 1, NaN where empty), one row
            per choice and model: means over seeds. Rows keep the frame's order.
        majority: accuracy of the majority class by split.
    """
    splits = list(dict.fromkeys(frame["split"]))
    fields = list(dict.fromkeys(frame["fields"]))
    models = list(dict.fromkeys(frame["model"]))
    figure = panels(
        1,
        len(splits),
        shared_yaxes=True,
        horizontal_spacing=0.04,
        subplot_titles=[f"split: {s}" for s in splits],
    )
    symbols = dict(zip(models, ("circle", "diamond-open", "square-open", "cross"), strict=False))
    kinds = {"accuracy_seen": ("BIN in training", BLUE), "accuracy_unseen": ("BIN not in training", ACCENT)}
    for column, split in enumerate(splits, start=1):
        of_split = frame[frame["split"] == split]
        for kind, (name, color) in kinds.items():
            for model in models:
                own = of_split[(of_split["model"] == model) & of_split[kind].notna()]
                figure.add_scatter(
                    x=plain(100 * own[kind].astype(float), 2),
                    y=[fields.index(f) for f in own["fields"]],
                    mode="markers",
                    name=f"{model}, {name}",
                    showlegend=False,
                    marker={
                        "color": color,
                        "size": 10,
                        "symbol": symbols[model],
                        "line": {"color": color, "width": 1.6},
                    },
                    hovertemplate="%{x:.1f} %<extra>" + f"{model}, {name}" + "</extra>",
                    row=1,
                    col=column,
                )
        figure.add_vline(
            x=round(100 * majority[split], 2),
            line={"color": MUTED, "width": 1.4, "dash": "dot"},
            row=1,
            col=column,
        )
    keys = [(name, color, "square") for name, color in kinds.values()]
    keys += [(model, INK, symbols[model]) for model in models]
    for name, color, symbol in keys:  # the legend: a colour per kind, a symbol per model
        look = {"color": color, "size": 10, "symbol": symbol, "line": {"color": color, "width": 1.6}}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=name, marker=look)
    sheet(
        figure,
        _fields_title(frame, fields),
        caption,
        height=rows(len(fields), 38) + 70,
        left=250,
        head=HEAD + 18,
        bottom=118,
        legend=BELOW,
    )
    figure.update_xaxes(range=[0, 104], dtick=20, title_text="accuracy (%)")
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(fields))),
        ticktext=[_wrapped(f) for f in fields],
        range=[len(fields) - 0.5, -0.5],
        ticksuffix="  ",
    )
    figure.update_annotations(font={"size": 13, "color": INK})
    return figure


def shuffled_inputs(frame: pd.DataFrame, caption: str = "") -> Chart:
    """Accuracy lost when one input is shuffled: one panel per choice of metadata, one dot per training.

    Args:
        frame: metadata, shuffled (the input), drop (share of 1), one row per training and input.
    """
    lost = frame.groupby("shuffled")["drop"].mean()
    worst = lost.idxmax()
    choices = list(dict.fromkeys(frame["metadata"]))
    names = [list(dict.fromkeys(frame.loc[frame["metadata"] == c, "shuffled"])) for c in choices]
    figure = panels(
        len(choices),
        1,
        shared_xaxes=True,
        vertical_spacing=0.09,
        row_heights=[len(n) for n in names],
        subplot_titles=[f"given the image and {c}" for c in choices],
    )
    for row, (choice, inputs) in enumerate(zip(choices, names, strict=True), start=1):
        own = frame[frame["metadata"] == choice]
        means = own.groupby("shuffled")["drop"].mean()
        figure.add_bar(
            x=plain(100 * means[inputs], 2),
            y=list(range(len(inputs))),
            orientation="h",
            width=0.5,
            showlegend=False,
            marker={"color": [ACCENT if i == "image" else GREY for i in inputs]},
            hoverinfo="skip",
            row=row,
            col=1,
        )
        figure.add_scatter(
            x=plain(100 * own["drop"], 2),
            y=[inputs.index(i) for i in own["shuffled"]],
            mode="markers",
            showlegend=False,
            marker={"color": INK, "size": 6, "opacity": 0.7},
            hovertemplate="%{x:.1f} points<extra></extra>",
            row=row,
            col=1,
        )
        figure.update_yaxes(
            tickmode="array",
            tickvals=list(range(len(inputs))),
            ticktext=inputs,
            range=[len(inputs) - 0.5, -0.5],
            showgrid=False,
            ticksuffix="  ",
            row=row,
            col=1,
        )
    sheet(
        figure,
        f"Shuffling {worst} costs most: {100 * lost[worst]:.1f} points of accuracy",
        caption,
        height=rows(sum(map(len, names)), 24) + 50 * len(choices),
        left=210,
    )
    figure.update_xaxes(
        title_text="loss of validation accuracy (points); bars: mean, dots: trainings",
        row=len(choices),
        col=1,
    )
    figure.update_annotations(font={"size": 13, "color": INK})
    return figure


def turned_assumptions(frame: pd.DataFrame, declared: str = "as declared", caption: str = "") -> Chart:
    """One panel per open choice: one line per seed, from the choices as declared to this one changed.

    Args:
        frame: model (the variant), seed, balanced_accuracy (share of 1), one row per training; `declared` names the reference.
    """
    by_seed = 100 * frame.pivot(index="seed", columns="model", values="balanced_accuracy")
    variants = [m for m in dict.fromkeys(frame["model"]) if m != declared]
    columns = min(3, len(variants))
    n_rows = -(-len(variants) // columns)
    titles, beyond = [], 0
    for name in variants:
        gap = by_seed[name] - by_seed[declared]
        error = f" ± {gap.sem():.1f}" if len(gap) > 1 else ""
        beyond += len(gap) > 1 and abs(gap.mean()) > 2 * gap.sem()
        titles.append(f"<b>{name}</b><br>{gap.mean():+.1f}{error} points")
    figure = panels(
        n_rows,
        columns,
        shared_yaxes=True,
        subplot_titles=titles,
        vertical_spacing=0.24,
        horizontal_spacing=0.05,
    )
    for i, name in enumerate(variants):
        place = {"row": i // columns + 1, "col": i % columns + 1}
        for seed, pair in by_seed[[declared, name]].iterrows():
            figure.add_scatter(
                x=[0, 1],
                y=plain(pair, 2),
                mode="lines+markers",
                showlegend=False,
                line={"color": GREY, "width": 1.6},
                marker={"color": [BLUE, ACCENT], "size": 9, "line": {"color": PAPER, "width": 1}},
                hovertemplate="%{y:.1f} %<extra>seed " + str(seed) + "</extra>",
                **place,
            )
    low, high = float(by_seed.min().min()), float(by_seed.max().max())
    pad = max(0.12 * (high - low), 1.0)
    sheet(
        figure,
        f"{beyond} of {len(variants)} open choices matter by more than twice the standard error",
        caption,
        height=HEAD + 110 + 230 * n_rows,
        head=HEAD + 60,
    )
    figure.update_xaxes(
        tickmode="array",
        tickvals=[0, 1],
        ticktext=["declared", "changed"],
        range=[-0.35, 1.35],
        showgrid=False,
    )
    figure.update_yaxes(range=[round(low - pad, 1), round(high + pad, 1)])
    figure.update_yaxes(title_text="balanced accuracy (%)", col=1)
    figure.update_annotations(font={"size": 12.5, "color": INK})
    return figure


def class_sizes(frame: pd.DataFrame, caption: str = "") -> Chart:
    """Recall of each class against its size in training: one dot per training, a dash for the mean; logarithmic sizes.

    Args:
        frame: class, n_train, recall (share of 1, NaN where the test split has none), one row per class and training.
    """
    known = frame[frame["recall"].notna()]
    means = known.groupby(["class", "n_train"], as_index=False, sort=False)["recall"].mean()
    figure = Chart()
    figure.add_scatter(
        x=plain(known["n_train"]),
        y=plain(100 * known["recall"], 2),
        mode="markers",
        name="one training",
        marker={"color": BLUE, "size": 8, "opacity": 0.45},
        customdata=known["class"].tolist(),
        hovertemplate="%{customdata}: %{y:.1f} %<extra></extra>",
    )
    figure.add_scatter(
        x=plain(means["n_train"]),
        y=plain(100 * means["recall"], 2),
        mode="markers+text",
        name="mean",
        text=means["class"].tolist(),
        textposition="top center",
        textfont={"size": 10.5, "color": MUTED},
        marker={"color": ACCENT, "size": 14, "symbol": "line-ew", "line": {"color": ACCENT, "width": 3}},
    )
    low, high = np.log10([known["n_train"].min(), known["n_train"].max()])
    sheet(
        figure,
        _recall_title(means),
        caption,
        height=480,
        legend=ABOVE,
        head=HEAD + 28,
    )
    figure.update_xaxes(
        title_text="specimens in training (log scale)",
        type="log",
        range=[round(low - 0.15, 2), round(high + 0.2, 2)],
        tickmode="array",
        tickvals=[digit * 10**power for power in range(1, 7) for digit in (1, 3)],
    )
    figure.update_yaxes(title_text="recall on the test split (%)", range=[-4, 108])
    return figure


def _inputs_title(frame: pd.DataFrame) -> str:
    means = 100 * frame.groupby(["inputs", "split", "metadata"])["accuracy"].mean()
    known = means.index.get_level_values("inputs").unique()
    spans = [f"{name}: {means[name].min():.0f} to {means[name].max():.0f} %" for name in known]
    return "Accuracy by input. " + "; ".join(spans)


def _fields_title(frame: pd.DataFrame, fields: list[str]) -> str:
    unseen = 100 * frame.groupby("fields")["accuracy_unseen"].mean()
    first, last = unseen.get(fields[0], math.nan), unseen.get(fields[-1], math.nan)
    if math.isfinite(first) and math.isfinite(last):
        return f"Records alone, BINs not in training: {first:.0f} % with the most fields, {last:.0f} % with the fewest"
    return "Accuracy of records alone, as fields are removed"


def _recall_title(means: pd.DataFrame) -> str:
    if len(means) < 3:
        return "Recall of each class against its size"
    rank = means["n_train"].corr(means["recall"], method="spearman")
    return f"Recall against class size: rank correlation {rank:+.2f}"


def _wrapped(fields: str) -> str:
    names = fields.split(", ")
    return ", ".join(names) if len(names) <= 3 else ", ".join(names[:3]) + ",<br>" + ", ".join(names[3:])
