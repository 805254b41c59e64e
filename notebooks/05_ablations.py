# %% [markdown]
# # 05 · The ablations
#
# > **What you will have at the end.** The fifteen experiments of the paper's Table I beside the same fifteen run here, under
# > one budget, with the spread over seeds; what each search adds to random search; what networks cost, and what the
# > paper's own costs have in common; and a search whose skips are counted in every epoch, with a guard that ends it when
# > there are too many.
#
# 1. the experiment
# 2. the paper's table and ours
# 3. what each search adds to random search
# 4. accuracy against cost
# 5. what networks of the paper's size cost
# 6. skips, and a guard against them
# 7. real photographs
# 8. what can be concluded
#
# All figures are read from `data/results/` and `data/paper/`, except one small search in section 6. What was not run says
# so, with the command that runs it.

# %%
import dataclasses
import os

import numpy as np
import pandas as pd
from IPython.display import display
from scipy.stats import f_oneway

from bionas import figures
from bionas.studies import published, report, results
from bionas.studies.searches.tables import in_words
from bionas.studies.table1 import tables as grids
from bionas.studies.table1.grid import BUDGETS, table_one
from bionas.training import experiments
from bionas.training.skips import guard, leading_skips

pd.set_option("display.max_columns", 30, "display.width", 150)

# %% tags=["parameters"]
mode: str = os.environ.get("BIONAS_MODE", "quick")  # smoke, quick or full: size of the search in section 6
source: str = "synthetic"  # section 6: synthetic, folder (of photographs), bioscan5m, bioscan1m or insects1m
data_dir: str = None  # where the collection lies, for every source but synthetic
source_options: str = ""  # what else the source takes, by name (notebook 01, last section)
metadata: str = "none"  # columns beside the image in section 6: none, leak_free, no_target or as_published
limit: int = None  # specimens drawn for section 6; None: by mode
search_epochs: int = None  # of the search in section 6; None: by mode
theta_learning_rate: float = 0.003  # that search's: ten times the paper's, so that a few hundred steps decide
warmup_epochs: int = 0  # of that search: epochs before theta moves
max_skips: int = None  # that search ends once more edges than this are led by skip_connect; None: never
batch_size: int = 16  # of that search
device: str = "auto"  # auto, cpu, cuda or mps
seed: int = 0  # of that search
run_dir: str = None  # where runs are written; None: runs/ of the repository

# %% [markdown]
# ## 1 · The experiment
#
# An experiment has three parts: the primitive set, the fusion of image and metadata, and the search strategy. The names are
# the paper's; each experiment is one row of data, and one function runs any of them.

# %%
# NBVAL_CHECK_OUTPUT
rows = pd.DataFrame([dataclasses.asdict(row) for row in table_one().values()])
print(rows.to_string(index=False))

# %% [markdown]
# Four of the fifteen rows differ from E009 in the search alone (E005 to E008), seven in the fusion, two in the set of
# primitives; E012 is designed by hand.
#
# > **The paper says** that all were evaluated alike, and gives 10 to 30 hours of training. **It does not say** what
# > the budget of each search was. **We assume** one for all: the training images that the gradient search goes
# > through. For strategies that train candidates one by one, each image of each candidate counts; isomorphic candidates
# > count once.
#
# > **The paper says** "Manual Design" of E012. **It does not say** which. **We assume** a design
# > after Xception: two separable convolutions and a shortcut in each cell.

# %%
# NBVAL_CHECK_OUTPUT
print(pd.DataFrame(BUDGETS).T.rename_axis("mode").to_string())

# %% [markdown]
# At `quick` a search that trains its candidates pays for ten. That is few: evolution draws three at random and mutates
# seven times, the controller of REINFORCE is updated twice. Do not expect such a search to be far above random search.
#
# ## 2 · The paper's table and ours
#
# Mean ± standard deviation over n seeds, in per cent of the test split. Ours is measured on **synthetic** specimens,
# theirs on BIOSCAN-5M: compare rows within a column, and the order of rows between columns, but not our figure with
# theirs.

# %%
ours = grids.kept("ablation_synthetic")
print(results.describe("ablation_synthetic"))
print(grids.left(ours))


