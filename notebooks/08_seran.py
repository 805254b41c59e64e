# %% [markdown]
# # 08 · SERAN
#
# > **What you will have at the end.** The network of a neighbouring paper, built from its text: gates that weigh channels,
# > masks that weigh places, and both alternating in a ResNet. Its modules worked by hand; its parameters beside those that the
# > text implies; what had to be assumed; its Tables 1 and 2 beside narrower versions of the same networks on real photographs,
# > trained until the training error stops falling; and its text compared with its own tables.
#
# 1. the gate
# 2. the attention module
# 3. the networks, and how many parameters they have
# 4. what had to be assumed
# 5. its text against its tables
# 6. a small training, and what makes the task hard
# 7. what the mask weighs
# 8. Tables 1 and 2, published and ours
# 9. species, and the course of training
# 10. its data
#
# *SERAN* classifies insects by species from images alone. It belongs here because it uses the main paper's
# primitive `squeeze_excite` in a design made by hand.

# %%
import os

import pandas as pd
import torch
from IPython.display import display

from bionas import figures
from bionas.specimens.loader import normalised
from bionas.studies import report, results
from bionas.studies.seran import study as seran_study
from bionas.studies.seran.network import POOLINGS, ROWS, SIZES, AttentionModule, SEGate, build, size
from bionas.training.cost import cost

pd.set_option("display.max_colwidth", 90, "display.width", 160)

# %% tags=["parameters"]
mode: str = os.environ.get("BIONAS_MODE", "quick")  # smoke, quick or full
source: str = "synthetic"  # sections 6, 7: synthetic, folder (photographs), bioscan5m, bioscan1m or insects1m
data_dir: str = None  # where the collection lies, for every source but synthetic
source_options: str = ""  # what else the source takes, by name (notebook 01, last section)
target: str = "order"  # the column to predict: the paper's is species
split: str = "seran"  # 70, 15 and 15 % of each class; paper, official, bin_disjoint or geography_disjoint
rows: str = "seran attention92"  # networks of section 6, by the names of section 3
size_name: str = None  # full (224 px), quarter or tiny (64 px); None: full in mode full, else tiny
limit: int = None  # draw that many specimens; None: by mode
epochs: int = None  # of each training; None: by mode
batch_size: int = None  # None: by mode
device: str = "auto"  # auto, cpu, cuda or mps
seed: int = 0  # of the trainings
run_dir: str = None  # where runs are written; None: runs/ of the repository

# %% [markdown]
# ## 1 · The gate
#
# > **The paper says** (3.2) that "global spatial information gets squeezed into channel embedding", which passes "two
# > convolutional layers with a ReLU in between, and finally a Sigmoid". **It does not say** how wide the space between the
# > two layers is. **We assume** a sixteenth of the channels, as in the paper that introduced the gate.
#
# Sixteen channels, so one number in between. Weights of 0.02 and 0.5 make it easy to compute by hand.

# %%
# NBVAL_CHECK_OUTPUT
gate = SEGate(16).requires_grad_(False)
first, second = gate.excitation[0], gate.excitation[2]
for layer, weight in ((first, 0.02), (second, 0.5)):
    layer.weight.fill_(weight), layer.bias.fill_(0)
x = torch.arange(16.0).view(1, 16, 1, 1).expand(1, 16, 2, 2)
squeezed = x.mean(dim=(0, 2, 3))
by_hand = 1 / (1 + torch.exp(-0.5 * (0.02 * squeezed.sum()).clamp(min=0)))
print(f"sum of the channel means {float(squeezed.sum()):.0f}, gate by hand {float(by_hand):.6f}")
print("the module does the same:", torch.allclose(gate(x), x * by_hand))

# %% [markdown]
# In an SE-ResNet module the gate weighs the residual branch, and the identity is added after it: a gate of zero leaves the
# block's input unchanged: a gate can remove a block's contribution, but not the identity.
#
# ## 2 · The attention module
#
# A trunk of residual blocks computes T. A mask branch takes the same features, halves their size, enlarges them again with
# lateral connections, and ends in a sigmoid: M, one number in 0 to 1 for each channel and place.
#
# > **The paper says** (3.3) that a "bottom-up and top-down mask branch" is integrated with a trunk, after the Residual
# > Attention Network. **It does not say** how many blocks each has. **We assume** that network's own: one block before and
# > after, two in the trunk, one between two poolings; H = (1 + M) T.
#
# The 1 makes it trainable from scratch: a mask of zeros leaves the trunk unchanged instead of setting it to zero.

