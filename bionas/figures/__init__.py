"""Every figure of the project: plain data in, a plotly figure out.

`collection` draws specimens, their records and splits, `world` where they were caught; `search` the primitives and what
a search does to their weights; `results` what a trained network is worth, `evidence` what it owes to which input and
which choice, `ablation` Table I, `sota` where it stands among others (Tables II to V), `companions` what
SERAN and EB-LNAST came to. Functions take what the CSV files of a run hold (or arrays and dicts), touch no network and no
trainer, and round what they draw. A `caption` is shown under the title: it says where the data come from. Colours are
those of `palette`. `keep` puts one into the README's folder.
"""

from bionas.figures.ablation import accuracy_against_cost, cost_clouds, gains, regret_curves, skip_courses
from bionas.figures.collection import (
    leakage_bars,
    long_tail,
    missingness,
    specimen_grid,
    split_schemes,
    split_sizes,
)
from bionas.figures.companions import (
    attention,
    colour_readings,
    pareto,
    population_evolution,
    published_errors,
)
from bionas.figures.evidence import (
    class_sizes,
    fields_taken_away,
    input_contributions,
    shuffled_inputs,
    turned_assumptions,
)
from bionas.figures.results import comparison, confusion, reliability, roc_curves
from bionas.figures.search import (
    alpha_heatmap,
    alpha_trajectories,
    cost_bars,
    loss_curves,
    primitive_responses,
    skip_count,
)
from bionas.figures.sheet import keep
from bionas.figures.sota import accuracy_against_macs, published_scores, with_and_without_metadata
from bionas.figures.world import collected_where

__all__ = [
    "accuracy_against_cost",
    "accuracy_against_macs",
    "alpha_heatmap",
    "alpha_trajectories",
    "attention",
    "class_sizes",
    "collected_where",
    "colour_readings",
    "comparison",
    "confusion",
    "cost_bars",
    "cost_clouds",
    "fields_taken_away",
    "gains",
    "input_contributions",
    "keep",
    "leakage_bars",
    "long_tail",
    "loss_curves",
    "missingness",
    "pareto",
    "population_evolution",
    "primitive_responses",
    "published_errors",
    "published_scores",
    "regret_curves",
    "reliability",
    "roc_curves",
    "shuffled_inputs",
    "skip_count",
    "skip_courses",
    "specimen_grid",
    "split_schemes",
    "split_sizes",
    "turned_assumptions",
    "with_and_without_metadata",
]
