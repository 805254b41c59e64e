"""EB-LNAST: evolutionary bi-level neural architecture search with training, for small classifiers.

Of the paper (Gomez-Ortega et al., Scientific Reports 2025, doi 10.1038/s41598-025-22538-6) the abstract alone was
available: two levels, what each searches, the tasks, the kinds of comparators and four claims are its; every formula,
range, setting and grid is ours, declared where it stands.

    space.py        what is searched                      evolution.py      differential evolution
    search.py       the upper level                       lower.py          the lower level, by gradients or evolution
    population.py   whole populations in one computation  tasks.py          WDBC and colours
    comparators.py  everything it is compared with        tuning.py         the MLP tuned by Optuna
    study.py        repeated nested cross-validation      significance.py   Wilcoxon and Holm
    fields.py       the metadata encoder of Eq. 10, searched
"""

from bionas.studies.eb_lnast.comparators import MODELS, Budget
from bionas.studies.eb_lnast.evolution import Evolution, minimise
from bionas.studies.eb_lnast.lower import EvolutionLevel, GradientLevel
from bionas.studies.eb_lnast.population import Population, Training, train
from bionas.studies.eb_lnast.search import Found, search
from bionas.studies.eb_lnast.space import ACTIVATIONS, Architecture, LayerSpace
from bionas.studies.eb_lnast.study import Study, claims, measured, summary
from bionas.studies.eb_lnast.tasks import TASKS, TabularTask

__all__ = [
    "ACTIVATIONS",
    "MODELS",
    "TASKS",
    "Architecture",
    "Budget",
    "Evolution",
    "EvolutionLevel",
    "Found",
    "GradientLevel",
    "LayerSpace",
    "Population",
    "Study",
    "TabularTask",
    "Training",
    "claims",
    "measured",
    "minimise",
    "search",
    "summary",
    "train",
]