# %%
# NBVAL_CHECK_OUTPUT
torch.manual_seed(0)
module = AttentionModule(16, poolings=2).eval().requires_grad_(False)
image = torch.randn(1, 16, 16, 16)
before = module.before(image)
trunk, mask = module.trunk(before), module.mask(before)
print(
    "trunk",
    tuple(trunk.shape),
    "mask",
    tuple(mask.shape),
    "mask within 0..1:",
    bool((mask > 0).all() and (mask < 1).all()),
)
print("module = after((1 + M) T):", torch.allclose(module(image), module.after((1 + mask) * trunk)))
print("poolings of the mask by stage, maps of 56, 28 and 14 pixels at 224:", *POOLINGS)

# %% [markdown]
# ## 3 · The networks, and how many parameters they have
#
# Every network of its two tables, and SENet-154 of its text, is written as four words, one per stage: `r` residual block, `s`
# SE-ResNet module, `a` attention module, `g` block of SENet-154; the map is halved between stages. The counts of modules are the paper's, their places are ours.
#
# > **The paper says** (4.2) that SERAN-D has 2.16×10⁷ parameters fewer than SENet-154, and SERAN 2.87×10⁷ fewer than
# > SERAN-D; ten SE and four attention modules in the one, four and three in the other. **It does not say** how many
# > parameters that is: 93.5 and 64.8 million follow if SENet-154 is counted with a classifier of 1000 classes, as usual.

# %%
# NBVAL_CHECK_OUTPUT
counts = seran_study.parameter_counts()
millions = counts.assign(
    ours_M=(counts["parameters"] / 1e6).round(2), text_M=(counts["published"] / 1e6).round(2)
)
print(millions[["row", "layout", "se", "attention"]].to_string(index=False), "\n")
print(millions[["model", "ours_M", "text_M", "off_percent", "from"]].to_string(index=False, na_rep="-"))

# %% [markdown]
# The two ResNets equal torchvision's. SERAN and SERAN-D are 1.7 and 1.6 per cent larger than the text implies, and differ by
# 29.2 million where the text has 28.7. Other layouts fit these counts as well, so the layout need not be theirs.
#
# The architecture (its Fig. 2), drawn from the module:

# %%
figures.seran_svg(
    build("seran", 123, size("tiny").width), "SERAN: SE modules late, attention modules early (width 1/16)"
)

# %% [markdown]
#
# What an image costs at full size with its 123 classes, counted without computing.

# %%
# NBVAL_CHECK_OUTPUT
chosen = size("full")
for row in ("attention92", "se_resnet101", "seran", "seran_d"):
    with torch.device("meta"):
        full = build(row, 123, chosen.width)
    found = cost(full, chosen.image_size)
    print(
        f"{ROWS[row].title:15}{found['macs'] / 1e9:6.2f} GMACs {found['parameters'] / 1e6:7.2f} M parameters"
    )
print(
    "widths of the narrower versions:", *(f"{name} {size(name).width:g}" for name in SIZES if name != "full")
)

# %% [markdown]
# The narrower versions that section 8 trains have a quarter and a sixteenth of every channel count at the same depth. They are
# ours, for machines without a GPU, and not networks of the paper.
#
# ## 4 · What had to be assumed
#
# Each line is a choice that the text leaves open.

# %%
# NBVAL_CHECK_OUTPUT
for told in seran_study.assumptions().itertuples():
    print(f"{told.matter}\n    text: {told.text}\n    ours: {told.ours}")

# %% [markdown]
# ## 5 · Its text against its tables
#
# Seven figures of section 4 of its text follow from its tables. Two do not, as worded: "Without the SE blocks, the accuracy of the
# modified network declines by 3.59% (top-1)" names no network to compare with but "the model with Attention module only",
# which is the network without SE blocks itself.

# %%
# NBVAL_CHECK_OUTPUT
print(seran_study.audit().to_string(index=False))

# %% [markdown]
# 3.59 is the distance between the two ablations, attention only and SE only. What the SE modules add to the full network
# is 6.41 points of its Table 2, more than the text claims for them. A harmless reading is a slip in the comparison's name.
#
# ## 6 · A small training, and what makes the task hard
#
# > **The paper says** (4.1) AdamW, weight decay 0.01, an initial rate of 5×10⁻⁴, 224 pixels, crops or padding, flips both
# > ways, lighting, zoom; 70, 15 and 15 per cent of each species. **It does not say** how many epochs, nor which batch.
#
# Here this recipe is used on the collection of this run, with a narrow network and so few epochs that the result only shows
# that it runs.