# %%
def columns(table, *names):
    """The rows with their experiment as index, and these columns of the paper and of ours."""
    what = table[""].agg(lambda row: ", ".join(part for part in row if part), axis=1)
    return table.loc[:, table.columns.get_level_values(1).isin(names)].set_index(what.rename(""), append=True)


columns(
    grids.side_by_side(ours), "accuracy (%)", "balanced (%)", "macro F1 (%)", "n", "search + training (min)"
)

# %%
columns(grids.side_by_side(ours), "GFLOPs", "MMACs", "MB", "CPU ms")

# %% [markdown]
# The other columns, the paper's and ours. `updates`: how often a controller, population or predictor was updated after its
# warm-up; with fewer than five a search is little more than random search, whatever its name.

# %%
every = grids.side_by_side(ours, full=True)
display(columns(every, "precision (%)", "recall (%)", "F1 (%)"))
columns(every, "operations", "GPU ms", "hours", "GFLOPs (2 x MACs)", "candidates", "updates", "theta reach")

# %%
learners = ours.dropna(subset="updates")[["row", "strategy", "candidates", "updates"]]
few = ", ".join(learners.query("updates < 5")["row"]) or "none"
if len(learners):
    print(f"{len(learners)} rows state their updates; fewer than five: {few}")
else:
    print(
        "not recorded: this file was written before updates were counted; the command above states them today."
    )

# %% [markdown]
# The first row is the majority class. Every dot below is one search and one training.

# %%
runs = results.table("ablation_synthetic_runs")
if len(runs):
    done = runs[runs["status"] == "done"].sort_values("row", kind="stable")
    named = done.assign(model=done["row"] + " " + done["fusion"] + ", " + done["strategy"])
    display(
        figures.comparison(
            named, "accuracy", "Synthetic specimens, test split", "E009 concatenation, gradient"
        )
    )

# %% [markdown]
# How much of the ranking is chance? If rows differ by no more than seeds do, their ranks mean nothing; a table without
# seeds cannot show whether they do. The p-value is that of an analysis of variance: how often fifteen equal rows would
# differ by at least as much.

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
# ## 3 · What each search adds to random search
#
# Random search is the control: the same space, the same number of images, no learning from earlier candidates. In the paper it is
# 7.07 points below the gradient search, and above evolution.

# %%
# NBVAL_CHECK_OUTPUT
searches, CONTROL = ["E005", "E006", "E008", "E009", "E012"], "random search (E007)"
paper = published.table("table1_ablation").set_index("exp_id")
above = (paper.loc[searches, "accuracy"] - paper.loc["E007", "accuracy"]).round(2)
print(
    pd.DataFrame(
        {"strategy": paper.loc[searches, "strategy"], "points above random search": above}
    ).to_string()
)

# %%
gained = grids.gains(ours, searches)
print(gained.drop(columns="strategy").round(2).to_string(index=False, na_rep="-"))
figures.gains(gained, CONTROL, "Ours: synthetic specimens, equal budget. The paper's: BIOSCAN-5M, as printed")

# %% [markdown]
# *What to see.* A bar that crosses zero is a search that has not been shown to be better than random search. The paper's
# diamonds have no bars: one run each.
#
# Three seeds in a large space are few. A small space can be enumerated: one cell over six primitives, every genotype
# trained twice. A search there only looks accuracies up, so it can be repeated many times.

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
# *Regret* is how far the genotype that a search returns is below the best of the space, both judged by the mean of their
# trainings.

# %%
regret = results.table("regret")
print(results.describe("regret"))
if len(regret):
    curves = figures.regret_curves(
        regret, "Synthetic specimens, one cell, 32 px, images alone; searches are looked up"
    )
    display(figures.keep(curves, "regret"))
    print(regret.groupby("strategy", sort=False)["verdict"].first().to_string())

# %% [markdown]
# The verdict is a test over paired repeats; chance means random search.
#
# ## 4 · Accuracy against cost
#
# The line is the Pareto front: for every network below and right of it there is a better one that is no more expensive. The
# buttons switch between our points, the paper's, and both relative to E009.

# %%
caption = "Ours: synthetic specimens, mean and sd over seeds. The paper's: as printed"
figures.accuracy_against_cost(ours, "flops", caption)

# %%
figures.accuracy_against_cost(ours, "latency", caption)

