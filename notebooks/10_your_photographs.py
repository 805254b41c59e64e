# %% [markdown]
# # 10 · Your photographs
#
# > **What you will have at the end.** A model of your own photographs in a folder that can be handed on; a table that names new
# > photographs, and says where it is not sure; a page to check the doubtful ones by eye; and the result in the exchange
# > format of biodiversity databases.
#
# 1. photographs in folders
# 2. train
# 3. name new photographs
# 4. look at the doubtful ones
# 5. hand it on
# 6. what to expect on real photographs
#
# Every step is also a command: `bionas train`, `bionas predict`, `bionas review`, `bionas export`. Without a folder of your
# own the notebook takes embedded specimens, which are **synthetic**. As a page for others, without the code:
# `pip install "bionas[voila]"`, then `voila 10_your_photographs.ipynb`.

# %% tags=["parameters"]
import os

mode: str = os.environ.get("BIONAS_MODE", "quick")  # smoke, quick or full
photographs: str = None  # a folder with a sub-folder per class, or with labels.csv; None: embedded specimens
new_photographs: str = None  # a folder of photographs to name; None: embedded specimens
rank: str = "order"  # the column to predict, as order or family
model_kind: str = "auto"  # auto, pretrained, pretrained:TIMM_NAME or searched
minutes: float = 0.0  # time for fine-tuning a pretrained network; 0: its features stay as they are
error_rate: float = 0.05  # share of wrong answers among decided ones that is aimed at
seed: int = 0  # of the division and of the training
run_dir: str = None  # where the model and the tables are written; None: runs/ of the repository

# %%
import contextlib
import io
import zipfile

import numpy as np
import pandas as pd
from IPython.display import HTML

from bionas import figures, lab
from bionas.lab import darwin_core
from bionas.lab.answers import read_answers
from bionas.lab.example import write_example
from bionas.lab.exporting import lineage
from bionas.lab.photographs import find
from bionas.lab.review import doubtful_first, framed, write_review
from bionas.specimens import load_specimens
from bionas.studies import results
from bionas.system import places

smoke = mode == "smoke"
out = places.runs(run_dir) / f"10_your_photographs-{mode}"

# %% [markdown]
# ## 1 · Photographs in folders
#
# One sub-folder per class is enough. A table `labels.csv` beside the photographs (`file,order,family,specimen`) can say more:
# wider ranks, and which photographs show the same animal.

# %%
if photographs is None:
    embedded = load_specimens("synthetic", cache_dir=places.cache())
    photographs, new = write_example(embedded, out, *((14, 3) if smoke else (60, 12)))
    new_photographs = new_photographs or new
    print("Embedded specimens, synthetic: drawn by the program.")
labelled = find(photographs)
print(f"{len(labelled):,} labelled photographs, {len(find(new_photographs)):,} to name.")

# %% [markdown]
# ## 2 · Train
#
# > **What happens.** The photographs are divided into training, validation and test. A published network (EfficientNet-Lite0,
# > trained on ImageNet) turns each into 1,280 numbers, and a linear layer learns the classes from them. Validation
# > photographs calibrate the scores. Test photographs are read once, for the report.
#
# On a few hundred photographs this is far better than training a network from scratch, and takes a few minutes.

# %%
said = []
model = lab.train(
    photographs, out / "model", rank=rank, model_kind=model_kind, minutes=minutes, error_rate=error_rate,
    seed=seed, image_size=64 if smoke else None, overwrite=True, say=said.append,
)  # fmt: skip
print("\n".join(line for line in said[1:] if not line.startswith("Model folder")))

# %% [markdown]
# The folder holds everything that another machine needs. Nothing in it is executed when it is read.

# %%
# NBVAL_CHECK_OUTPUT
print(
    *(
        name
        for name in ("model.safetensors", "model.json", "README.md", "report.html")
        if (out / "model" / name).exists()
    ),
    sep="\n",
)

# %%
# NBVAL_CHECK_OUTPUT
again = lab.load(out / "model")
print(again.target, again.classes == model.classes)

# %% [markdown]
# ## 3 · Name new photographs
#
# A row per photograph. `decision` is the finest rank of which the model is sure enough for the error rate; otherwise `unsure`,
# or `not recognised` where the photograph looks unlike all training photographs.

# %%
table = out / "ids.csv"
with contextlib.redirect_stdout(io.StringIO()):
    outcome = lab.identify(model, new_photographs, table, error_rate=error_rate, overwrite=True)
answers = pd.read_csv(table, dtype=str, keep_default_na=False)
answers[["file", "decision", "top1", "top1_score", "top2", "top2_score"]].head(8)

# %%
print(outcome.describe())

# %%
# NBVAL_CHECK_OUTPUT
print(*answers.columns, sep=", ")
print(sorted(set(answers["file"])) == [one.name for one in find(new_photographs)])