# %%
small = {
    "smoke": {"limit": 120, "epochs": 1},
    "quick": {"limit": 300, "epochs": 3, "batch_size": 32},
    "full": {},
}[mode]
given = {"limit": limit, "epochs": epochs, "batch_size": batch_size}
size_name = size_name or ("full" if mode == "full" else "tiny")
plan = seran_study.study_plan(
    size_name, mode, source=source, data_dir=data_dir, source_options=source_options, target=target, split=split,
    device=device, seed=seed, run_dir=run_dir, **small | {name: value for name, value in given.items() if value is not None},
)  # fmt: skip
specimens = plan.specimens()
print(f"{len(specimens):,} specimens, {len(specimens.class_names)} classes of {target}. {specimens.caption}.")

# %% [markdown]
# What makes the task hard (its Fig. 1): different classes that look alike, and one class in different looks. Both rows are
# chosen by the distance of photographs averaged down to 8×8 pixels.

# %%
images, named = specimens.images.pixels(range(len(specimens))), specimens.label_names
figures.look_alikes(images, named, caption=specimens.caption)

# %%
measured = seran_study.measured(plan, rows.split(), [seed], size_name)
table = seran_study.table(measured, plan, "this notebook")
errors = [f"{error}_mean" for error in seran_study.ERRORS]
shown = table[["model", *errors, "parameters", "mmacs", "epochs", "images_seen"]].set_index("model")
shown.rename(columns=lambda name: name.removesuffix("_error_mean")).round(1).map(report.number)

# %% [markdown]
# Errors in per cent. The top-5 error is small for any model that ranks classes by frequency: see the majority class.
#
# ## 7 · What the mask weighs
#
# The first attention module of the network just trained, on a specimen of the test split: the two channels with the largest
# mean in the trunk. T and H share a scale; the mask runs from 0, light, to 1, dark.

# %%
row = next(name for name in rows.split() if ROWS[name].architecture.count("a"))
network = seran_study.restored(plan, row, size_name, seran_study.trained(plan, row, size_name))
test = plan.splits().test
first = test.examples(1)[:1]
trunk, mask = (
    maps[0] for maps in seran_study.attention_maps(network, normalised(test.images.take(first)))[0]
)
loudest = trunk.mean(dim=(1, 2)).argsort(descending=True)[:2]
figures.attention(
    test.images.pixels(first)[0], trunk[loudest].numpy(), mask[loudest].numpy(),
    f"{ROWS[row].title}, {size_name}, first module, {trunk.shape[-1]} x {trunk.shape[-1]} places. {specimens.caption}",
)  # fmt: skip

# %% [markdown]
# After so short a training the mask is nearly constant, so H is T times a factor for each channel. If attention localises, the
# mask should follow the animal's outline; `-p epochs=60` trains long enough to look for it.
#
# ## 8 · Tables 1 and 2, published and ours
#
# Do not subtract these columns. Theirs: 123 species of 34,525 photographs, full width, 224 pixels. Ours: narrower networks on
# other photographs, 5,598 field photographs of 12 orders at 64 pixels, every network under one budget. The order of the rows
# can be compared.

# %%
ours = pd.concat([results.table(name) for name in ("seran_field_orders", "seran_field_orders_others")])
compared = seran_study.beside_published(ours)
print(results.describe("seran_field_orders"), results.describe("seran_field_orders_others"), sep="\n")
if len(ours):
    print(
        ours.loc[
            ours["n_seeds"] > 0, ["model", "size", "n_seeds", "epochs", "images_seen", "learning_rate"]
        ].to_string(index=False)
    )


# %%
def beside(errors):
    """Ours and theirs for each of `errors`, as text."""
    columns = {"seeds": compared["n_seeds"]}
    for error in errors:
        pairs = zip(compared[f"{error}_mean"], compared[f"{error}_sd"])
        columns[f"{error}, ours"] = [report.mean_sd(mean, sd) for mean, sd in pairs]
        columns[f"{error}, published"] = [
            f"{value:.2f}" if pd.notna(value) else "" for value in compared[f"published_{error}"]
        ]
    return pd.DataFrame(columns).set_index(compared["model"].rename("per cent"))


of_table = {i: [row.title for row in ROWS.values() if f"seran_table{i}" in row.published] for i in (1, 2)}
table1 = beside(seran_study.ERRORS[:2])
table1[table1.index.isin([*of_table[1], "majority class"])]

# %% [markdown]
# SENet-154 is in the text of section 4.2 alone, "13.33% and 3.99%", taken here for testing errors.

# %%
table1 = beside(seran_study.ERRORS[2:])
table1[table1.index.isin([*of_table[1], "SENet-154", "majority class"])]

# %% [markdown]
# Table 2 has validation errors alone.

# %%
table2 = beside(seran_study.ERRORS[:2])
table2[table2.index.isin([*of_table[2], "majority class"])]

# %% [markdown]
# The effect of each part: its validation error minus that of SERAN-D, in points, with the standard error where there are
# several seeds.