# %% [markdown]
# *What to see.* In the paper, E009 has the highest accuracy of all rows and the third lowest FLOPs.

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
figures.cost_clouds(
    genotypes, counted, lines, "Preset paper, counted without computing. Diamonds: as printed"
)

# %%
fits = lines.drop(columns=["preset", "torch", "code", "command"]).set_index("points")
fits = fits.round({"slope_mb_per_giga": 2, "intercept_mb": 2, "correlation": 4, "scatter_pct": 1})
print(fits.rename(columns={"slope_mb_per_giga": "MB per 10^9", "intercept_mb": "MB at 0"}).to_string())
hand = counted.set_index("exp_id").loc["E012"]
if pd.isna(hand["gmacs_median"]):
    print(f"E012, the network made by hand: {results.not_run('table1_cost')}")
else:
    print(
        f"E012, the network made by hand: {hand['gmacs_median']:.2f} GMACs, {hand['weights_mb_median']:.2f} MB"
    )

# %% [markdown]
# A weight is stored once, but multiplied at every place of a map: a convolution late in a network has many weights and few
# places, an early one the reverse. The two are correlated within one space, but not proportional: our random genotypes
# scatter by a fifth around their best line. Fusions add to that:

# %%
fusions = counted.drop_duplicates("fusion").set_index("fusion")[["gmacs_of_fusion", "weights_mb_of_fusion"]]
fusions.assign(
    mb_per_giga=fusions["weights_mb_of_fusion"] / fusions["gmacs_of_fusion"].replace(0, np.nan)
).round(4)

# %% [markdown]
# Bilinear pooling adds weights and hardly any multiply-accumulates, a transformer over tokens adds both. The paper's
# fifteen rows are eight fusions, three primitive sets and six ways of choosing cells, and their memory is 13.55 MB a
# GFLOP plus 0.33 MB, to one per cent on average.

# %%
# NBVAL_CHECK_OUTPUT
slope, intercept = np.polyfit(paper["gflops"], paper["memory_mb"], 1)
off = 100 * (paper["memory_mb"] / (slope * paper["gflops"] + intercept) - 1)
r = paper["gflops"].corr(paper["memory_mb"])
print(f"memory = {slope:.2f} MB x GFLOPs + {intercept:.2f} MB, r = {r:.4f}")
print(
    f"distance from the line: {np.sqrt((off**2).mean()):.1f} % on average, {off.abs().max():.1f} % at the most"
)

# %% [markdown]
# A high correlation alone would not be surprising: the medians of our own sets and fusions have 0.99. What is hard to
# reconcile with fifteen networks as different as these is the one per cent: single networks of one space are twenty times
# as far from their line, and a fusion moves a network off it. *A harmless reading:* one of the two columns was computed
# from the other, by a fixed factor. Notebook 07 has the same for latency.
#
# The order of the primitive sets differs too. In the paper fewer primitives make cheaper networks, convolutions alone the
# cheapest. Where every primitive is equally likely it is the reverse, since pools, skips and removed edges cost nothing:

# %%
sets = counted[counted["exp_id"].isin(["E009", "E010", "E011"])].set_index("exp_id")
sets[["primitive_set", "gmacs_median", "weights_mb_median", "paper_gflops", "paper_memory_mb"]].round(2)

# %% [markdown]
# A search may choose small convolutions. How expensive are the networks that the paper's five searches chose from one space,
# compared with random ones? The sizes of preset `paper` are ours, so only the spread counts here.

# %%
full = genotypes.loc[genotypes["primitive_set"] == "full", "gmacs"]
for name in ("E009", "E007", "E006", "E005", "E008"):
    row, above = paper.loc[name], (full > paper.loc[name, "gflops"]).mean()
    print(f"{name} {row['strategy']:<15} {row['gflops']:.2f}: {above:4.0%} of random genotypes cost more")

# %% [markdown]
# ## 6 · Skips, and a guard against them
#
# This kind of search has a known failure: a skip needs no training, so while convolutions are untrained it is the better
# choice; theta moves towards it; the convolutions on the same edge get smaller gradients and stay untrained. Here is one
# small search of this run.

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
# > **The paper says** nothing about this. Two remedies are known and are options here, off by default. A *warm-up* (`-p
# > warmup_epochs=3`): w alone is trained before theta moves at all. A *stop* (`-p max_skips=2`), after DARTS+ (Liang
# > et al. 2019): the search ends as soon as skips lead more edges than that, and the last epoch in which they did not
# > is derived.
#
# The rule for at most two skips, on counts small enough to follow. It uses only the epochs up to the present one.

