# %% [markdown]
# # 03 · The search
#
# > **What you will have at the end.** A network found by gradient descent, in a few minutes on a laptop, in a space of billions
# > of networks (notebook 02 counts them); the weights of its choices, epoch by epoch and edge by edge; and how clearly the
# > search decided, at the paper's learning rate and at one scaled to the number of steps.
#
# 1. the question
# 2. the relaxation: a choice becomes a weighted sum
# 3. one step of each kind, by hand
# 4. the search
# 5. what it chose, and how sure it was
# 6. the same search at another rate of theta
# 7. explore it yourself
#
# Notebook 04 takes the network from here, trains it, and asks what the search was worth.

# %% tags=["parameters"]
import os

mode: str = os.environ.get("BIONAS_MODE", "quick")  # smoke, quick or full
source: str = "synthetic"  # synthetic, folder (your own photographs), bioscan5m, bioscan1m or insects1m
data_dir: str = None  # where the collection lies, for every source but synthetic
source_options: str = ""  # what else the source takes, by name (notebook 01, last section)
target: str = "order"  # the column to predict, as order, family or genus
min_records: int = None  # classes of fewer records become Other; None: the source's own rule
metadata: str = None  # which columns go with the image: as_published, no_target, leak_free or none; None: leak_free where the records hold it, else none
split: str = None  # paper, official, bin_disjoint or geography_disjoint; None: a folder's own if it has one, else paper
preset: str = None  # sizes of the network: tiny, quick, narrow, laptop or paper; None: by mode
primitive_set: str = "full"  # full, reduced or conv_only
theta_data: str = "val"  # which data score theta: val (Eq. 12) or train (Algorithm 1 to the letter)
theta_learning_rate: float = None  # Adam's, for theta; None: scaled in smoke and quick, the paper's in full
warmup_epochs: int = 0  # epochs in which w alone is trained, before theta moves
max_skips: int = None  # search ends once skip_connect leads more edges than this (notebook 05); None: never
shared_theta: bool = False  # one theta for all cells instead of one a cell
search_epochs: int = None  # passes over the training split; None: by mode
batch_size: int = None  # images a step; None: by mode (in mode full, the largest that memory allows)
precision: str = "auto"  # auto (fp16 on CUDA, fp32 elsewhere), fp32, fp16 or bf16
device: str = "auto"  # auto, cpu, cuda or mps
seed: int = 0  # of initialisation, order and dropout
run_dir: str = None  # where runs are written; None: runs/ of the repository

# %%
import dataclasses
import math

import pandas as pd
import torch
import torch.nn.functional as F

from bionas import figures
from bionas.figures import widgets
from bionas.genotype import EDGES, derive, space_size
from bionas.network import NetworkConfig, SearchNetwork
from bionas.operators import PRIMITIVE_SETS
from bionas.studies import side_by_side
from bionas.studies.sentences import span_of_weights
from bionas.system import places
from bionas.training import experiments
from bionas.training.decisions import agreement, decisiveness

plan = experiments.plan(
    mode, source=source, data_dir=data_dir, source_options=source_options, target=target, min_records=min_records,
    metadata=metadata, split=split, preset=preset, primitive_set=primitive_set, theta_data=theta_data,
    theta_learning_rate=theta_learning_rate, warmup_epochs=warmup_epochs, max_skips=max_skips, shared_theta=shared_theta,
    search_epochs=search_epochs, batch_size=batch_size, precision=precision, device=device, seed=seed, run_dir=run_dir,
)  # fmt: skip

# %% [markdown]
# ## 1 · The question
#
# For each of three edges in each cell, one of ten primitives has to be chosen. There are too many networks to try them all,
# and even a single trial means training a network.

# %%
sizes = plan.network()
print(
    f"{sizes.cells} cells, {3 * sizes.cells} edges, {space_size(sizes.cells, plan.primitive_set):.1e} networks"
)
print(plan.specimens().caption)

# %%
train, val, test = plan.splits()
print(f"{len(train):,} specimens to learn weights from, {len(val):,} to score choices on.")
print(f"{len(test):,} are for the test: this notebook does not use them.")

# %% [markdown]
# ## 2 · The relaxation: a choice becomes a weighted sum
#
# Instead of choosing, every edge computes *all* its primitives and adds them up with weights that sum to one:
#
# $$\alpha_k^{(e)} = \frac{\exp(\theta_k^{(e)})}{\sum_j \exp(\theta_j^{(e)})} \qquad\text{(Eqs. 6 and 14)}$$
#
# The choice now depends on real numbers θ, which have gradients. The network that computes every candidate at once is called
# the *supernet*. One of its edges, with all its operations (the paper's Fig. 3):