# %%
rows = compared.set_index("model")
error, whole = "val_top1_error", rows.loc["SERAN-D"]
parts = []
for title in of_table[2]:
    row = rows.loc[title]
    variance = sum(one[f"{error}_sd"] ** 2 / max(one["n_seeds"], 1) for one in (row, whole))
    ours_above = report.mean_sd(row[f"{error}_mean"] - whole[f"{error}_mean"], variance**0.5)
    parts.append(
        {
            "model": title,
            "ours ± standard error": ours_above,
            "published": row[f"published_{error}"] - whole[f"published_{error}"],
        }
    )
pd.DataFrame(parts).set_index("model").drop("SERAN-D").round(2)

# %%
figures.published_errors(
    compared[compared["model"].isin(of_table[1])], "test_top1_error",
    "Left: narrower networks on field photographs of 12 orders. Right: full width, photographs of 123 species",
)  # fmt: skip

# %% [markdown]
# Are the rows in the same order? Spearman's rank correlation over the networks that were run, and what each cost.

# %%
both = compared[compared["n_seeds"] > 0].dropna(subset=["published_test_top1_error"])
if len(both) > 2:
    ranks = both["test_top1_error_mean"].corr(both["published_test_top1_error"], method="spearman")
    print(f"{len(both)} networks, rank correlation of the test errors {ranks:.2f}")
    print(ours.loc[ours["n_seeds"] > 0, ["model", "mmacs", "parameters", "minutes"]].to_string(index=False))
else:
    print(f"{len(both)} networks: nothing to compare yet. {results.describe('seran_field_orders')}")

# %% [markdown]
# The networks at full size on a GPU, 224 pixels (64-pixel photographs enlarged): `not run` here, because there was no GPU.
# `bionas seran --size full --rows seran seran_d -p mode=full -p source=folder -p data_dir=FOLDER` trains them.
#
# ## 9 · Species, and the course of training
#
# > **The paper says** (4.2) that without attention modules the network "starts to show signs of over-fitting after 20 epochs",
# > and with attention modules alone it does not. **It does not say** which curve shows it, nor for how long was trained. **We
# > assume** a validation loss that rises while the training error falls.
#
# Networks at a sixteenth of their width on mounted wings of twenty bee species, two photographs of most specimens, divided by
# specimen. Lighting differs by species, so the errors say nothing about wings; the course of training is what to look at.
# `still_falling`: points by which the training error of the last tenth of the epochs is below that of the tenth before: only a
# small figure says that training was long enough to rank networks. `rise`: the last validation loss above the smallest, per
# cent of it.

# %%
for name in ("seran_bee_wings", "seran_bee_wings_others"):
    print(results.describe(name))
courses = results.table("seran_bee_wings_curves")
if len(courses):
    wings = results.table("seran_bee_wings")
    scores = [
        "test_top1_error_mean",
        "test_top1_error_sd",
        "test_top5_error_mean",
        "published_test_top1_error",
    ]
    display(wings[["model", "n_seeds", *scores]].round(1).fillna(""))
    display(seran_study.over_fitting(courses))
    display(figures.error_curves(courses, "Narrow networks on bee wings, 20 species, divided by specimen"))

# %%
if len(courses):
    turned = seran_study.over_fitting(courses).set_index("model")
    for title in ("SERAN-D, SE only", "SERAN-D, attention only"):
        if title in turned.index:
            row = turned.loc[title]
            print(
                f"{title}: validation loss is smallest at epoch {row['best_epoch']:.0f} of {row['epochs']:.0f}"
                f" and {row['rise']:.0f} % above that at the end."
            )

# %% [markdown]
# ## 10 · Its data

# %%
# NBVAL_CHECK_OUTPUT
print(seran_study.DATA)

# %% [markdown]
# With such a folder: `-p source=folder -p data_dir=FOLDER -p target=species`.
#
# ## Recap
#
# - A gate weighs channels, a mask weighs places, and (1 + M) T keeps both trainable from the first step.
# - The published counts of modules and parameters determine a layout to within one or two per cent, given the assumptions.
# - "3.59 %" is the difference of two ablations; relative to the full network its Table 2 gives 6.41.
# - Our figures are of narrower networks on other photographs, in columns of their own.
#
# ## Exercises
#
# 1. *To run.* `-p rows="seran_d seran_d_ran_only seran_d_se_only" -p epochs=20`. Which half of the network does the collection of
#    this run need?
# 2. *To change.* Put the SE modules before the attention modules in `SERAN_D.stages`. How many parameters does that move, and
#    is there a layout that meets both published counts within a tenth of a per cent?
# 3. *To think about.* A mask of the same size as the trunk has as many numbers as the features it weighs. What would tell
#    attention from a second set of features?
