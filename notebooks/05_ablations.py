# %% [markdown]
# # 05 · The ablations
#
# **What you will have at the end.** The fifteen experiments of the paper's Table I beside the same fifteen run here,
# under one budget, with the spread over seeds; what each search was worth against dice; what networks cost, and what
# the paper's own costs have in common; and a search whose skips are counted epoch by epoch, with a guard that ends
# it where they take over.
#
# 1. the experiment
# 2. the paper's table and ours
# 3. what the search bought over dice
# 4. accuracy against cost
# 5. what networks of the paper's size cost
# 6. skips, and a guard against them
# 7. real photographs
# 8. what can be concluded
#
# All of it is read from `data/results/` and `data/paper/`, but for one small search in section 6. What was not run
# says so, with the command that runs it.

# %%
import dataclasses
import os

import numpy as np
import pandas as pd
from IPython.display import display
from scipy.stats import f_oneway

from bionas import figures
from bionas.studies import published, results
from bionas.studies.table1 import tables as grids
from bionas.studies.table1.grid import BUDGETS, table_one
from bionas.training import experiments
from bionas.training.skips import guard, leading_skips

pd.set_option("display.max_columns", 30, "display.width", 150)

# %% tags=["parameters"]
mode: str = os.environ.get("BIONAS_MODE", "quick")  # smoke, quick or full: the size of the search in section 6
source: str = "synthetic"  # of section 6: synthetic, folder (your own photographs), bioscan5m, bioscan1m or insects1m
data_dir: str = None  # where the collection lies, for every source but synthetic
source_options: str = ""  # what else the source takes, by name (notebook 01, last section)
metadata: str = "none"  # which columns go with the image in section 6: none, leak_free, no_target or as_published
limit: int = None  # specimens drawn for section 6; None: by mode
search_epochs: int = None  # of the search in section 6; None: by mode
theta_learning_rate: float = 0.003  # of that search: ten times the paper's, so that a few hundred steps can decide
warmup_epochs: int = 0  # of that search: epochs before theta moves
max_skips: int = None  # that search ends once more edges than this are led by skip_connect; None: it never does
batch_size: int = 16  # of that search
device: str = "auto"  # auto, cpu or cuda
seed: int = 0  # of that search
run_dir: str = None  # where runs are written; None: runs/ of the repository

# %% [markdown]
# ## 1 · The experiment
#
# An experiment is three words: what is searched, how image and metadata are joined, and who searches. The words are
# the paper's; what they mean here is data, and one function runs any of them.

# %%
# NBVAL_CHECK_OUTPUT
rows = pd.DataFrame([dataclasses.asdict(row) for row in table_one().values()])
print(rows.to_string(index=False))

# %% [markdown]
# Four rows of the fifteen vary nothing but the search (E005 to E008, beside E009), seven vary the fusion, two the set
# of primitives; E012 is drawn by hand.
#
# > **The paper says** that all were evaluated alike, and gives 10 to 30 hours of training. **It does not say** what
# > the budget of each search was. **We assume** one for all: the training images that the gradient search goes
# > through. Strategies that train candidates one by one pay for each image of each candidate; isomorphic candidates
# > are paid once.
#
# > **The paper says** "Manual Design" of E012. **It does not say** which. **We assume** what a designer would write
# > who knows Xception: two separable convolutions and a shortcut in each cell.

# %%
# NBVAL_CHECK_OUTPUT
print(pd.DataFrame(BUDGETS).T.rename_axis("mode").to_string())

# %% [markdown]
# At `quick` a search that trains its candidates pays for ten. That is few: evolution draws three at random and mutates
# seven times, the controller of REINFORCE is moved twice. A search that beats dice by little can do no more than that here.
#
# ## 2 · The paper's table and ours
#
# Mean ± standard deviation over n seeds, in per cent of the test split. Ours is measured on **synthetic** specimens,
# theirs on BIOSCAN-5M: compare rows within a column, and the order of rows between the columns, never a figure with
# its neighbour.

# %%
ours = grids.kept("ablation_synthetic")
print(results.describe("ablation_synthetic"))
print(grids.left(ours))

# %%
grids.side_by_side(ours)

# %% [markdown]
# The first row always answers the commonest order. Every dot below is one search and one training.

