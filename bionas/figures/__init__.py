"""Every figure of the project: plain data in, a plotly figure or an SVG drawing out.

Plotly figures: `collection` and `world` (specimens, records, splits, where they were collected), `search` (primitives,
the weights of a search), `performance` (a trained network), `evidence` (inputs and assumptions), `ablation` (Table I),
`sota` (Tables II to V), `companions` (SERAN and EB-LNAST). They take what the CSV files of a run hold, or arrays and
dicts, and round what they draw. `caption` is shown under the title and says where the data come from. `keep` writes a
figure into the README's folder.

SVG drawings, in `drawings`, have names that end in `_svg`: cells and genotypes, the mixed edge, Algorithm 1, fusions,
whole networks from a live model. They return a `Drawing`, which notebooks show as SVG and PNG.

Colours are those of `palette`.
"""

from bionas.figures.ablation import accuracy_against_cost, cost_clouds, gains, regret_curves, skip_courses
from bionas.figures.collection import (
    leakage_bars,
    long_tail,
    look_alikes,
    missingness,
    specimen_grid,
    split_schemes,
    split_sizes,
)
from bionas.figures.companions import (
    attention,
    colour_readings,
    error_curves,
    pareto,
    population_evolution,
    published_errors,
)
from bionas.figures.drawings.cells import cell_svg, genotype_svg
from bionas.figures.drawings.fusions import fusion_svg
from bionas.figures.drawings.method import algorithm_svg, mixed_edge_svg
from bionas.figures.drawings.networks import network_svg, seran_svg
from bionas.figures.drawings.svg import Drawing
from bionas.figures.evidence import (
    class_sizes,
    fields_taken_away,
    input_contributions,
    shuffled_inputs,
    turned_assumptions,
)
from bionas.figures.performance import comparison, confusion, reliability, roc_curves
from bionas.figures.search import (
    alpha_epochs,
    alpha_heatmap,
    alpha_trajectories,
    cost_bars,
    loss_curves,
    primitive_responses,
    skip_count,
)
from bionas.figures.searches import searches_compared
from bionas.figures.sheet import keep
from bionas.figures.sota import accuracy_against_macs, published_scores, with_and_without_metadata
from bionas.figures.stems import accuracy_against_milliseconds
from bionas.figures.world import collected_where

__all__ = [
    "Drawing",
    "accuracy_against_cost",
    "accuracy_against_macs",
    "accuracy_against_milliseconds",
    "algorithm_svg",
    "alpha_epochs",
    "alpha_heatmap",
    "alpha_trajectories",
    "attention",
    "cell_svg",
    "class_sizes",
    "collected_where",
    "colour_readings",
    "comparison",
    "confusion",
    "cost_bars",
    "cost_clouds",
    "error_curves",
    "fields_taken_away",
    "fusion_svg",
    "gains",
    "genotype_svg",
    "input_contributions",
    "keep",
    "leakage_bars",
    "long_tail",
    "look_alikes",
    "loss_curves",
    "missingness",
    "mixed_edge_svg",
    "network_svg",
    "pareto",
    "population_evolution",
    "primitive_responses",
    "published_errors",
    "published_scores",
    "regret_curves",
    "reliability",
    "roc_curves",
    "searches_compared",
    "seran_svg",
    "shuffled_inputs",
    "skip_count",
    "skip_courses",
    "specimen_grid",
    "split_schemes",
    "split_sizes",
    "turned_assumptions",
    "with_and_without_metadata",
]
