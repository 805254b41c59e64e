"""An HTML page of a folder of runs: metrics, curves, confusion and genotype of each, for `bionas runs --open`.

The page stands alone (plotly's script is inside), so it can be sent or kept.
"""

from __future__ import annotations

import html
from pathlib import Path

from plotly.offline import get_plotlyjs

from bionas import figures
from bionas.cli import summary
from bionas.system import files, places
from bionas.training.evaluation import read_evaluation
from bionas.training.runs import Run

STYLE = """body { font-family: system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222; }
h2 { margin-top: 2.5em; border-top: 1px solid #ccc; padding-top: 1em; font-size: 1.1em; }
table { border-collapse: collapse; } td, th { padding: 0.2em 0.8em 0.2em 0; text-align: left; vertical-align: top; }
svg { max-width: 100%; height: auto; }"""


def write(run_dir: Path) -> Path:
    """Write index.html into a folder of runs, and return its path."""
    page = run_dir / "index.html"
    files.write_text(page, document(run_dir))
    return page


def document(run_dir: Path) -> str:
    """The page as text: a table of all runs, and a section for each that has a history."""
    rows = summary.rows(run_dir)
    sections = [_section(row, i) for i, row in enumerate(rows)]
    title = html.escape(f"Runs in {places.shown(run_dir)}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"<script>{get_plotlyjs()}</script></head>"
        f"<body><h1>{title}</h1>\n{_overview(rows)}\n{''.join(sections)}</body></html>\n"
    )


def _overview(rows: list[dict]) -> str:
    if not rows:
        return "<p>No runs.</p>"
    cells = [
        f'<tr><td><a href="#run{i}">{html.escape(row["run"])}</a></td><td>{html.escape(row["differs"])}</td>'
        f"<td>{html.escape(summary.percentages(row['metrics']) or ('complete' if row['complete'] else 'not complete'))}</td></tr>"
        for i, row in enumerate(rows)
    ]
    return f"<table><tr><th>run</th><th>differs in</th><th>result</th></tr>{''.join(cells)}</table>"


def _section(row: dict, number: int) -> str:
    folder, caption = Path(row["folder"]), row["run"]
    parts = [f'<h2 id="run{number}">{html.escape(caption)}</h2>']
    charts = []
    if (folder / "history.csv").exists():
        charts.append(figures.loss_curves(Run(folder).history, caption))
    if (folder / "metrics.json").exists() and (folder / "confusion.csv").exists():
        evaluation = read_evaluation(folder)
        charts.append(figures.confusion(evaluation.confusion, evaluation.class_names, caption=caption))
        parts += [f"<p>{html.escape(note)}</p>" for note in evaluation.notes]
    parts += [chart.to_html(full_html=False, include_plotlyjs=False) for chart in charts]
    if (folder / "genotype.json").exists() and not (folder / "alphas.csv").exists():
        parts.append(Run(folder).genotype.to_svg())
    return "\n".join(parts)