# %%
runs = results.table("ablation_synthetic_runs")
if len(runs):
    done = runs[runs["status"] == "done"].sort_values("row", kind="stable")
    named = done.assign(model=done["row"] + " " + done["fusion"] + ", " + done["strategy"])
    display(figures.comparison(named, "accuracy", "Synthetic specimens, test split", "E009 concatenation, gradient"))

# %% [markdown]
# How much of this is order, and how much is chance? If rows differ by no more than seeds do, their ranks mean nothing,
# ours no more than those of a table without seeds. The p is that of an analysis of variance: how often fifteen equal
# rows would come out at least as far apart.

# %%
ranked = ours[(ours["n"] > 1) & ours["paper_accuracy"].notna()]
if len(ranked) > 2:
    noise = np.sqrt((ranked["accuracy_sd"] ** 2).mean())
    spread = ranked["accuracy_mean"].std()
    print(f"sd between {len(ranked)} rows {spread:.2f} points, between seeds of a row {noise:.2f}")
    seeds = [group["accuracy"] for _, group in runs[runs["status"] == "done"].groupby("row")]
    print(f"rows against seeds: p = {f_oneway(*seeds).pvalue:.2f}")
    rho = ranked["accuracy_mean"].corr(ranked["paper_accuracy"], method="spearman")
    print(f"rank correlation of ours with the paper's: {rho:+.2f}")
else:
    print("not run: fewer than three rows have more than one seed")

# %% [markdown]
# ## 3 · What the search bought over dice
#
# Random search is the control: the same space, the same images, no learning from what was seen. In the paper it is
# 7.07 points below the gradient search, and above evolution.

# %%
# NBVAL_CHECK_OUTPUT
searches = ["E005", "E006", "E008", "E009", "E012"]
paper = published.table("table1_ablation").set_index("exp_id")
above = (paper.loc[searches, "accuracy"] - paper.loc["E007", "accuracy"]).round(2)
print(pd.DataFrame({"strategy": paper.loc[searches, "strategy"], "points above random search": above}).to_string())

# %%
gained = grids.gains(ours, searches)
dice = "random search (E007)"
print(gained.drop(columns="strategy").round(2).to_string(index=False, na_rep="-"))
figures.gains(gained, dice, "Ours: synthetic specimens, equal budget. The paper's: BIOSCAN-5M, as printed")

# %% [markdown]
# *What to see.* A bar that crosses zero is a search that has not been shown to be better than dice. The paper's
# diamonds have no bars: one run each.
#
# Three seeds of a large space are few. In a small one everything can be known: one cell over six primitives, every
# genotype of it trained twice. A search there is a look-up, so it can be repeated many times.

# %%
trained = results.table("regret_table")
print(results.describe("regret_table"))
if len(trained):
    means, each = trained.groupby("key")["val_accuracy"].mean(), trained.groupby("key")["val_accuracy"].var()
    print(f"{len(means)} genotypes, {len(trained)} trainings")
    low, middle, high = means.quantile([0, 0.5, 1])
    print(f"validation accuracy of a genotype: {low:.3f} to {high:.3f}, half of them below {middle:.3f}")
    print(f"sd between genotypes {means.std():.3f}, between two trainings of one {np.sqrt(each.mean()):.3f}")

# %% [markdown]
# Regret is how far the genotype that a search holds to be the best is below the best there is, judged by both
# trainings.

# %%
regret = results.table("regret")
print(results.describe("regret"))
if len(regret):
    curves = figures.regret_curves(regret, "Synthetic specimens, one cell, 32 px, images alone; searches are looked up")
    display(figures.keep(curves, "regret"))
    print(regret.groupby("strategy", sort=False)["verdict"].first().to_string())

# %% [markdown]
# The last column is a test over paired repeats. Where it says "no better than chance", that is the result.
#
# ## 4 · Accuracy against cost
#
# The line is the Pareto front: nothing below and right of it is worth having. The buttons change between our points,
# the paper's, and both relative to E009, the only way to lay one over the other.

# %%
caption = "Ours: synthetic specimens, mean and sd over seeds. The paper's: as printed"
figures.accuracy_against_cost(ours, "flops", caption)

# %%
figures.accuracy_against_cost(ours, "latency", caption)

