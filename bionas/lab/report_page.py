"""report.html of a model folder: one file, nothing is loaded from elsewhere. Everything is read from `model.json`."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bionas.lab import report
from bionas.lab.report import Description, percent

SHOWN = 30
"""Suspected labels that the page lists."""

STYLE = """
:root{--ink:#1f2933;--soft:#52606d;--line:#d9e2ec;--paper:#fff;--back:#f4f6f8;--blue:#0072b2;--red:#d55e00;--warn:#b45309;
--tint:#fff6ea}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9fb3c8;--line:#334155;--paper:#17202b;--back:#0f1720;
--blue:#56b4e9;--red:#f0a35e;--warn:#fbbf24;--tint:#2a2415}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;margin:0;color:var(--ink);background:var(--back)}
main{max-width:60rem;margin:0 auto;padding:1.5rem 1rem 3rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:0 0 .5rem}p{margin:.4rem 0}
.soft{color:var(--soft);font-size:.9rem}
section{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:1rem 1.2rem;margin:1rem 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(10.5rem,1fr));gap:.8rem;margin:1rem 0}
.tile{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:.7rem 1rem}
.tile b{display:block;font-size:1.7rem;line-height:1.2}.tile.main b{color:var(--blue)}
.warnings{background:var(--tint);border-left:4px solid var(--warn)}.warnings li{margin:.4rem 0}
ul{margin:.3rem 0;padding-left:1.2rem}.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th{font-weight:600;color:var(--soft);font-size:.85rem;vertical-align:bottom;white-space:normal}
td:first-child,th:first-child{text-align:left;padding-left:0}th.name,td.name{white-space:normal;text-align:left;min-width:7.5rem}
.bar{background:linear-gradient(to right,color-mix(in srgb,var(--blue) 26%,transparent) var(--share),transparent var(--share));
border-radius:3px;padding:0 .3rem;display:inline-block;min-width:6.5rem;text-align:left}
tr.asked td{font-weight:600}.pair{display:flex;flex-wrap:wrap;gap:1rem}.pair>section{flex:1 1 19rem;margin:0}
svg{width:100%;height:auto;max-width:26rem;display:block}svg text{fill:var(--soft);font:12px system-ui,sans-serif}
code{font-size:.9em;overflow-wrap:anywhere}
"""


def page(description: Description, doubtful: pd.DataFrame) -> str:
    """The page; `doubtful`: suspected labels as `checks.suspected_labels` gives them."""
    target, data = description["taxonomy"]["target"], description["data"]
    parts = [
        f"<h1>{_e(target.capitalize())} from photographs: how good this model is</h1>",
        f'<p class="soft">{data["photographs"]:,} photographs of <code>{_e(data["folder"])}</code>, divided '
        f"{_e(data['divided'])}; trained on {_e(data['trained_on'])}. Network: {_e(description['training']['reason'])}.</p>",
        _tiles(description),
        _warnings(description["warnings"]),
        _section("In short", _paragraphs(_summary(description))),
        _section("Classes", _classes(description)),
        _section("What is taken for what", _confusions(description)),
        _section("Asking for fewer errors, or for more answers", _rates(description)),
        '<div class="pair">'
        + _section("Would more photographs help?", _curve(description))
        + _section("Can the scores be trusted?", _reliability(description))
        + "</div>",
        _suspected(doubtful),
        _alike(data.get("alike")),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Model report: {_e(target)}</title><style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main></body></html>\n"
    )


def _tiles(description: Description) -> str:
    test = description["test"]
    found, (low, high) = test["decisions"], test["interval"]
    rate = description["defaults"]["error_rate"]
    tiles = [
        (percent(test["accuracy"]), f"named right of {test['n']:,} test photographs; 95 % interval "
         f"{100 * low:.1f} to {100 * high:.1f} %"),
        (percent(test["balanced_accuracy"]), "mean over the classes (balanced accuracy)"),
        (percent(test["majority_accuracy"]), f"by always answering {test['majority_class']}, the commonest class"),
        (percent(found["decided"]), f"decided when at most {percent(rate)} of the answers may be wrong"),
        (percent(found["wrong"]), f"of the {found['decided_n']:,} decided answers are wrong"),
    ]  # fmt: skip
    cells = "".join(
        f'<div class="tile{" main" if i == 0 else ""}"><b>{_e(value)}</b><span class="soft">{_e(text)}</span></div>'
        for i, (value, text) in enumerate(tiles)
    )
    return f'<div class="tiles">{cells}</div>'


def _summary(description: Description) -> list[str]:
    return [
        report.headline(description),
        *report.rank_lines(description),
        *report.metadata_lines(description),
        report.decision_line(description),
        *report.tuning_lines(description),
    ]


def _warnings(warned: Sequence[str]) -> str:
    if not warned:
        return ""
    items = "".join(f'<li class="warning">{_e(line[:1].upper() + line[1:])}</li>' for line in warned)
    return f'<section class="warnings"><h2>Before you rely on it</h2><ul>{items}</ul></section>'


def _classes(description: Description) -> str:
    rows = sorted(description["test"]["by_class"], key=lambda row: -row["train"])
    cells = [
        [
            _e(row["class"]),
            f"{row['train']:,}",
            f"{row['n']:,}",
            _bar(row["recall"]),
            _bar(row["precision"]),
        ]
        for row in rows
    ]
    head = ["class", "trained on", "tested", "its photographs named right", "its answers right"]
    return _table(head, cells)


def _confusions(description: Description) -> str:
    lines = report.confusion_lines(description)
    if not lines:
        return "<p>No test photograph is taken for another class.</p>"
    return "<ul>" + "".join(f"<li>{_e(line)}</li>" for line in lines) + "</ul>"


def _rates(description: Description) -> str:
    asked = description["defaults"]["error_rate"]
    columns = ("decided", "wrong", "unsure", "refused", "coverage")
    rows = [
        [f"{row['error_rate']:g}", *(percent(row[name]) for name in columns)]
        for row in description["test"]["curve"]
    ]
    head = [
        "--error-rate",
        "decided",
        "wrong among the decided",
        "unsure",
        "not recognised",
        "right class is in the set",
    ]
    marked = [row["error_rate"] == asked for row in description["test"]["curve"]]
    return (
        "<p>A photograph is decided where its score is high enough for the error rate you ask for, at the finest rank that "
        "is. Figures are of the test photographs; the default of this model is bold.</p>"
        + _table(head, rows, marked, names=0)
    )


def _curve(description: Description) -> str:
    points = description["learning_curve"]
    line = report.curve_lines(description)[0]
    return _learning_svg(points) + f"<p>{_e(line)}</p>"


def _reliability(description: Description) -> str:
    return (
        reliability_svg(description["test"]["reliability"])
        + f"<p>{_e(report.calibration_line(description))}</p>"
    )


def _suspected(doubtful: pd.DataFrame) -> str:
    if not len(doubtful):
        return _section("Suspected wrong labels", "<p>None.</p>")
    rows = [
        [f"<code>{_e(row.file)}</code>", _e(row.label), _e(row.suggested), f"{row.quality:.2f}"]
        for row in doubtful.head(SHOWN).itertuples()
    ]
    shown = f"The {SHOWN} most doubtful of them" if len(doubtful) > SHOWN else "All of them"
    return _section(
        f"Suspected wrong labels ({len(doubtful):,})",
        f"<p>Classifiers that did not see a photograph contradict its label (cleanlab). {shown}; <code>suspected_labels.csv</code> "
        "has the list. Low quality is doubtful.</p>"
        + _table(["photograph", "label", "suggested", "quality"], rows, names=3),
    )


def _alike(alike: Mapping[str, Any] | None) -> str:
    if alike is None or not alike["groups"]:
        return ""
    items = []
    for group in alike["largest"]:
        files, others = group["files"], group["n"] - len(group["files"])
        more = f" and {others:,} more" if others else ""
        items.append(f"<li>{', '.join(f'<code>{_e(name)}</code>' for name in files)}{more}</li>")
    return _section(
        f"Nearly identical photographs ({alike['photographs']:,} in {alike['groups']:,} groups)",
        "<p>Where they show one specimen, they must not be on both sides of the division: "
        "<code>--group lookalikes</code> keeps each group together. The largest groups:</p>"
        f"<ul>{''.join(items)}</ul>",
    )


def _learning_svg(points: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy (0 to 1) over photographs per class, on an axis of doublings."""
    width, height, left, bottom = 320, 200, 44, 40
    steps = (width - left - 40) / max(len(points) - 1, 1)
    low = max(0.0, min(p["accuracy"] for p in points) - 0.1)

    def place(i: int, accuracy: float) -> tuple[float, float]:
        return left + 20 + i * steps, 16 + (1 - accuracy) / (1 - low + 1e-9) * (height - bottom - 16)

    spots = [place(i, p["accuracy"]) for i, p in enumerate(points)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="var(--blue)"/>'
        f'<text x="{x:.1f}" y="{y - 9:.1f}" text-anchor="middle">{percent(p["accuracy"])}</text>'
        f'<text x="{x:.1f}" y="{height - bottom + 16}" text-anchor="middle">{p["per_class"]:g}</text>'
        for (x, y), p in zip(spots, points)
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="learning curve">'
        f'<line x1="{left}" y1="{height - bottom}" x2="{width}" y2="{height - bottom}" stroke="var(--soft)"/>'
        f'<polyline points="{path}" fill="none" stroke="var(--blue)" stroke-width="2"/>{marks}'
        f'<text x="{width / 2:.0f}" y="{height - 6}" text-anchor="middle">photographs per class; test accuracy</text></svg>'
    )


