"""The report of a model in plain language: lines for the terminal, the model card, and a self-contained HTML page.

Everything is read from the fields of `model.json`.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bionas.lab.metadata import Columns

Description = Mapping[str, Any]

SHOWN = 30
"""Suspected labels that the page lists."""

WORTH_IT = 0.01
"""Gain of the last doubling of the photographs from which more photographs are said to help."""

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}"
    "table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;"
    "text-align:right}td:first-child,th:first-child{text-align:left}.warning{border-left:4px solid #b35900;"
    "padding:.3rem .8rem;background:#fff6ea}"
)


def percent(share: float | None) -> str:
    """0.914 -> "91.4 %"; "-" where it is not known."""
    return "-" if share is None else f"{100 * share:.1f} %"


def lines(description: Description) -> list[str]:
    """What `train` prints at its end."""
    test, target = description["test"], description["taxonomy"]["target"]
    found = [
        headline(description),
        f"The commonest class alone ({test['majority_class']}): {percent(test['majority_accuracy'])}. "
        f"Mean over the classes (balanced): {percent(test['balanced_accuracy'])}.",
    ]
    wider = [f"{rank} {percent(share)}" for rank, share in test["ranks"].items() if rank != target]
    if wider:
        found.append(f"Summed up to wider ranks: {', '.join(wider)}.")
    found.append("Per class (share of its photographs that are named right):")
    for row in sorted(test["by_class"], key=lambda row: -row["train"]):
        found.append(
            f"  {row['class']}: {percent(row['recall'])} of {row['n']} ({row['train']:,} trained on)"
        )
    found += [f"  {line}" for line in confusion_lines(description)]
    found += metadata_lines(description)
    found += [decision_line(description), calibration_line(description), *curve_lines(description)]
    return [*found, *tuning_lines(description)]


def headline(description: Description) -> str:
    """Accuracy with its interval, in a sentence."""
    test, data = description["test"], description["data"]
    low, high = test["interval"]
    of = "of specimens never seen in training" if data["group"] else "that were not trained on"
    return (
        f"Accuracy ({description['taxonomy']['target']}): {percent(test['accuracy'])}, 95 % interval "
        f"{100 * low:.1f} to {100 * high:.1f} %, on {test['n']:,} photographs {of}."
    )


def confusion_lines(description: Description) -> list[str]:
    """ "weevil taken for beetle: 14 of 55"."""
    return [
        f"{c['truth']} taken for {c['taken_for']}: {c['n']} of {c['of']}"
        for c in description["test"]["confusions"]
    ]


def metadata_lines(description: Description) -> list[str]:
    """Which columns the model learned from, how often they are missing, and what they are worth."""
    if "metadata" not in description:
        return []
    held = description["metadata"]
    columns = Columns.from_plain(held["columns"])
    absent = [f"{name} {percent(share)}" for name, share in held["missing"].items() if share]
    alone = held["photographs_alone"]
    return [
        f"Metadata: {', '.join(columns.describe())}. "
        + (f"Missing in training: {', '.join(absent)}. " if absent else "")
        + f"The figures here are of photographs with them; the same photographs alone: {percent(alone['accuracy'])}, "
        f"balanced {percent(alone['balanced_accuracy'])}. A photograph without any of them is answered from the photograph alone."
    ]


def decision_line(description: Description) -> str:
    """What the default error rate does to the test photographs."""
    found = description["test"]["decisions"]
    low, high = found["wrong_interval"]
    ranks = ", ".join(f"{rank} {percent(share)}" for rank, share in found["ranks"].items() if share)
    if not found["decided"]:
        return (
            f"With --error-rate {description['defaults']['error_rate']:g} no test photograph is decided: there are too few "
            "validation photographs to promise it. Predict with a larger --error-rate, as 0.2, or train on more photographs."
        )
    return (
        f"With --error-rate {description['defaults']['error_rate']:g}: {percent(found['decided'])} of the test photographs are "
        f"decided{f' ({ranks})' if ranks else ''}; {percent(found['wrong'])} of these are wrong ({100 * low:.1f} to {100 * high:.1f} %); "
        f"{percent(found['unsure'])} unsure, {percent(found['refused'])} not recognised. Prediction sets hold the right class "
        f"for {percent(found['coverage'])} and have {found['set_size']:.2f} classes on average."
    )


def calibration_line(description: Description) -> str:
    test = description["test"]
    return (
        "Calibration error (ECE, the mean distance of a score from the share that is right): "
        f"{percent(test['ece_after'])} on the test photographs, {percent(test['ece_before'])} without the temperature of "
        f"{description['calibration']['temperature']:.2f}."
    )


def curve_lines(description: Description) -> list[str]:
    """Whether more photographs would help."""
    curve = description["learning_curve"]
    points = ", ".join(f"{percent(p['accuracy'])} with {p['per_class']:g} per class" for p in curve)
    gain = curve[-1]["accuracy"] - curve[-2]["accuracy"]
    last = curve[-1]["per_class"]
    if gain >= WORTH_IT:
        advice = (
            f"the last doubling gained {100 * gain:.1f} points, so going from {last:g} to {2 * last:g} per class should gain "
            "about as much or somewhat less"
        )
    else:
        advice = (
            "the last doubling gained little, so correcting labels will help more than adding photographs"
        )
    return [f"Learning curve of a simple classifier: {points}; {advice}."]


def tuning_lines(description: Description) -> list[str]:
    """What fine-tuning did, or would do."""
    done = description["training"]
    if description["kind"] != "pretrained":
        return []
    if "finetuned_steps" not in done:
        return [
            "The network's features were kept as published. Fine-tuning can gain a few points on cluttered photographs: "
            "pass --minutes 20 to try it."
        ]
    kept = "kept" if done["finetuned_kept"] else "not better, so the frozen features were kept"
    return [
        f"Fine-tuning ({done['finetuned_minutes']:g} minutes, {done['finetuned_epochs']:g} epochs) took validation accuracy from "
        f"{percent(done['frozen_val_accuracy'])} to {percent(done['finetuned_val_accuracy'])}: {kept}."
    ]


def card(description: Description) -> str:
    """README.md of the model folder: what it was trained on, what it must not be used for."""
    data, taxonomy = description["data"], description["taxonomy"]
    classes = "\n".join(f"| {name} | {n:,} |" for name, n in data["classes"].items())
    warned = "\n".join(f"- {line}" for line in description["warnings"]) or "- none"
    records = " --records RECORDS.csv" if "metadata" in description else ""
    learned = "".join(f"\n{line}\n" for line in metadata_lines(description))
    return f"""# A model that names {taxonomy["target"]} from photographs