# %%
# NBVAL_CHECK_OUTPUT
by_epoch = pd.Series([0, 1, 3, 2, 1, 2, 4, 5])  # epoch 0 is before training
for warmup in (0, 2):
    told = (guard(by_epoch.loc[:epoch], 2, warmup) for epoch in by_epoch.index)
    stopped, found = next((epoch, found) for epoch, found in enumerate(told) if found.stop)
    print(f"warm-up of {warmup}: stopped after epoch {stopped}, derived from epoch {found.epoch}")

# %% [markdown]
# A search that begins above its limit continues, since no earlier epoch could be derived. Where each limit would have ended
# the search above:

# %%
for most in range(int(skips.max()) + 1):
    told = [guard(skips.loc[:epoch], most, warmup_epochs) for epoch in skips.index]
    end = next((epoch for epoch, found in enumerate(told) if found.stop), None)
    kept = told[end].epoch if end is not None else told[-1].epoch
    print(
        f"at most {most}: {'to the end' if end is None else f'stopped after epoch {end}'}, derives from epoch {kept}"
    )

# %% [markdown]
# The effect of both was measured with longer searches, three seeds each, everything else equal.

# %%
guarded, courses = results.table("skip_guard"), results.table("skip_guard_epochs")
print(results.describe("skip_guard"))
if len(courses):
    display(
        figures.skip_courses(
            courses, "Synthetic specimens, images alone; dashed: the limit, a cross: stopped"
        )
    )

# %%
if len(guarded):
    shown = guarded[["model", "n_seeds"]].rename(columns={"n_seeds": "n"})
    for score in ("accuracy", "balanced_accuracy"):
        pairs = guarded[[f"{score}_mean", f"{score}_sd"]].itertuples(index=False)
        shown[score] = [report.mean_sd(*pair, digits=1) for pair in pairs]
    names = {"skips_at_the_end": "skips at end", "skips_derived": "skips derived", "n_stopped": "stopped"}
    counts = [*names, "searched_epochs", "mmacs", "search_minutes"]
    names |= {"searched_epochs": "epochs", "search_minutes": "minutes"}
    display(shown.join(guarded[counts].map(report.number).rename(columns=names)).set_index("model"))

# %% [markdown]
# On these specimens skips never lead more than two of the nine edges. A limit of a quarter of the edges is therefore never
# exceeded, and its rows equal those without a limit: within twenty epochs of this size the failure does not occur. A limit
# of zero ends a search at the first leading skip: it saves minutes and derives no skip, but the derived networks are no
# better (one of three is much worse), and a search whose warm-up ends with a leading skip has no earlier epoch to derive
# from and fails. Differences within the spread are no effect; this holds for the warm-up too.
#
# ## 7 · Real photographs
#
# Field photographs have no records, and pairing a photograph with another animal's record would invent a specimen. The rows
# that need metadata are therefore not run on them:

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
columns(
    grids.side_by_side(field), "accuracy (%)", "balanced (%)", "macro F1 (%)", "n", "search + training (min)"
)

# %% [markdown]
# On images alone there is nothing to join: these rows compare searches and primitive sets, on 5,598 field
# photographs of twelve orders.

# %%
caption = "Ours: field photographs, images alone. The paper's: BIOSCAN-5M, as printed"
gained = grids.gains(field, searches)
print(gained.drop(columns="strategy").round(2).to_string(index=False, na_rep="-"))
figures.keep(figures.gains(gained, CONTROL, caption), "searches_on_photographs")

# %% [markdown]
# Equal images are not equal minutes: an image costs a supernet several times what it costs a single network. The next table
# gives every strategy the same *core-minutes*, search and final training together, and random search spends them on more
# candidates. `warm_start` is successive halving that begins at hand-drawn networks and their neighbours; `hand_drawn` is one
# of these, trained without any search. Intervals come from a bootstrap over searches and test photographs.