def reliability_svg(reliability: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Confidence against accuracy, before (hollow) and after (filled) calibration."""
    side, margin = 220, 44
    marks = []
    for name, style in (("before", 'fill="none" stroke="var(--blue)"'), ("after", 'fill="var(--red)"')):
        for row in reliability[name]:
            if row["n"]:
                x, y = margin + side * row["confidence"], 20 + side * (1 - row["accuracy"])
                radius = 2 + min(6.0, row["n"] ** 0.5 / 3)
                marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" {style}/>')
    far = margin + side
    return (
        f'<svg viewBox="0 0 {side + 2 * margin} {side + 72}" role="img" aria-label="reliability diagram">'
        f'<rect x="{margin}" y="20" width="{side}" height="{side}" fill="none" stroke="var(--soft)"/>'
        f'<line x1="{margin}" y1="{side + 20}" x2="{far}" y2="20" stroke="var(--line)" stroke-dasharray="4"/>{"".join(marks)}'
        f'<text x="{margin}" y="{side + 38}">0</text><text x="{far}" y="{side + 38}" text-anchor="end">1</text>'
        f'<text x="{margin + side / 2}" y="{side + 38}" text-anchor="middle">score</text>'
        f'<text x="{margin + side / 2}" y="{side + 60}" text-anchor="middle">hollow: before, filled: after calibration</text>'
        f'<text x="{margin - 6}" y="30" text-anchor="end">1</text><text x="{margin}" y="12">share that is right</text></svg>'
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{_e(title)}</h2>{content}</section>"


def _paragraphs(lines: Sequence[str]) -> str:
    return "".join(f"<p>{_e(line)}</p>" for line in lines)


def _bar(share: float | None) -> str:
    if share is None:
        return "-"
    return f'<span class="bar" style="--share:{100 * share:.0f}%">{percent(share)}</span>'


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[bool] = (), names: int = 1
) -> str:
    """Cells are HTML; the first `names` columns are text, which may wrap."""
    top = "".join(f"<th{' class=name' if j < names else ''}>{_e(name)}</th>" for j, name in enumerate(head))
    body = "".join(
        f"<tr{' class=asked' if i < len(marked) and marked[i] else ''}>"
        + "".join(
            f'<td class="name">{cell}</td>' if j < names else f"<td>{cell}</td>" for j, cell in enumerate(row)
        )
        + "</tr>"
        for i, row in enumerate(rows)
    )
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'


def _e(text: Any) -> str:
    """Escaped, with a space before % that does not break the line."""
    return html.escape(str(text)).replace(" %", "&nbsp;%")