# %%
supernet = plan.supernet()
theta = supernet.theta
figures.mixed_edge_svg(
    supernet.primitives, supernet.alpha()[0, 0].tolist(), "Before the search all weights are nearly equal"
)

# %%
print(f"theta has shape {tuple(theta.shape)}: cells, edges, primitives.")
print(f"It starts near zero (sd {theta.std().item():.4f}), so each alpha starts near 1/{theta.shape[-1]}.")

# %% [markdown]
# > *The paper says* that θ starts from $\mathcal{N}(0, 10^{-3})$ and belongs to "each connection within each cell".
# > *It does not say* whether 10⁻³ is a variance or a standard deviation, nor whether cells of a kind share their θ, as
# > they do in DARTS. **We take** the standard deviation, and a θ for every cell; `-p shared_theta=True` shares it.
#
# θ is small. Everything else is *w*, the weights of the operations and of the layers around the cells.

# %%
# NBVAL_CHECK_OUTPUT
toy_sizes = NetworkConfig(image_size=16, channels=4, cells=3, stem_stride=2, dropout=0.0)
torch.manual_seed(0)
toy = SearchNetwork(toy_sizes, n_classes=3)
n_theta = sum(p.numel() for p in toy.architecture())
n_w = sum(p.numel() for p in toy.weights())
print(f"A small supernet of {toy_sizes.cells} cells: {n_theta} numbers in theta, {n_w:,} in w.")

# %% [markdown]
# ## 3 · One step of each kind, by hand
#
# The search is a bilevel problem: the best θ is the one whose *trained* weights do best on data they were not
# trained on.
#
# $$\min_\theta \mathcal{L}_{\rm val}\left(w^*(\theta), \theta\right) \quad\text{(12)}, \qquad
# w^*(\theta) = \arg\min_w \mathcal{L}_{\rm train}(w, \theta) \quad\text{(13)}$$
#
# Training w to the end for every change of θ would take too long, so Algorithm 1 alternates: **even batches update w, odd
# batches update θ** (the paper's Fig. 4).

# %%
figures.algorithm_svg(theta_data={"val": "validation", "train": "training"}[plan.theta_data])

# %% [markdown]
# Here is one batch of each, on the small supernet and on noise, with the two optimisers as published.

# %%
w_optimizer = torch.optim.AdamW(toy.weights(), lr=1e-3, weight_decay=1e-4)
theta_optimizer = torch.optim.Adam(toy.architecture(), lr=3e-4, weight_decay=1e-3)
torch.manual_seed(1)
image, label = torch.randn(8, 3, 16, 16), torch.randint(0, 3, (8,))


def update(own, other, optimizer):
    [p.requires_grad_(False) for p in other]  # "freeze"
    [p.requires_grad_(True) for p in own]  # "unfreeze"
    loss = F.cross_entropy(toy(image), label, label_smoothing=0.1)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(
        own, 1.0
    )  # before the step: after it, as in the listing, it would do nothing
    optimizer.step()
    optimizer.zero_grad()


# %%
# NBVAL_CHECK_OUTPUT
def moved(before, after):
    return "moved" if any((b != a).any() for b, a in zip(before, after)) else "did not move"


def snapshot(parameters):
    return [p.detach().clone() for p in parameters]


for turn, own, other, optimizer in [
    ("even batch", toy.weights(), toy.architecture(), w_optimizer),
    ("odd batch ", toy.architecture(), toy.weights(), theta_optimizer),
]:
    w, architecture = snapshot(toy.weights()), snapshot(toy.architecture())
    update(own, other, optimizer)
    print(f"{turn}: w {moved(w, toy.weights())}, theta {moved(architecture, toy.architecture())}")

# %% [markdown]
# Adam's first step is as long as its learning rate, whatever the gradient; later steps are hardly longer. So the sum of the
# learning rate over all θ steps bounds how far θ can travel. We call it the *theta reach* and print it with every search.

# %%
# NBVAL_CHECK_OUTPUT
step = (toy.theta - architecture[0]).abs().median().item()
print(f"median |step| of theta: {step:.1e}")
print(f"odd batches until a theta has moved by 1, at best: {1 / 3e-4:,.0f}")