# %% [markdown]
# *What to see.* In the paper one row beats all dearer ones and most cheaper ones at once: E009 has the best accuracy
# of all and the third least FLOPs.

# %%
# NBVAL_CHECK_OUTPUT
best = paper.loc["E009"]
beaten = paper[(paper["gflops"] >= best["gflops"]) & (paper["accuracy"] < best["accuracy"])]
print(f"{len(beaten)} of the other 14 rows cost at least as much as E009 and are less accurate")
print("cheaper than E009:", ", ".join(paper.index[paper["gflops"] < best["gflops"]]))

# %% [markdown]
# ## 5 · What networks of the paper's size cost
#
# Cost needs no training. At preset `paper`, 200 random genotypes of each primitive set are counted; medians of the
# full set are fitted to the paper's E009 (2.95 GFLOPs, read as multiply-accumulates, and 40.06 MB, read as fp32
# weights).

# %%
genotypes, counted, lines = (results.table(f"table1_cost{part}") for part in ("_genotypes", "", "_lines"))
figures.cost_clouds(genotypes, counted, lines, "Preset paper, counted without computing. Diamonds: as printed")

# %%
fits = lines.drop(columns=["preset", "torch", "code", "command"]).set_index("points")
print(fits.round({"slope_mb_per_giga": 2, "intercept_mb": 2, "correlation": 4, "scatter_pct": 1}).to_string())
hand = counted.set_index("exp_id").loc["E012"]
if pd.isna(hand["gmacs_median"]):
    print(f"E012, the network made by hand: {results.not_run('table1_cost')}")
else:
    print(f"E012, the network made by hand: {hand['gmacs_median']:.2f} GMACs, {hand['weights_mb_median']:.2f} MB")

# %% [markdown]
# Weights are paid for once, multiply-accumulates at every place of a map: a convolution late in a network has many
# weights and few places, one early the reverse. So the two are related within one space (larger choices are larger in
# both), but not tied: our random genotypes scatter by a fifth around their best line. Fusions untie them further:

# %%
fusions = counted.drop_duplicates("fusion").set_index("fusion")[["gmacs_of_fusion", "weights_mb_of_fusion"]]
fusions.assign(mb_per_giga=fusions["weights_mb_of_fusion"] / fusions["gmacs_of_fusion"].replace(0, np.nan)).round(4)

# %% [markdown]
# Bilinear pooling adds megabytes at next to no multiply-accumulates, a transformer over tokens adds both. The paper's
# fifteen rows are eight fusions, three primitive sets and six ways of choosing cells, and their memory is 13.55 MB a
# GFLOP plus 0.33 MB, to one per cent on average.

# %%
# NBVAL_CHECK_OUTPUT
slope, intercept = np.polyfit(paper["gflops"], paper["memory_mb"], 1)
off = 100 * (paper["memory_mb"] / (slope * paper["gflops"] + intercept) - 1)
r = paper["gflops"].corr(paper["memory_mb"])
print(f"memory = {slope:.2f} MB x GFLOPs + {intercept:.2f} MB, r = {r:.4f}")
print(f"distance from the line: {np.sqrt((off**2).mean()):.1f} % on average, {off.abs().max():.1f} % at the most")

# %% [markdown]
# A high correlation alone would be little: the medians of our own sets and fusions have 0.99, spread out as they are by
# three primitive sets. What is hard to reconcile with fifteen networks as different as these is the one per cent: single
# networks of one space are twenty times as far from their line, and a fusion moves a network off it. *A harmless
# reading:* one of the two columns was computed from the other, by a fixed factor of a profiler or a spreadsheet. Then
# the table has one cost column less than it seems. Notebook 07 has the same for latency.
#
# The order of the sets is another matter. In the paper fewer primitives make cheaper networks, convolutions alone the
# cheapest. Where every primitive is equally likely it is the reverse, since pools, skips and removed edges cost
# nothing:

# %%
sets = counted[counted["exp_id"].isin(["E009", "E010", "E011"])].set_index("exp_id")
sets[["primitive_set", "gmacs_median", "weights_mb_median", "paper_gflops", "paper_memory_mb"]].round(2)

