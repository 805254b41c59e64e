"""What EB-LNAST is compared with, each behind one function (abstract: "traditional machine learning algorithms", MLPs
"when the architecture is fixed", "MLPs optimized with extensive hyperparameter tuning, including architecture,
activation functions, regularization, and optimizers").

A model is a function `(x, y, budget, seed) -> Fitted`, registered in `MODELS`; it scales and chooses by itself, on
the rows it is given and no others. Which algorithms, grids and fixed sizes the paper used is not in its abstract: ours
are here. Choices are made on the same inner folds for all.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor, nn

from bionas.errors import SearchError
from bionas.registry import Registry
from bionas.studies.eb_lnast.evolution import Evolution
from bionas.studies.eb_lnast.lower import (
    INNER_FOLDS,
    OF_WEIGHTS,
    STARTS,
    EvolutionLevel,
    GradientLevel,
    evolvable,
)
from bionas.studies.eb_lnast.population import Training
from bionas.studies.eb_lnast.search import PENALTY, LowerLevel, search
from bionas.studies.eb_lnast.space import LayerSpace
from bionas.studies.eb_lnast.tuning import tuned

MODELS: Registry = Registry("model")

OURS = "eb_lnast"
TUNED = "mlp_tuned"
KEPT, GD = "eb_lnast_kept", "eb_lnast_gd"
VARIANTS = (KEPT, GD)
"""Other readings of EB-LNAST; not among the models of a study unless they are asked for."""

FIXED = ("mlp_16", "mlp_100", "mlp_64_64")
TRADITIONAL = (
    "logistic_regression",
    "naive_bayes",
    "knn",
    "svm",
    "decision_tree",
    "random_forest",
    "boosting",
)
"""MLPs "when the architecture is fixed" and "traditional machine learning algorithms" (abstract), as registered below."""

GD_RATE = 0.2
"""Of plain gradient descent, ours: on WDBC 0.1 trains sigmoids too slowly and 4 diverges."""


@dataclass(frozen=True)
class Budget:
    """What each side may spend on one training part.

    Attributes:
        space, evolution, training, penalty: of EB-LNAST.
        lower: "gradient" or "evolution", how EB-LNAST's lower level finds weights.
        weights: the settings of the latter.
        trials: of Optuna for the tuned MLP.
        starts: of the final training, of EB-LNAST's network by gradients and of the tuned MLP (`GradientLevel.final`).
        trees, epochs: of forest and boosting; of the MLPs of fixed architecture at most.
    """

    space: LayerSpace = field(default_factory=LayerSpace)
    evolution: Evolution = field(default_factory=Evolution)
    training: Training = field(default_factory=Training)
    penalty: float = PENALTY
    lower: str = "gradient"
    weights: Evolution = OF_WEIGHTS
    trials: int = 40
    starts: int = STARTS
    trees: int = 100
    epochs: int = 300

    def __post_init__(self) -> None:
        if self.lower not in ("gradient", "evolution"):
            raise SearchError(f"lower={self.lower!r}: weights are found by 'gradient' or by 'evolution'.")
        if min(self.trials, self.starts, self.trees, self.epochs) < 1:
            raise SearchError("trials, starts, trees and epochs must be 1 or more.")


@dataclass(frozen=True)
class Fitted:
    """A model after training.

    Attributes:
        predict: (N, D) features as they were given -> (N,) labels.
        parameters: numbers that it keeps in order to predict, scaling not counted (see `numbers_kept`).
        choice: what it chose, in words.
        candidates: how many it chose among (architectures or settings that were trained).
        history: of a search, else empty.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    parameters: int
    choice: str
    candidates: int = 1
    history: pd.DataFrame = field(default_factory=pd.DataFrame)