# %% [markdown]
# With a few hundred odd batches at 3e-4, every θ stays within about 0.1 of where it began, and every α within about ten per
# cent of 1/10: such a search cannot decide clearly. The paper's own search has at least 3,510 odd batches per epoch, a reach
# of one.
#
# > *The paper says*, in Eq. 12, that θ is scored on validation data; its Algorithm 1 draws both kinds of batch from the
# > one data set 𝒟. *It does not say* which was done. **We follow Eq. 12**: after each training batch for w comes a
# > validation batch for θ. `-p theta_data=train` follows the listing to the letter.
# >
# > *The paper says* that θ has a learning rate of 3e-4 from the first batch on. *It does not say* how many batches there were.
# > **We scale** the rate in modes `smoke` and `quick`, so that the reach is that of one epoch of the paper
# > (`theta_learning_rate="scaled"`); mode `full` uses 3e-4, and so does `-p theta_learning_rate=3e-4`. Section 6 shows both.
# > `-p warmup_epochs=3` trains w alone first, so that convolutions are trained before they are compared with pools and skips,
# > which need no training. `-p max_skips=2` ends the search before skips fill the cells (notebook 05).
# >
# > *The paper says* that w has a learning rate of 1e-3. *It names* no schedule. **We assume** a cosine from 1e-3 in the search;
# > `schedule="constant"` is an option.
#
# ## 4 · The search
#
# The loop is `bionas.trainer.BilevelTrainer`: the two updates above, a progress bar, and a checkpoint after every epoch. Interrupt it
# and run the cell again: it resumes and ends at exactly the same network. Section 6 compares two rates of θ; where the processor has
# several cores, its searches run side by side with this one.

# %%
rates = {"the paper's rate, 3e-4": "paper", "the rate scaled to the steps": "scaled"}
at_rates = {name: dataclasses.replace(plan, theta_learning_rate=rate) for name, rate in rates.items()}
side_by_side.searches([plan, *at_rates.values()])

# %%
run = experiments.search(plan)
print(
    "done:",
    run.complete,
    "·",
    run.summary["epochs"],
    "epochs ·",
    f"{run.summary['images_seen']:,} images seen",
)

# %% [markdown]
# The results are in one folder of plain files. The figures below are drawn from these files, so they can be redrawn without
# searching again.

# %%
print(places.shown(run.path.parent), "/", run.path.name.split("-")[0])
sorted(p.name for p in run.path.iterdir())

# %%
run.history.round(3)[["epoch", "train_loss", "theta_loss", "val_loss", "train_accuracy", "val_accuracy"]]

# %%
caption = plan.specimens().caption + "."
figures.loss_curves(run.history, caption=caption)

# %% [markdown]
# *What to see.* The training loss is that of the supernet with its mixture of primitives, not of any single network; the loss
# of θ is on validation batches. When the training loss falls and that of θ does not, the supernet has begun to overfit.
#
# ## 5 · What it chose, and how sure it was
#
# One panel per cell, one row per edge; the leading primitive is framed.

# %%
alphas = run.alphas
figures.keep(figures.alpha_heatmap(alphas, caption=caption), "alpha_heatmap")

# %% [markdown]
# The colours are stretched to the largest distance from 1/K, where every weight began, so look at the numbers first. How far
# apart are they, and how far is the first above the second?

# %%
last = alphas[alphas["epoch"] == alphas["epoch"].max()]
ranked = last.sort_values("alpha", ascending=False).groupby(["cell", "edge"])["alpha"]
margin = (ranked.nth(0).to_numpy() - ranked.nth(1).to_numpy()).mean()
print(span_of_weights(last["alpha"], theta.shape[-1]))
print(f"mean lead over the second place: {margin:.4f}; theta reach {run.summary['theta_reach']:.2f}")

# %% [markdown]
# The course of one cell: one panel per edge, one line per primitive.

# %%
figures.alpha_trajectories(alphas, cell=0, caption=caption)

# %% [markdown]
# Differentiable search has a known failure: edges fill up with skip connections, which help a supernet early on and make a poor
# network. Counting the leaders by epoch shows whether that happens here.

# %%
figures.skip_count(alphas, caption=caption)

# %% [markdown]
# The derived network, by the highest α on each edge (notebook 04 explains the rule):

# %%
found = run.genotype
print(found.describe())
found

# %% [markdown]
# The derived network as a whole (the paper's Fig. 1):

