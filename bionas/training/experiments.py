"""Experiments: a `Plan` holds every choice, and each function here makes a run folder from it.

    plan(mode, ...) -> Plan            search(plan) -> Run            retrain(plan, genotype) -> Run
    random_controls(plan) -> [Run]     baseline(plan, name, inputs) -> Run
    metadata_alone(plan) -> Run        companion(plan, build, name, config) -> Run

A finished run is returned at once, an interrupted one is resumed. A run folder's name carries a hash of its choices, its
data and the versions of the subsystems that decide its numbers, so that two configurations never share one. The test
split is read once, when a run is complete.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from bionas.errors import BaselineError, CheckpointError, Interrupted, SpecimenError, UnknownName
from bionas.genotype import Genotype
from bionas.network import SearchNetwork
from bionas.specimens.collection import Splits
from bionas.specimens.leakage import warning
from bionas.specimens.metadata import usable_presets
from bionas.studies.backbones import BASELINES, slug
from bionas.system import files
from bionas.system.processors import set_threads
from bionas.system.progress import announce, counted, training
from bionas.training import data, distributed, evaluation, versions
from bionas.training.configuration import MODES, Plan, plan
from bionas.training.cost import cost
from bionas.training.estimate import what_it_takes
from bionas.training.fitting import Fit, Search
from bionas.training.loop import Trainer, predict
from bionas.training.recipe import FitConfig, SearchConfig
from bionas.training.runs import Run

__all__ = [
    "INPUTS",
    "MODES",
    "Plan",
    "baseline",
    "companion",
    "metadata_alone",
    "plan",
    "random_controls",
    "random_genotype",
    "random_genotypes",
    "retrain",
    "retrain_run",
    "search",
    "search_run",
]

DERIVED = "derived"
"""Role of the derived network that is trained from scratch: the headline run of a plan."""


def search(plan: Plan) -> Run:
    """Search (Algorithm 1): alphas.csv, history.csv, genotype.json and the supernet's weights in checkpoint/.

    Raises:
        SpecimenError: the source has no photographs.
        Interrupted: it was stopped; the message says after which epoch.
    """
    _require_images(plan)
    config, description, run = _search_identity(plan)
    if run.complete:
        return run
    set_threads()
    _say_what_it_takes(plan, "search", run)
    announce("search", config.epochs)
    train, val, _ = splits = plan.training_splits()
    trainer = Search(plan.supernet(), train, val, plan.encoding(), config, run, description).prepare()
    report_leakage(trainer.encoding.fields, splits, run)
    _train(trainer)
    found = {
        "derived_from_epoch": trainer.derived_epoch,
        "stopped": trainer.stopped,
        "theta_reach": trainer.theta_reach,
    }
    run.finish(_summary(run) | found)
    return run


def _say_what_it_takes(plan: Plan, phase: str, run: Run) -> None:
    """Before the first epoch of a run of mode `full`: images, disk and hours, and how to make it smaller."""
    if plan.mode == "full" and distributed.first() and not run.checkpoint_path.exists():
        print(what_it_takes(plan, phase), flush=True)


def search_run(plan: Plan) -> Run:
    """The run folder of the plan's search, whether or not it has begun."""
    return _search_identity(plan)[2]


def _search_identity(plan: Plan) -> tuple[SearchConfig, dict[str, Any], Run]:
    config = plan.search_config()
    description = plan.describe(versions.SEARCHED, role="search", primitive_set=plan.primitive_set)
    return config, description, plan.run("search", config, description)


def retrain(plan: Plan, genotype: Genotype, name: str = DERIVED, inherit: Run | None = None) -> Run:
    """Train the network of a genotype and evaluate it on the test split.

    Args:
        name: of the run folder.
        inherit: a finished search whose supernet weights it starts from; from scratch without one. Then done.json
            also says how the inherited weights did on validation before any training.

    Raises:
        GenotypeError: the genotype is of another primitive set or depth than the plan.
        CheckpointError: `inherit` is not finished, or searched another supernet than the plan's.
    """

    _require_images(plan)
    return _fit(plan, _retraining(plan, genotype, name, inherit))


def retrain_run(plan: Plan, genotype: Genotype, name: str = "derived", inherit: Run | None = None) -> Run:
    """The run folder of `retrain` with the same arguments, whether or not it has begun."""
    return _identity(plan, _retraining(plan, genotype, name, inherit))[2]


def _retraining(plan: Plan, genotype: Genotype, name: str, inherit: Run | None) -> Job:
    def build() -> nn.Module:
        network = plan.derived(genotype)
        if inherit is not None:
            network.inherit(_searched(plan, inherit))
        return network

    identity = {
        "genotype": json.loads(genotype.to_json()),
        "inherit": inherit and inherit.path.name,
        "network": dataclasses.asdict(plan.derived_network(genotype)),
    }
    return Job(name, build, identity, genotype=genotype, inherits=inherit is not None)