def fit(name: str, x: np.ndarray, y: np.ndarray, budget: Budget, seed: int) -> Fitted:
    """A registered model, trained on (x, y). Warnings of networks that used up their epochs are not shown.

    Raises:
        UnknownName: no such model.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return MODELS[name](x, y, budget, seed)


@MODELS.register("majority")
def majority(x: np.ndarray, y: np.ndarray, budget: Budget, seed: int) -> Fitted:
    """Always the commonest class: what everything else must beat."""
    return _alone(DummyClassifier(strategy="most_frequent").fit(x, y))


@MODELS.register(OURS)
def eb_lnast(x: np.ndarray, y: np.ndarray, budget: Budget, seed: int) -> Fitted:
    """The search of `search`; the architecture found is trained again on everything, from several starts."""
    return _searched(x, y, budget, seed, keep=False)


@MODELS.register(KEPT)
def eb_lnast_kept(x: np.ndarray, y: np.ndarray, budget: Budget, seed: int) -> Fitted:
    """The same search; the weights with which the architecture was judged are kept ("simultaneously optimizes").

    Raises:
        SearchError: weights are found by evolution.
    """
    if budget.lower != "gradient":
        raise SearchError(
            f"{KEPT} keeps the weights of a gradient training. Use --lower gradient, or another model."
        )
    return _searched(x, y, budget, seed, keep=True)


@MODELS.register(GD)
def eb_lnast_gd(x: np.ndarray, y: np.ndarray, budget: Budget, seed: int) -> Fitted:
    """As `eb_lnast_kept`, with what the index terms "DBB-GD" and "GD" may stand for: DE/best/1/bin above, plain gradient
    descent below (all rows in each step, no momentum).

    Raises:
        SearchError: weights are found by evolution.
    """
    plain = dataclasses.replace(budget.training, optimizer="gd", learning_rate=GD_RATE, batch_size=None)
    best = dataclasses.replace(budget.evolution, variant="best/1/bin")
    return eb_lnast_kept(x, y, dataclasses.replace(budget, training=plain, evolution=best), seed)


def _searched(x: np.ndarray, y: np.ndarray, budget: Budget, seed: int, keep: bool) -> Fitted:
    """The search; features are standardised over the training part once, for its inner folds too."""
    scaler, rows, labels, n_classes = _standardised(x, y)
    space = budget.space
    if budget.lower == "gradient":
        lower: LowerLevel = GradientLevel(
            rows, labels, n_classes, budget.training, seed, starts=budget.starts, keep=keep
        )
    else:
        lower = EvolutionLevel(rows, labels, n_classes, budget.weights, seed)
        space = evolvable(space, lower)
    found = search(space, lower, budget.evolution, seed, penalty=budget.penalty)
    predict = _predicting(found.network, scaler)
    return Fitted(predict, found.parameters, str(found.architecture), found.trained, found.history)


@MODELS.register("logistic_regression")
def logistic_regression(x: np.ndarray, y: np.ndarray, budget: Budget, seed: int) -> Fitted:
    return _chosen(LogisticRegression(max_iter=2000), {"C": [0.01, 0.1, 1, 10, 100]}, x, y, seed)


@MODELS.register("naive_bayes")
def naive_bayes(x: np.ndarray, y: np.ndarray, budget: Budget, seed: int) -> Fitted:
    return _chosen(GaussianNB(), {"var_smoothing": [1e-9, 1e-6, 1e-3, 1e-1]}, x, y, seed)


@MODELS.register("knn")
def knn(x: np.ndarray, y: np.ndarray, budget: Budget, seed: int) -> Fitted:
    grid = {"n_neighbors": [1, 3, 5, 9, 15], "weights": ["uniform", "distance"]}
    return _chosen(KNeighborsClassifier(), grid, x, y, seed)


@MODELS.register("svm")
def svm(x: np.ndarray, y: np.ndarray, budget: Budget, seed: int) -> Fitted:
    linear = {"kernel": ["linear"], "C": [0.1, 1, 10]}
    grid = [linear, {"kernel": ["rbf"], "C": [1, 10, 100], "gamma": ["scale", 0.01, 0.1]}]
    return _chosen(SVC(), grid, x, y, seed)


@MODELS.register("decision_tree")
def decision_tree(x: np.ndarray, y: np.ndarray, budget: Budget, seed: int) -> Fitted:
    grid = {"max_depth": [3, 5, 10, None], "min_samples_leaf": [1, 5]}
    return _chosen(DecisionTreeClassifier(random_state=seed), grid, x, y, seed)


@MODELS.register("random_forest")
def random_forest(x: np.ndarray, y: np.ndarray, budget: Budget, seed: int) -> Fitted:
    grid = {"max_features": ["sqrt", 0.5], "min_samples_leaf": [1, 3]}
    return _chosen(RandomForestClassifier(budget.trees, random_state=seed), grid, x, y, seed)


@MODELS.register("boosting")
def boosting(x: np.ndarray, y: np.ndarray, budget: Budget, seed: int) -> Fitted:
    grid = {"learning_rate": [0.05, 0.2], "max_depth": [2, 3]}
    return _chosen(GradientBoostingClassifier(n_estimators=budget.trees, random_state=seed), grid, x, y, seed)


@MODELS.register("mlp_16")
def mlp_small(x: np.ndarray, y: np.ndarray, budget: Budget, seed: int) -> Fitted:
    """One hidden layer of 16, nothing chosen."""
    return _fixed((16,), x, y, budget, seed)


@MODELS.register("mlp_100")
def mlp_default(x: np.ndarray, y: np.ndarray, budget: Budget, seed: int) -> Fitted:
    """One hidden layer of 100, scikit-learn's own default."""
    return _fixed((100,), x, y, budget, seed)


