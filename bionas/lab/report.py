"""The report of a model in plain language: lines for the terminal and the page, and the model card.

Everything is read from the fields of `model.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bionas.lab.metadata import Columns

Description = Mapping[str, Any]

WORTH_IT = 0.01
"""Gain of the last doubling of the photographs from which more photographs are said to help."""


def percent(share: float | None) -> str:
    """0.914 -> "91.4 %"; "-" where it is not known."""
    return "-" if share is None else f"{100 * share:.1f} %"


def lines(description: Description) -> list[str]:
    """What `train` prints at its end."""
    test = description["test"]
    found = [
        headline(description),
        f"The commonest class alone ({test['majority_class']}): {percent(test['majority_accuracy'])}. "
        f"Mean over the classes (balanced): {percent(test['balanced_accuracy'])}.",
    ]
    found += rank_lines(description)
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


def rank_lines(description: Description) -> list[str]:
    """Accuracy at the wider ranks, where there are any."""
    ranks, target = description["test"]["ranks"], description["taxonomy"]["target"]
    wider = [f"{rank} {percent(share)}" for rank, share in ranks.items() if rank != target]
    return [f"Summed up to wider ranks: {', '.join(wider)}."] if wider else []


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
            "The network's features were kept as published. Fine-tuning was not tried; it would be kept "
            "only where validation says so: pass --minutes 20 to try it."
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