def _searched(plan: Plan, run: Run) -> SearchNetwork:
    state = run.load_checkpoint()
    if state is None or not run.complete:
        raise CheckpointError(
            f"{run.path} is not a finished search: there is nothing to inherit. Finish it first."
        )
    supernet = plan.supernet()
    try:
        supernet.load_state_dict(state["model"])
    except RuntimeError as error:
        raise CheckpointError(
            f"{run.path} searched another supernet than this plan's: inherit from a search of the same preset, "
            "primitive set, metadata and classes."
        ) from error
    return supernet


def random_controls(plan: Plan, n: int = 3) -> list[Run]:
    """The control of a search: `n` random genotypes, trained and evaluated just as the derived one.

    Drawn uniformly over primitives (`Genotype.random`), the i-th the same for every seed of the plan.
    """
    drawn = random_genotypes(plan, n).items()
    return [retrain(plan, genotype, name) for name, genotype in counted(drawn, n)]


def random_genotypes(plan: Plan, n: int) -> dict[str, Genotype]:
    """The genotypes of `random_controls`, by the names of their run folders: "random-1", "random-2", ..."""
    return {f"random-{i + 1}": random_genotype(plan, i) for i in range(n)}


def random_genotype(plan: Plan, i: int) -> Genotype:
    """The i-th random genotype of a plan's space."""
    config = plan.network()
    generator = np.random.default_rng([plan.data_seed, i])
    return Genotype.random(config.cells, config.reductions, plan.primitive_set, generator)


INPUTS = ("image", "image+metadata")
"""Inputs of a baseline. The paper does not say which inputs its own had."""


def baseline(
    plan: Plan, name: str, inputs: str = "image", pretrained: bool = False, frozen: bool = False
) -> Run:
    """Train a network of `BASELINES` under the plan's budget, and evaluate it.

    Args:
        inputs: one of `INPUTS`; "image+metadata" joins it to our encoder of the plan's metadata.
        pretrained, frozen: as in `baselines.Backbone`.

    Raises:
        UnknownName: no such baseline, or no such inputs.
        BaselineError: it cannot take the plan's image size, or its weights cannot be had.
        SpecimenError: metadata are among the inputs, and the plan has none.
    """
    build, seen = BASELINES[name], baseline_inputs(plan, inputs)
    options = {option: True for option, wanted in (("pretrained", pretrained), ("frozen", frozen)) if wanted}

    def seeded() -> nn.Module:
        torch.manual_seed(plan.seed)
        return build(len(plan.specimens().class_names), plan.image_size, **seen, **options)

    _require_images(plan)
    identity = {"baseline": name, "inputs": inputs, "pretrained": pretrained, "frozen": frozen}
    uses = ("training", "specimens", "evaluation", "backbones", *(("network",) if seen else ()))
    role = slug(name) + ("-metadata" if seen else "")
    return _fit(plan, Job(role, seeded, identity, uses=uses, sees_metadata=bool(seen)))


def baseline_inputs(plan: Plan, inputs: str) -> dict[str, Any]:
    """The options on metadata of a builder of `BASELINES`; none for "image".

    Raises:
        UnknownName: not one of `INPUTS`.
        BaselineError: metadata are among the inputs, and the plan joins them by another fusion than concatenation.
        SpecimenError: metadata are among the inputs, and the plan has none.
    """
    if inputs not in INPUTS:
        raise UnknownName("inputs", inputs, INPUTS)
    if inputs == "image":
        return {}
    _require_metadata(plan)
    if plan.fusion != "concatenation":
        raise BaselineError(
            f"baselines join metadata by concatenation (Eq. 11), and the plan says fusion={plan.fusion!r}, which may ask for "
            "maps that they do not show. Leave fusion at 'concatenation', or give them images alone."
        )
    sizes, fields = plan.network(), plan.inputs()
    return {
        "vocabulary_sizes": fields["vocabulary_sizes"],
        "n_numeric": fields["n_numeric"],
        "embedding": sizes.embedding,
        "dropout": sizes.dropout,
    }


def companion(
    plan: Plan, build: Callable[[], nn.Module], name: str, config: FitConfig, *, network: dict[str, Any]
) -> Run:
    """Train a network of a companion paper from scratch, on images alone, after a recipe of its own, and evaluate it.

    Args:
        plan: the data, and what a run folder is named after.
        build: makes the network, the same each time.
        name: of the run folder.
        config: the whole recipe, epochs included.
        network: its sizes, part of the run's identity.
    """
    _require_images(plan)
    identity = {"baseline": name, "network": network}
    uses = ("training", "specimens", "evaluation", "seran")
    return _fit(plan, Job(name, build, identity, uses=uses, config=config, sees_metadata=False))