{headline(description)}

{decision_line(description)}

## Use

    bionas predict . PHOTOGRAPHS --to ids.csv{records}

The answers are suggestions until a person has checked them. `reason` says why a photograph was not decided.

## Trained on

{data["photographs"]:,} photographs of the folder `{data["folder"]}` ({data["trained_on"]}), divided {data["divided"]}.
Network: {description["training"]["reason"]}.
{learned}
| {taxonomy["target"]} | photographs |
|---|---:|
{classes}

Data fingerprint: `{data["fingerprint"]}`

## Not for

- classes that are not in the table above: it can answer with these only. Photographs unlike those it was trained on are
  mostly refused, not always.
- photographs of another kind (another camera, trap, background or region) before it was tested on some of them.
- a decision on a quarantine pest, a protected species or a new record without a person who looks at the photograph.

## Warnings of the training

{warned}
"""


def page(description: Description, doubtful: pd.DataFrame) -> str:
    """report.html: one file, nothing is loaded from elsewhere."""
    test, target = description["test"], description["taxonomy"]["target"]
    said = lines(description)
    summary = [line for line in said if not line.startswith(("  ", "Per class"))]
    parts = [f"<h1>Model report: {_e(target)}</h1>", *(f"<p>{_e(line)}</p>" for line in summary)]
    parts += [f'<p class="warning">{_e(line)}</p>' for line in description["warnings"]]
    by_class = [
        [row["class"], f"{row['train']:,}", row["n"], percent(row["recall"]), percent(row["precision"])]
        for row in test["by_class"]
    ]
    parts += [
        "<h2>Classes</h2>",
        _table(["class", "trained on", "tested", "found", "right when named"], by_class),
    ]
    parts += [
        "<h2>Confusions</h2>",
        "<ul>",
        *(f"<li>{_e(x)}</li>" for x in confusion_lines(description)),
        "</ul>",
    ]
    rates = [
        [
            f"{row['error_rate']:g}",
            *(percent(row[k]) for k in ("decided", "wrong", "unsure", "refused", "coverage")),
        ]
        for row in test["curve"]
    ]
    head = [
        "--error-rate",
        "decided",
        "wrong among decided",
        "unsure",
        "not recognised",
        "sets with the truth",
    ]
    parts += ["<h2>Error rates</h2>", _table(head, rates)]
    parts += ["<h2>Reliability</h2>", reliability_svg(test["reliability"])]
    points = [
        [f"{p['photographs']:,}", f"{p['per_class']:g}", percent(p["accuracy"])]
        for p in description["learning_curve"]
    ]
    parts += ["<h2>Learning curve</h2>", _table(["photographs", "per class", "accuracy"], points)]
    if len(doubtful):
        rows = doubtful.head(SHOWN).to_numpy().tolist()
        parts += [
            f"<h2>Suspected wrong labels ({len(doubtful):,})</h2>",
            _table(list(doubtful.columns), rows),
        ]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Model report</title><style>{STYLE}</style>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


def reliability_svg(reliability: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Confidence against accuracy, before (hollow) and after (filled) calibration."""
    side, margin = 260, 40
    marks = []
    for name, style in (("before", 'fill="none" stroke="#0072b2"'), ("after", 'fill="#d55e00"')):
        for row in reliability[name]:
            if row["n"]:
                x, y = margin + side * row["confidence"], margin + side * (1 - row["accuracy"])
                radius = 2 + min(6.0, row["n"] ** 0.5 / 3)
                marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" {style}/>')
    far = margin + side
    return (
        f'<svg width="{side + 2 * margin}" height="{side + 2 * margin}" font-size="12" role="img" '
        'aria-label="reliability diagram">'
        f'<rect x="{margin}" y="{margin}" width="{side}" height="{side}" fill="none" stroke="#888"/>'
        f'<line x1="{margin}" y1="{far}" x2="{far}" y2="{margin}" stroke="#888" stroke-dasharray="4"/>{"".join(marks)}'
        f'<text x="{margin}" y="{far + 30}">confidence (0 to 1); hollow: before, filled: after calibration</text>'
        f'<text x="4" y="{margin - 10}">share that is right (0 to 1)</text></svg>'
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = "".join(f"<th>{_e(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{_e(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{body}</table>"


def _e(text: Any) -> str:
    return html.escape(str(text))