# %%
by_minutes = results.table("searches_field_orders")
print(results.describe("searches_field_orders"))
if len(by_minutes):
    print("\n".join(in_words(by_minutes)))
    caption = "5,598 field photographs of 12 orders, 64 px, at most 37 million MACs; in brackets core-minutes used. Dotted: majority class"
    compared = figures.searches_compared(by_minutes, results.table("searches_field_orders_runs"), caption)
    display(figures.keep(compared, "searches_by_minutes"))

# %% [markdown]
# *What to see.* Compare `warm_start` with `hand_drawn` as well as with random search: what it adds to random search may be what
# its starting point adds. That design was known to do well on the test split of these photographs before it became a start, so
# the comparison on them favours both; the lines above are evidence about searching only in so far as `warm_start` is above
# `hand_drawn`.
#
# With few photographs a network from scratch is the wrong start. Cells can also be put on the maps of a network with published
# weights, computed once, so that a candidate trains in half a minute. Stage 6 is the output of the sixth group of blocks.

# %%
stems = results.table("stems_field_pests")
print(results.describe("stems_field_pests"))
if len(stems):
    shown = stems[
        ["model", "stage", "n_seeds", "accuracy", "accuracy_sd", "mmacs", "milliseconds", "core_minutes"]
    ]
    print(shown.round(3).to_string(index=False, na_rep="-"))
    caption = "Nine classes of web photographs, EfficientNet-Lite0 with ImageNet weights; mean and sd over seeds, one CPU thread"
    display(figures.keep(figures.accuracy_against_milliseconds(stems, caption), "stems"))

# %% [markdown]
# *What to see.* Searched cells beside random and hand-drawn ones at the same stage, and all of them beside the whole network with a
# linear head: differences smaller than the spread over seeds are no reason to search.
#
# **Not run, because there was no GPU:** the latency and memory there of the fifteen networks at preset `paper`
# (`bionas ablate --rows E001-E015 --seeds 1 --mode full` fills the column `gpu_ms`), and E009 searched and retrained at full
# scale on these photographs (`bionas ablate --rows E009 --seeds 1 --mode full -p source=folder
# -p data_dir=../shared/data/field_orders -p metadata=none`).
#
# ## 8 · What can be concluded
#
# The embedded specimens are synthetic. Rows on them show that the code of every fusion, strategy and set runs and learns; how
# the searches compare *in this space, on this task, at this budget*; what a network costs, which does not depend on the
# images; and how large the differences between seeds are beside the differences that a table reports.
#
# Section 2 shows that seeds of one row differ by more than rows do. A table with one run per row, such as the paper's, could
# have come out in nearly any order at this budget; with one run per row one cannot tell whether that holds at the paper's.
#
# They do not show how well insects are recognised. Synthetic orders differ in ways that the program defines, and so do the
# records that accompany them: a fusion that does well here has found what was put in. Ranks of fusions need not carry over to
# real records, where metadata mostly predict the class directly (notebook 07). The photographs are evidence for the rows that
# need no metadata, at 64 pixels, on a budget of minutes where the paper spent ten hours and more. Nothing here says that the
# paper's figures are wrong; it says which of them could be told from chance with three seeds, in a setting that can be rerun.
#
# ## Recap
#
# - Fifteen experiments are fifteen rows of data; a row that failed or was not run says so in the table.
# - A search is worth what it adds to random search at an equal budget, with the standard error of the difference. At a budget
#   of minutes none of five added twice its error.
# - In a space that can be enumerated, regret is exact, and "no better than chance" is a result.
# - The paper's memory column is its FLOPs column times 13.55, to one per cent on average. Networks counted here are not
#   like that.
# - Skips can be counted in every epoch, and a search can be told to stop for them.
#
# ## Exercises
#
# 1. *To run.* `bionas ablate --rows E007,full/gating/random --seeds 3 --mode quick`: a row of your own beside E007.
#    Is gating with random search better or worse than E003, gating with a gradient search?
# 2. *To change.* Give section 6 `-p theta_learning_rate=0.03`, then `-p max_skips=1`. At which epoch does it stop,
#    and does a warm-up of five epochs move that?
# 3. *To think about.* The budget counts images, but an image costs a supernet more time than a single network. Which
#    strategies would gain if the budget were seconds, and which of the two would a lab care about?