# %% [markdown]
# A search may of course choose small convolutions. And how dear are the networks that the paper's five searches chose
# from one space, read against random ones? The sizes of preset `paper` are ours, so only the spread counts here: random
# search, too, draws from this cloud.

# %%
full = genotypes.loc[genotypes["primitive_set"] == "full", "gmacs"]
for name in ("E009", "E007", "E006", "E005", "E008"):
    row, dearer = paper.loc[name], (full > paper.loc[name, "gflops"]).mean()
    print(f"{name} {row['strategy']:<15} {row['gflops']:.2f}: {dearer:4.0%} of random genotypes cost more")

# %% [markdown]
# ## 6 · Skips, and a guard against them
#
# The known way for this kind of search to fail: a skip needs no training, so while convolutions are still raw it is
# the better choice; theta leans towards it; the convolutions beside it get less gradient and stay raw. Here is one
# small search of this run, watched.

# %%
sizes = {"smoke": (240, 2), "quick": (300, 8), "full": (None, 50)}[mode]
plan = experiments.plan(
    mode, source=source, data_dir=data_dir, source_options=source_options, metadata=metadata, limit=limit or sizes[0],
    search_epochs=search_epochs or sizes[1], theta_learning_rate=theta_learning_rate, warmup_epochs=warmup_epochs,
    max_skips=max_skips, batch_size=batch_size, device=device, seed=seed, run_dir=run_dir,
)  # fmt: skip
searched = experiments.search(plan)
caption = f"{len(plan.specimens())} specimens, theta at {theta_learning_rate:g}. {plan.specimens().caption}"
print(searched.summary["stopped"] or f"ran to its end: {searched.summary['epochs']} epochs")

# %%
figures.alpha_trajectories(searched.alphas, 0, caption)

# %%
figures.skip_count(searched.alphas, caption)

# %%
skips = leading_skips(searched.alphas)
print("edges led by skip_connect after each epoch:", *skips)

# %% [markdown]
# > **The paper says** nothing of this. Two remedies are known and are options here, off by default. A *warm-up* (`-p
# > warmup_epochs=3`): w alone is trained before theta moves at all. A *stop* (`-p max_skips=2`), after DARTS+ (Liang
# > et al. 2019): the search ends as soon as skips lead more edges than that, and the last epoch in which they did not
# > is derived.
#
# The rule, on counts small enough to follow, for at most two skips. It looks at each epoch once, and never ahead.

# %%
# NBVAL_CHECK_OUTPUT
by_epoch = pd.Series([0, 1, 3, 2, 1, 2, 4, 5])  # epoch 0 is before training
for warmup in (0, 2):
    told = (guard(by_epoch.loc[:epoch], 2, warmup) for epoch in by_epoch.index)
    stopped, found = next((epoch, found) for epoch, found in enumerate(told) if found.stop)
    print(f"warm-up of {warmup}: stopped after epoch {stopped}, derived from epoch {found.epoch}")

# %% [markdown]
# A search that begins above its limit goes on, as there is nothing yet to go back to. Where each limit would have ended
# the search above:

# %%
for most in range(int(skips.max()) + 1):
    told = [guard(skips.loc[:epoch], most, warmup_epochs) for epoch in skips.index]
    end = next((epoch for epoch, found in enumerate(told) if found.stop), None)
    kept = told[end].epoch if end is not None else told[-1].epoch
    print(f"at most {most}: {'to the end' if end is None else f'stopped after epoch {end}'}, derives from epoch {kept}")

# %% [markdown]
# What the two are worth was measured with longer searches, three seeds each, everything else alike.

# %%
guarded, courses = results.table("skip_guard"), results.table("skip_guard_epochs")
print(results.describe("skip_guard"))
if len(courses):
    display(figures.skip_courses(courses, "Synthetic specimens, images alone; dashed: the limit, a cross: stopped"))

# %%
if len(guarded):
    scores = ["n_seeds", "accuracy_mean", "accuracy_sd", "balanced_accuracy_mean", "balanced_accuracy_sd"]
    counts = ["skips_at_the_end", "skips_derived", "searched_epochs", "n_stopped", "mmacs", "search_minutes"]
    display(guarded.set_index("model")[scores + counts])