def metadata_alone(plan: Plan) -> Run:
    """Train the paper's metadata encoder and head without the images, and evaluate it.

    Raises:
        SpecimenError: the plan has no metadata.
    """
    _require_metadata(plan)
    return _fit(plan, Job("metadata-alone", plan.metadata_network))


def _require_metadata(plan: Plan) -> None:
    if not plan.encoding().fields:
        raise SpecimenError(
            f"metadata={plan.metadata!r} has no field to learn from. Choose a preset with fields: "
            f"{', '.join(name for name in usable_presets(plan.specimens()) if name != 'none') or 'these records fill none'}."
        )


def _require_images(plan: Plan) -> None:
    if plan.specimens().images is None:
        raise SpecimenError(
            f"source={plan.source!r} has records without photographs here, and this network needs images. "
            "`bionas metadata-alone` trains on the records alone; for images, give the source its photographs (and leave "
            "out images=false)."
        )


def report_leakage(fields: tuple[str, ...], splits: Splits, run: Run) -> None:
    """Where a field determines the target: one printed line, and the report of all fields as leakage.json of the run."""
    target, report = splits.train.target, data.leakage(splits, fields)
    if line := warning(report, target):
        print(line, flush=True)
        content = {"target": target, "warning": line, "fields": json.loads(report.to_json(orient="records"))}
        files.write_json(run.path / "leakage.json", content)


@dataclasses.dataclass(frozen=True)
class Job:
    """A network to train and evaluate.

    Attributes:
        role: of its run folder.
        build: makes the network, the same each time.
        identity: what makes it this run besides plan and configuration; part of config.json.
        uses: the subsystems that decide its numbers (`versions`).
        config: how it is trained; the plan's by default.
        sees_metadata: whether it reads the metadata, so that a leak among them matters.
        genotype: what it was derived from; written to genotype.json. Such a network is trained on the cached maps of a
            pretrained stem, where the plan has one.
        inherits: whether it starts from trained weights; then their accuracy on validation goes into done.json.
    """

    role: str
    build: Callable[[], nn.Module]
    identity: dict[str, Any] = dataclasses.field(default_factory=dict)
    uses: tuple[str, ...] = versions.TRAINED
    config: FitConfig | None = None
    sees_metadata: bool = True
    genotype: Genotype | None = None
    inherits: bool = False


def _identity(plan: Plan, job: Job) -> tuple[FitConfig, dict[str, Any], Run]:
    config = job.config or plan.fit_config()
    description = plan.describe(job.uses, role=job.role, **job.identity)
    return config, description, plan.run(job.role, config, description)


def _fit(plan: Plan, job: Job) -> Run:
    config, description, run = _identity(plan, job)
    if run.complete:
        return run
    set_threads()
    if job.role == DERIVED:  # not again for each of its controls
        _say_what_it_takes(plan, "retraining", run)
    announce(job.role, config.epochs)
    train, val, test = splits = plan.training_splits() if job.genotype is not None else plan.splits()
    encoding, network = plan.encoding(), job.build()
    summary = {}
    if job.inherits:
        as_inherited = predict(network, val, encoding, device=plan.device).argmax(1)
        summary["inherited_val_accuracy"] = float((as_inherited == val.labels).mean())
    trainer = Fit(network, train, val, encoding, config, run, description).prepare()
    if job.sees_metadata:
        report_leakage(encoding.fields, splits, run)
    _train(trainer)
    if job.genotype is not None:
        job.genotype.save(run.path / "genotype.json")
    files.write_text(run.path / "metadata_encoding.json", encoding.to_json())
    probabilities = predict(network, test, encoding, device=plan.device)
    result = evaluation.evaluate(test.labels, probabilities, test.class_names, train_labels=train.labels)
    rows = evaluation.predictions_frame(test.records, test.labels, probabilities, test.class_names)
    evaluation.write_evaluation(run.path, result, rows)
    sizes = cost(
        network, plan.image_size, vocabulary_sizes=encoding.vocabulary_sizes, n_numeric=encoding.n_numeric
    )
    run.finish(_summary(run) | summary | sizes)
    return run


def _train(trainer: Trainer) -> None:
    role = trainer.description.get("role", trainer.phase)
    try:
        with training(role):
            trainer.train()
    except KeyboardInterrupt:
        done, total = trainer.epoch, trainer.config.epochs
        raise Interrupted(f"{role} stopped after epoch {done} of {total}; run it again to resume.") from None


def _summary(run: Run) -> dict[str, Any]:
    history = run.history
    return {
        "epochs": int(history["epoch"].max()),
        "images_seen": int(history["images"].sum()),
        "minutes": round(float(history["seconds"].sum()) / 60, 2),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