# %% [markdown]
# ## 4 · Look at the doubtful ones
#
# The doubtful ones first: what the model proposes, and how much it gives it.

# %%
doubtful = doubtful_first(answers[answers["decision"] != "unreadable"], model).head(12)
paths = {one.name: one.path for one in find(new_photographs)}
pixels = model.preprocess([paths[name] for name in doubtful["file"]]).permute(0, 2, 3, 1).numpy()
titles = [f"{row.top1} {float(row.top1_score):.2f}" for row in doubtful.itertuples()]
figures.specimen_grid(
    np.ascontiguousarray(pixels),
    titles,
    heading="The most doubtful answers, with the first proposal and its score",
)

# %% [markdown]
# The page for the reviewer is one file that opens in any browser. One key confirms, another corrects; it saves
# `labels.csv`, which the next training and the exports take. *What the network looked at* lays Grad-CAM (Selvaraju et al. 2017)
# over each photograph. Below is its beginning; try it here.

# %%
n = write_review(model, table, new_photographs, out / "review.html")
print(f"{n} photographs to review in {places.shown(out / 'review.html')}")

# %%
write_review(model, table, new_photographs, out / "first.html", most=8)
HTML(framed(out / "first.html"))

# %% [markdown]
# ## 5 · Hand it on
#
# A Darwin Core archive is what biodiversity databases take. Identifications that no person has seen are marked
# `unverified`.

# %%
identified = read_answers(table, model.taxonomy.ranks, lineage(model))
left_out = sum(identified.left_out.values())
print(f"{len(identified.rows)} photographs with a taxon, {left_out} without")
if len(identified.rows):
    archive = out / "identifications.zip"
    darwin_core.write_archive(archive, identified, f"bionas, model {model.name}", title="A trial")
    with zipfile.ZipFile(archive) as files:
        print(*files.namelist(), sep=", ")
        occurrences = pd.read_csv(files.open("occurrence.csv"), dtype=str, keep_default_na=False)
    print(occurrences.iloc[0].drop(["occurrenceID", "dateIdentified", "identifiedBy"]).to_string())

# %% [markdown]
# ## 6 · What to expect on real photographs
#
# The embedded specimens are synthetic. These figures are of real photographs, which cannot be redistributed; each table is in
# `data/results/` with the command that makes it. First the kinds of model, on 3,236 web photographs of pests in five orders and
# in nine classes (mean of three seeds):

# %%
kinds = results.table("lab_kinds")
shown = [
    "target",
    "model",
    "accuracy",
    "balanced_accuracy",
    "ece_after",
    "megabytes",
    "milliseconds",
]
kinds[shown].round(3).astype(object).fillna("")

# %% [markdown]
# What an error rate does to the answers of the frozen network, and how many photographs of something else it refuses when a
# tenth of the ordinary ones may be refused:

# %%
decided = results.table("lab_decisions")
rates = decided[decided["what"] == "error rate"].groupby("asked")[
    ["decided", "wrong", "unsure", "refused", "coverage"]
]
rates.mean().round(3)

# %%
refusals = decided[decided["what"].str.startswith("refused") & (decided["asked"] == 0.1)]
refusals.groupby("what", sort=False)["refused"].mean().round(3).to_frame()

# %% [markdown]
# A random division against whole specimens (bee wings by species) and whole recording blocks (larvae by order), each seed a
# column. About twenty larvae were photographed 1,575 times: at random the same animals are on both sides.


# %%
def by_seed(name, rows):
    """Accuracy, a column per seed; the command where the table was not made yet."""
    table = results.table(name)
    return table.pivot_table("accuracy", rows, "seed").round(3) if len(table) else results.describe(name)


by_seed("lab_repeated", ["collection", "target", "division"])

# %% [markdown]
# Metadata can help where they carry partial information, and need not: `train` says which. Bee wings by species, whole specimens
# apart, the photographs alone and with sex, wing and magnification:

# %%
by_seed("lab_metadata", ["metadata"])

# %% [markdown]
# ## Recap
#
# - `bionas train PHOTOGRAPHS --model OUT` makes a model folder and a report; `bionas predict OUT NEW --to ids.csv` names new
#   photographs; `bionas review OUT ids.csv NEW` makes the page; `bionas export OUT --format darwin-core --ids ids.csv` the archive.
# - The scores are calibrated: among answers that are decided at `error_rate=0.05`, about one in twenty is wrong, as long as the
#   new photographs resemble the training ones.
# - The report's accuracy is of photographs that were not trained on. Where several photographs show one animal, name the column
#   with `--group`, else it is too high.
#
# ## Exercises
#
# 1. Set `error_rate` to 0.01 and to 0.2. How does the share of decided photographs change?
# 2. Put a photograph of something else into the folder to name. Is it refused, and with what reason?
# 3. Train with `model_kind="searched"`. How much accuracy does the published network buy, and what does it cost in megabytes?
