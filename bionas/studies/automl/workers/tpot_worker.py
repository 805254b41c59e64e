"""TPOT 1 (Ribeiro et al. 2024): pipelines of scikit-learn by genetic programming, over a table of features and metadata.

Scored on our validation split, not by cross-validation, and at the end fitted on the training split alone, as every other system.
"""

import numpy as np
from exchange import decided, left, serve, spread

SHARE = 0.85  # of the time for evolution; the rest fits the best pipeline


def fit(task, train, val):
    from sklearn.base import clone
    from sklearn.model_selection import PredefinedSplit
    from tpot import TPOTClassifier

    table = np.concatenate([joined(train), joined(val)])
    labels = np.concatenate([train["labels"], val["labels"]])
    minutes = SHARE * left(task) / 60
    sides = np.r_[np.full(len(train["labels"]), -1), np.zeros(len(val["labels"]))]
    system = TPOTClassifier(
        search_space="linear",
        scorers=["accuracy"],
        scorers_weights=[1],
        cv=PredefinedSplit(sides),
        max_time_mins=minutes,
        max_eval_time_mins=minutes / 4,
        n_jobs=task["threads"],
        random_state=task["seed"],
        verbose=3,
        population_size=20,
    )
    system.fit(table, labels)
    tried = system.evaluated_individuals
    scores = tried["accuracy_score"].astype(float)
    finished = scores.notna()
    pipeline = clone(system.fitted_pipeline_).fit(joined(train), train["labels"])
    right = float(np.mean(pipeline.predict(joined(val)) == val["labels"]))
    candidates = [
        {"index": i, "val_accuracy": None if np.isnan(score) else score, "generation": int(generation)}
        for i, (score, generation) in enumerate(zip(scores, tried["Generation"].fillna(-1)))
    ]
    said = {
        "chosen": {"pipeline": " > ".join(f"{type(step).__name__}" for _, step in pipeline.steps)},
        "candidates": candidates,
        "stopped": "out of time" if left(task) < (1 - SHARE) * task["seconds"] else "complete",
        "val_accuracy": right,
        "about": {"images_seen": int(finished.sum() + 1) * len(train["labels"])},
    }

    def predict(test):
        named = pipeline.predict(joined(test))
        if not hasattr(pipeline, "predict_proba"):
            return np.eye(task["n_classes"])[named]
        return decided(
            spread(pipeline.predict_proba(joined(test)), pipeline.classes_, task["n_classes"]), named
        )

    return predict, said


def joined(arrays):
    return np.concatenate([arrays["features"], arrays["metadata"]], axis=1)


if __name__ == "__main__":
    serve(fit)