@MODELS.register("mlp_64_64")
def mlp_deep(x: np.ndarray, y: np.ndarray, budget: Budget, seed: int) -> Fitted:
    """Two hidden layers of 64."""
    return _fixed((64, 64), x, y, budget, seed)


@MODELS.register(TUNED)
def mlp_tuned(x: np.ndarray, y: np.ndarray, budget: Budget, seed: int) -> Fitted:
    """An MLP tuned by Optuna (`tuning.tuned`), standardised as for EB-LNAST and trained by the same code.

    Raises:
        BionasError: Optuna is not installed.
    """
    scaler, rows, labels, n_classes = _standardised(x, y)
    found = tuned(rows, labels, n_classes, budget.trials, seed, budget.starts)
    return Fitted(_predicting(found.network, scaler), found.parameters, found.choice, budget.trials)


def numbers_kept(model: BaseEstimator) -> int:
    """How many numbers a fitted scikit-learn model needs to predict: what "model size" is counted in here.

    Weights and biases of networks and logistic regression; means, variances and priors; the training rows of k-NN with
    their labels; support vectors with their coefficients; feature and threshold of each inner node of a tree and one
    number (or one a class) for each leaf.
    """
    match model:
        case DummyClassifier():
            return 1
        case LogisticRegression():
            return model.coef_.size + model.intercept_.size
        case GaussianNB():
            return model.theta_.size + model.var_.size + model.class_prior_.size
        case KNeighborsClassifier():
            return model._fit_X.size + len(model._y)
        case SVC():
            return model.support_vectors_.size + model.dual_coef_.size + model.intercept_.size
        case DecisionTreeClassifier():
            return _of_tree(model.tree_)
        case RandomForestClassifier():
            return sum(_of_tree(tree.tree_) for tree in model.estimators_)
        case GradientBoostingClassifier():
            return sum(_of_tree(tree.tree_) for tree in model.estimators_.ravel())
        case MLPClassifier():
            return sum(part.size for part in (*model.coefs_, *model.intercepts_))
    raise TypeError(f"{type(model).__name__}: it is not said what its size is")


def _of_tree(tree: Any) -> int:
    leaves = int((tree.children_left == -1).sum())
    return 2 * (tree.node_count - leaves) + leaves * tree.value.shape[2]


def _standardised(x: np.ndarray, y: np.ndarray) -> tuple[StandardScaler, Tensor, Tensor, int]:
    """(scaler, rows (N, D) float32, labels (N,), number of classes) of a training part."""
    scaler = StandardScaler().fit(x)
    return scaler, torch.tensor(scaler.transform(x), dtype=torch.float32), torch.tensor(y), int(y.max()) + 1


def _predicting(network: nn.Module, scaler: StandardScaler) -> Callable[[np.ndarray], np.ndarray]:
    @torch.no_grad()
    def predict(features: np.ndarray) -> np.ndarray:
        return network(torch.tensor(scaler.transform(features), dtype=torch.float32)).argmax(dim=1).numpy()

    return predict


def _inner_folds(seed: int) -> StratifiedKFold:
    return StratifiedKFold(INNER_FOLDS, shuffle=True, random_state=seed)


def _chosen(model: BaseEstimator, grid: Any, x: np.ndarray, y: np.ndarray, seed: int) -> Fitted:
    """The best of a grid by mean accuracy over the inner folds, fitted again on everything."""
    parts = [grid] if isinstance(grid, dict) else grid
    grids = [{f"model__{name}": values for name, values in part.items()} for part in parts]
    pipeline = Pipeline([("scale", StandardScaler()), ("model", model)])
    best = GridSearchCV(pipeline, grids, cv=_inner_folds(seed)).fit(x, y)
    choice = _said({name.removeprefix("model__"): value for name, value in best.best_params_.items()})
    return Fitted(
        best.predict, numbers_kept(best.best_estimator_["model"]), choice, len(best.cv_results_["params"])
    )


def _fixed(neurons: tuple[int, ...], x: np.ndarray, y: np.ndarray, budget: Budget, seed: int) -> Fitted:
    network = MLPClassifier(neurons, max_iter=budget.epochs, random_state=seed)
    return _alone(make_pipeline(StandardScaler(), network).fit(x, y))


def _alone(model: BaseEstimator) -> Fitted:
    return Fitted(model.predict, numbers_kept(model[-1] if isinstance(model, Pipeline) else model), "-")


def _said(choice: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in choice.items())