# %%
figures.network_svg(plan.derived(found))

# %% [markdown]
# The rule that turns weights into a choice is an argmax per edge. On a table small enough to check by eye, with the six
# primitives of the reduced set:

# %%
# NBVAL_CHECK_OUTPUT
weights = [[0.1, 0.1, 0.5, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1, 0.2, 0.4], [0.1, 0.2, 0.1, 0.4, 0.1, 0.1]]
table = pd.DataFrame(weights, index=EDGES, columns=PRIMITIVE_SETS["reduced"])
print(table.to_string(), "\n")
print(derive([weights], table.columns, reductions=[False], primitive_set="reduced").describe())

# %% [markdown]
# ## 6 · The same search at another rate of theta
#
# The same supernet, data, order and seed, with θ at the paper's rate and at the scaled one. (Where a search has 3,510 θ steps or
# more, both are the same rate.)

# %%
searches = {name: experiments.search(at_rate) for name, at_rate in at_rates.items()}

# %%
compared = {}
for name, searched in searches.items():
    alpha = widgets.AlphaTable.of(searched.alphas).alpha[-1]  # (cells, 3, K)
    decided = decisiveness(alpha)
    compared[name] = {
        "theta reach": searched.summary["theta_reach"],
        "largest alpha": alpha.max(),
        "mean margin": decided.mean_margin,
        "least margin": decided.least_margin,
        "entropy / log K": decided.mean_entropy / math.log(alpha.shape[-1]),
    }
pd.DataFrame(compared).T.round(4)

# %%
shared = agreement([searched.genotype for searched in searches.values()])
print(
    f"Both searches chose the same primitive on {shared:.0%} of the edges (chance: about {1 / theta.shape[-1]:.0%})."
)

# %% [markdown]
# A *margin* is the best α minus the second best on an edge. The *entropy* of an edge, divided by log K, is 1 where all weights are
# equal and 0 where one has everything. Two searches that differ in their seed can be compared in the same way: their *agreement* is
# the share of edges with the same primitive.

# %%
largest = max(searched.alphas["alpha"].max() for searched in searches.values())  # one scale for both
for name, searched in searches.items():
    scale = largest - 1 / theta.shape[-1]
    figures.alpha_heatmap(searched.alphas, caption=f"θ at {name}. {caption}", furthest=scale).show()

# %%
for name, searched in searches.items():
    drawn = figures.alpha_trajectories(searched.alphas, cell=0, caption=f"θ at {name}. {caption}")
    drawn.update_yaxes(range=[0, 1.05 * float(largest)]).show()

# %% [markdown]
# *What to see.* At the paper's rate all lines stay near 1/K. At the scaled rate they separate. A clear decision is not yet a good
# one: whether the derived network is better than random ones is measured in notebooks 04 and 05.
#
# ## 7 · Explore it yourself
#
# Move the slider: the weights after each epoch, leaders framed. This figure needs no running kernel.

# %%
figures.alpha_epochs(alphas, caption)

# %% [markdown]
# With a kernel, choose a cell, an edge and an epoch: the bars are the weights, the drawing is the cell as it would be derived at
# that epoch. Below it is the same picture for the last epoch.

# %%
explorer = widgets.alpha_explorer(alphas)
explorer

# %%
widgets.alpha_snapshot_svg(alphas, cell=0, edge=EDGES[0], epoch=int(alphas["epoch"].max()))

# %% [markdown]
# ## Recap
#
# - A choice among primitives becomes a softmax over numbers θ, which can be optimised by gradients (Eqs. 6, 14).
# - Even batches train the weights, odd batches move θ, each with its own optimiser and its own data (Eqs. 12, 13).
# - The theta reach bounds how far θ can travel. At the published rate and a few hundred steps it is about 0.1, and the leads are
#   small; the argmax does not show how small.
# - The run folder holds every epoch's weights, so any of this can be redrawn, resumed and compared.
#
# ## Exercises
#
# 1. *To run.* Search again with `-p theta_data=train`. How many edges keep their primitive? Would another seed
#    have changed as many?
# 2. *To change.* Give θ a ten times larger rate than the scaled one (`-p theta_learning_rate=...`). Do the margins grow, and is
#    the derived network of notebook 04 better, or only chosen more clearly?
# 3. *To think about.* A primitive with parameters must be trained before its output is of use; a skip or a pool is of
#    use at once. Which of the two does alternating optimisation favour early on, and what would you change?