# %% [markdown]
# On these specimens skips never lead more than two of the nine edges. A limit of a quarter of them is therefore never
# crossed, and its rows repeat those of the same searches without it, to the digit: the collapse that a guard is for does not
# come in twenty epochs of this size. A limit of zero ends a search at the first skip that leads, and shows what stopping
# early does: it saves the minutes in the last column and derives no skip, what it derives is no better (of three networks
# one is much worse), and a search whose warm-up ends with a skip in the lead has nothing to go back to and fails. A difference
# within the spread is no effect, of the warm-up neither.
#
# ## 7 · Real photographs
#
# Field photographs have no records, and a photograph paired with another animal's record would be an invented
# specimen. So the fusions cannot be tried on them, and these rows stay unrun:

# %%
# NBVAL_CHECK_OUTPUT
fused = [f"{row.name} ({row.fusion})" for row in table_one().values() if row.needs_metadata]
alone = [row.name for row in table_one().values() if not row.needs_metadata]
print("need metadata:", *fused, sep="\n  ")
print("run on images alone:", *alone)

# %%
field = grids.kept("ablation_field_orders", alone)
print(results.describe("ablation_field_orders"))
print(grids.left(field))

# %%
grids.side_by_side(field)

# %% [markdown]
# On images alone a concatenation joins nothing: these rows compare searches and primitive sets, on 5,598 field
# photographs of twelve orders.

# %%
caption = "Ours: field photographs, images alone. The paper's: BIOSCAN-5M, as printed"
gained = grids.gains(field, searches)
print(gained.drop(columns="strategy").round(2).to_string(index=False, na_rep="-"))
figures.keep(figures.gains(gained, dice, caption), "searches_on_photographs")

# %% [markdown]
# **Not run, for want of a GPU:** the latency and memory there of the fifteen networks at preset `paper`
# (`bionas ablate --rows E001-E015 --seeds 1 --mode full` fills the column `gpu_ms`), and E009 searched and retrained at full
# scale on these photographs (`bionas ablate --rows E009 --seeds 1 --mode full -p source=folder
# -p data_dir=../shared/data/field_orders -p metadata=none`).
#
# ## 8 · What can be concluded
#
# The embedded specimens are drawn by a program. From rows on them one can conclude that the code of every fusion,
# strategy and set runs and learns; how the searches compare *in this space, on this task, at this budget*; what a
# network costs, which does not depend on what is on the image; and how large the chance of a seed is beside the
# differences that a table reports.
#
# What it did say is in section 2: seeds of a row lie further apart than rows do. A table with one run a row, which the
# paper's is, could have come out in nearly any order at this budget; whether it could at the paper's, nobody can say who
# has one run a row.
#
# One cannot conclude how well insects are recognised, by any row. The drawn orders differ in ways their programmer
# thought of, and records go with images as he let them: a fusion that wins here has won at finding what was put in.
# Nor do ranks of fusions carry over: on real records what joins image and metadata is mostly what the metadata give
# away (notebook 07). Photographs speak for the rows that need no metadata, at 64 pixels, on a budget of minutes where
# the paper spent ten hours and more. Nothing here says that the paper's figures are wrong; it says which of them
# could be told from chance with three seeds, in a setting that can be rerun.
#
# ## Recap
#
# - Fifteen experiments are fifteen rows of data; a row that fails or waits says so in the table.
# - A search is worth what it adds to dice at an equal budget, with the error of that difference beside it. At a budget of
#   minutes none of five added twice its error.
# - In a space that can be enumerated, regret is exact, and "no better than chance" is a result.
# - The paper's memory column is its FLOPs column times 13.55, to one per cent on average. Networks counted here are not
#   like that.
# - Skips can be counted in every epoch, and a search can be told to stop for them.
#
# ## Exercises
#
# 1. *To run.* `bionas ablate --rows E007,full/gating/random --seeds 3 --mode quick`: a row of your own beside E007.
#    Is gating with dice better or worse than E003, gating with a search?
# 2. *To change.* Give section 6 `-p theta_learning_rate=0.03`, then `-p max_skips=1`. At which epoch does it stop,
#    and does a warm-up of five epochs move that?
# 3. *To think about.* The budget counts images, but an image costs a supernet more time than a child. Which
#    strategies would gain if the budget were seconds, and which of the two would a lab care about?
