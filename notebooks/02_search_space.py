# %% [markdown]
# # 02 · The search space
#
# > **What you will have at the end.** Every part of the network, with its equation, checked by hand: ten primitives, each
# > applied to a specimen and with its cost; the mixed edge that makes the choice among them differentiable; the cell of
# > three such edges; the number of different networks; the metadata encoder, the head, and eight ways to join image and
# > metadata.
#
# 1. a specimen to try the primitives on
# 2. ten primitives, five equations
# 3. what they do to a picture
# 4. the same at half the size
# 5. what each one costs
# 6. the mixed edge
# 7. the cell
# 8. when is an operation light enough to skip?
# 9. how many networks is that?
# 10. the whole network
# 11. the metadata encoder and the head
# 12. eight ways to join image and metadata
#
# Nothing is trained here; the notebook runs in seconds.

# %% tags=["parameters"]
import os

mode: str = os.environ.get("BIONAS_MODE", "quick")  # smoke, quick or full: decides the picture's size only
source: str = "synthetic"  # where the specimen comes from: a name of specimens.SOURCES
data_dir: str = None  # the folder of a source that reads one
specimen: int = 18  # which specimen of the collection to try the primitives on
seed: int = 0  # of the genotypes drawn at the end
run_dir: str = None  # where figures go; runs/ of the checkout by default

# %%
import itertools
from collections import Counter

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import display
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bionas import cells, figures, genotype, network
from bionas.fusion import FUSIONS, ImageFeatures, MetadataFeatures, Sizes, head
from bionas.operators import PRIMITIVE_SETS, PRIMITIVES, build
from bionas.specimens.metadata import Metadata
from bionas.training import experiments

# %% [markdown]
# ## 1 · A specimen to try the primitives on
#
# The first specimens of the collection with their numbers; `-p specimen=` takes another one. The caption of each picture
# says where they come from; notebook 01 describes them.

# %%
collection = experiments.plan(mode, source=source, data_dir=data_dir).specimens()
first = range(min(24, len(collection)))
orders = [collection.class_names[label] for label in collection.labels]
figures.specimen_grid(
    collection.images.take(first).permute(0, 2, 3, 1).numpy(),
    titles=[f"{i} {orders[i]}" for i in first],
    columns=8,
    caption=collection.caption,
)

# %%
photograph = collection.images.take([specimen])  # uint8 (1, 3, S, S)
caption = f"Specimen {specimen}, {orders[specimen]}. {collection.caption}."

# %% [markdown]
# ## 2 · Ten primitives, five equations
#
# A *primitive* is a small operation from C feature maps to C feature maps. The paper offers ten for each edge of a
# cell. They are in one registry, whose order is that of the weights everywhere else.

# %%
# NBVAL_CHECK_OUTPUT
list(PRIMITIVES)

# %% [markdown]
# ### Separable convolutions (Eq. 1)
#
# $$y = \text{ReLU}\left(\text{BN}\left(W_{pw} * (x *_{\rm dw} W_{dw,k})\right)\right), \qquad k = 3, 5$$
#
# Two cheap steps instead of one expensive one: one filter per channel (*depthwise*, $*_{\rm dw}$), then a 1×1 convolution
# that mixes channels. Written with PyTorch's functions alone, it equals what the registry builds.

# %%
# NBVAL_CHECK_OUTPUT
torch.manual_seed(0)
x = torch.randn(2, 4, 9, 9)
separable = build("sep_conv_3x3", channels=4).eval()
w_dw, w_pw = (step.weight for step in separable.convolution)  # depthwise, pointwise
y = F.relu(separable.bn(F.conv2d(F.conv2d(x, w_dw, padding=1, groups=4), w_pw)))
torch.allclose(y, separable(x), atol=1e-6)

# %% [markdown]
# ### Dilated convolutions (Eq. 2)
#
# $$y = \text{ReLU}\left(\text{BN}\left(\text{Conv}_{k \times k}^{D=2}(x)\right)\right), \qquad k = 3, 5$$
#
# The same number of weights, spread out: every second pixel is read, so a 3×3 filter spans 5 pixels and a 5×5 filter
# spans 9. The equation has no depthwise step: this is a full convolution, and section 5 shows what that costs.
#
# One bright pixel in the middle, all weights one: which outputs does it reach?


# %%
# NBVAL_CHECK_OUTPUT
def reach(name, size=9):
    """Rows of ■ where the output depends on a single bright pixel in the middle."""
    operation = build(name, channels=2).eval()
    for convolution in (m for m in operation.modules() if isinstance(m, nn.Conv2d)):
        nn.init.ones_(convolution.weight)
    dot = torch.zeros(1, 2, size, size)
    dot[..., size // 2, size // 2] = 1
    return ["".join("■" if felt else "·" for felt in row) for row in operation(dot)[0, 0] > 0]


names = ("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
print("   ".join(f"{name:<12}" for name in names))
for line in zip(*map(reach, names)):
    print("   ".join(f"{part:<12}" for part in line))

# %% [markdown]
# A larger span without more weights: the last filter spans the whole window with 25 of them, and skips the pixels
# between.
#
# ### 1×1 convolution (Eq. 3)
#
# $$y = \text{ReLU}\left(\text{BN}\left(\text{Conv}_{1\times 1,\, s=S}(x)\right)\right)$$
#
# It reads no neighbours. At every position it multiplies the vector of channels by one matrix.

# %%
# NBVAL_CHECK_OUTPUT
pointwise = build("conv_1x1", channels=4).eval()
matrix = pointwise.convolution.weight[:, :, 0, 0]
y = F.relu(pointwise.bn(torch.einsum("oc,bchw->bohw", matrix, x)))
torch.allclose(y, pointwise(x), atol=1e-6)

# %% [markdown]
# ### Squeeze-and-excitation (Eq. 4)
#
# $$g = \sigma (W_2\, \delta (W_1 \operatorname{GAP}(x))), \quad y = x \odot g$$
#
# The whole map is averaged to one number per channel; a small network turns these into a factor between 0 and 1 for each
# channel.
#
# > *The paper says* that r is "the reduction ratio controlling the bottleneck". *It does not say* how large it is, nor
# > what the operation does at stride 2. We assume r = 4 with at least four hidden units, and at stride 2 an average
# > over 2×2 pixels.

# %%
# NBVAL_CHECK_OUTPUT
squeeze = build("squeeze_excite", channels=4)
averages = x.mean(dim=(2, 3))  # GAP: (2, 4)
gate = torch.sigmoid(squeeze.w2(F.relu(squeeze.w1(averages))))
torch.allclose(x * gate[:, :, None, None], squeeze(x), atol=1e-6)

# %% [markdown]
# ### Pools (Eq. 5)
#
# $$y_{c,i,j}^{P_a} = \frac{1}{|N|} \sum_{(u,v) \in N_{3 \times 3}(i,j)} x_{c,u,v}, \qquad
# y_{c,i,j}^{P_m} = \max_{(u,v) \in N_{3 \times 3}(i,j)} x_{c,u,v}$$
#
# > *The paper says* |N| = 9, without an exception for the border. So a corner, where only four of the nine neighbours
# > exist, is divided by nine all the same: padding counts.

# %%
# NBVAL_CHECK_OUTPUT
ones = torch.ones(1, 2, 3, 3)
print((build("avg_pool_3x3", channels=2)(ones)[0, 0] * 9).round(), "ninths")
print(build("max_pool_3x3", channels=2)(ones)[0, 0])

# %% [markdown]
# ### Skip and none
#
# The last two compute nothing: `skip_connect` returns x, `none` returns zeros. `none` is never computed: in a mixture it
# takes weight from the others, after the search it removes its edge.

# %%
# NBVAL_CHECK_OUTPUT
skip, none = build("skip_connect", channels=4), build("none", channels=4)
print(torch.equal(skip(x), x), torch.equal(none(x), 0 * x))

# %% [markdown]
# ## 3 · What they do to a picture
#
# An untrained convolution computes nothing meaningful, so its filters are set by hand here. Each k×k filter responds to
# dark detail on a light ground: the average of the surroundings minus the pixel itself. The 1×1 convolution
# takes from each colour the average of the two others. What differs between the panels is then the primitive alone.


# %%
def spot(k):
    """A k x k filter: the average of the surroundings minus the middle; for k = 1, the middle."""
    kernel = torch.full((k, k), 1 / max(k * k - 1, 1))
    kernel[k // 2, k // 2] = -1 if k > 1 else 1
    return kernel


# %%
@torch.no_grad()
def response(name, image, stride=1):
    """image (1, 3, S, S) through a primitive with filters set by hand, averaged over channels: (S/stride, S/stride)."""
    operation = build(name, 3, stride).eval()
    for convolution in (m for m in operation.modules() if isinstance(m, nn.Conv2d)):
        to, of = convolution.weight.shape[:2]  # a depthwise filter is one channel wide
        channels = torch.ones(to, 1) if of == 1 else torch.eye(to, of)
        if name == "conv_1x1":
            channels = 1.5 * channels - 0.5
        convolution.weight.copy_(channels[..., None, None] * spot(convolution.kernel_size[0]))
    return operation(image).mean(dim=(0, 1)).numpy()


# %%
image = photograph.float() / 255
panels = {"the specimen": photograph[0].permute(1, 2, 0).numpy()}
panels |= {name: response(name, image) for name in PRIMITIVES}
figures.primitive_responses(panels, caption=f"Stride 1, filters set by hand. {caption}", columns=4)

# %% [markdown]
# Dark is a high value. The separable filters draw thin dark things, 5×5 more boldly. `dil_conv_3x3` spans the same five
# pixels as `sep_conv_5x5` with nine weights instead of 25, and the result is nearly the same; `dil_conv_5x5` responds to
# whole legs. (Near the border the convolutions read the zeros of the padding and respond little.) The 1×1 convolution
# responds to colour, not to shape. Squeeze-and-excitation keeps the picture and changes the weight of each channel. Max
# pooling widens what is bright, so that thin legs almost vanish; average pooling blurs them.
# `none` is blank, as it should be.
#
# ## 4 · The same at half the size
#
# A *reduction* cell halves the side: the edges that leave x have stride 2.
#
# > *The paper says* that at stride > 1 "skip connections down-sampling and concatenate shifted features". *It does not
# > say* how. We take half of the output channels from the even pixels and the other half from the pixels one step
# > down and right, each by a 1×1 convolution, normalised: the factorised reduction of differentiable search. So a skip
# > at stride 2 has weights, and is no identity. Section 9 comes back to this.

# %%
panels = {"the specimen": photograph[0].permute(1, 2, 0).numpy()}
panels |= {name: response(name, image, stride=2) for name in PRIMITIVES}
figures.primitive_responses(panels, caption=f"Stride 2, filters set by hand. {caption}", columns=4)

# %% [markdown]
# Same answers, a quarter of the pixels. Sides that are odd are rounded up, by all ten alike, or they could not be added:

# %%
# NBVAL_CHECK_OUTPUT
x = torch.zeros(1, 16, 7, 8)
shapes = {name: [tuple(build(name, 16, stride)(x).shape[1:]) for stride in (1, 2)] for name in PRIMITIVES}
pd.DataFrame(shapes, index=["stride 1", "stride 2"]).T

# %% [markdown]
# ## 5 · What each one costs
#
# A multiply and the add that follows count as one multiply-accumulate (MAC). With C channels on maps of N pixels:
#
# | | weights | MACs at stride 1 |
# |---|---|---|
# | separable k×k | k²C + C² + 2C | N (k²C + C²) |
# | dilated k×k | k²C² + 2C | N k²C² |
# | 1×1 | C² + 2C | N C² |
# | squeeze-and-excitation, h hidden | 2Ch + h + C | 2Ch |
# | pools, skip, none | 0 | 0 |
#
# The 2C are the scale and shift of batch normalisation. Normalisation, activations and pools are a few operations a
# pixel and, as is usual, not counted. The formulas beside what PyTorch counts, for C = 16 on 32×32:

# %%
C, N, h = 16, 32 * 32, 4
weights = {f"sep_conv_{k}x{k}": k**2 * C + C**2 + 2 * C for k in (3, 5)}
weights |= {f"dil_conv_{k}x{k}": k**2 * C**2 + 2 * C for k in (3, 5)}
weights |= {"conv_1x1": C**2 + 2 * C, "squeeze_excite": 2 * C * h + h + C}
macs = {name: N * (count - 2 * C) for name, count in weights.items()} | {"squeeze_excite": 2 * C * h}
formulas = {"parameters by formula": weights, "macs by formula": macs}


# %%
# NBVAL_CHECK_OUTPUT
def measured(name, stride=1):
    """(parameters, MACs) of a primitive on one map of 32 x 32, as PyTorch counts them."""
    operation = build(name, C, stride).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        operation(torch.zeros(1, C, 32, 32))
    return sum(p.numel() for p in operation.parameters()), counter.get_total_flops() // 2


costs = pd.DataFrame([measured(name) for name in PRIMITIVES], list(PRIMITIVES), ["parameters", "macs"])
costs.assign(**{name: costs.index.map(formula).fillna(0).astype(int) for name, formula in formulas.items()})

# %%
figures.cost_bars(
    costs.rename_axis("primitive").reset_index(),
    caption="C = 16 channels on maps of 32×32 pixels, stride 1. Counted by PyTorch; equal to the formulas.",
)

# %% [markdown]
# `dil_conv_5x5` costs ten times as much as `sep_conv_5x5`, because Eq. 2 has no depthwise step. A search that is scored
# by accuracy alone does not avoid it: remember this when a derived network is called efficient.
#
# ## 6 · The mixed edge
#
# $$\alpha_k = \frac{\exp(\theta_k)}{\sum_j \exp(\theta_j)} \quad (6) \qquad\qquad
# e(x) = \sum_k \alpha_k\, o_k(x) \quad (7)$$
#
# Choosing one of ten is not differentiable. So the edge computes all of them and adds them up, weighted by a softmax of
# ten numbers theta. An example to work by hand: four primitives without weights, and
# theta = (0, ln 2, ln 4, 0), so that alpha = (1, 2, 4, 1) / 8.

# %%
# NBVAL_CHECK_OUTPUT
four = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "none")
theta = torch.tensor([1.0, 2.0, 4.0, 1.0]).log()
alpha = torch.softmax(theta, dim=0)
x = torch.tensor([[0.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 0.0]]).expand(1, 2, 3, 3)
edge = cells.WeightedSum(channels=2, stride=1, primitives=four)
mixed = edge(cells.Source(x), alpha, cells.kept(alpha))[0, 0]
print(f"alpha  {[round(a, 3) for a in alpha.tolist()]}")
print(f"middle {mixed[1, 1]:.3f} = 1/8 · 9 + 2/8 · 1 + 4/8 · 9 + 1/8 · 0")
print(f"corner {mixed[0, 0]:.3f} = 1/8 · 9 + 2/8 · 1 + 4/8 · 0 + 1/8 · 0")

# %% [markdown]
# In the last line, the corner's neighbourhood contains the bright middle, so its maximum is 9 and its average 9/9. The
# weights that are computed add up to 7/8, because `none` has the rest.
#
# The edge comes in two forms: `WeightedSum` is the equation; `FoldedSum`, which the networks use, moves alpha into the
# batch normalisation where that is exact. With all ten primitives they agree with the equation written out:

# %%
# NBVAL_CHECK_OUTPUT
torch.manual_seed(0)
x, alpha = (
    torch.randn(4, 8, 12, 12, dtype=torch.double),
    torch.softmax(torch.randn(10, dtype=torch.double), 0),
)
plain, folded = (form(8, 1, list(PRIMITIVES)).double() for form in (cells.WeightedSum, cells.FoldedSum))
folded.load_state_dict(plain.state_dict())
by_hand = sum(a * plain.operations[name](x) for name, a in zip(PRIMITIVES, alpha) if name != "none")
for edge in (plain, folded):
    print(
        type(edge).__name__,
        torch.allclose(edge(cells.Source(x), alpha, cells.kept(alpha)), by_hand, rtol=1e-10),
    )

# %% [markdown]
# ## 7 · The cell
#
# $$z_1 = e_1(x) \quad (7) \qquad z_2 = e_2(x) + e_3(z_1) \quad (8) \qquad
# \tilde z = \operatorname{Concat}[z_1, z_2] \quad (9)$$
#
# Two nodes, three edges, each with ten weights of its own, then a 1×1 convolution back to C channels. This is what a
# cell looks like once each edge has chosen:

# %%
chosen = ("sep_conv_3x3", "dil_conv_3x3", "max_pool_3x3")
figures.cell_svg(chosen, title="A cell after derivation")

# %% [markdown]
# During the search all ten are on every edge. Here are Eqs. 7-9 line by line, against `SearchCell`:

# %%
# NBVAL_CHECK_OUTPUT
cell = cells.SearchCell(channels=8, stride=2, primitives=list(PRIMITIVES)).double().eval()
alpha = torch.softmax(torch.randn(3, 10, dtype=torch.double), dim=1)
keep = cells.kept(alpha)
e1, e2, e3 = cell.edges
x_source = cells.Source(x)
z1 = e1(x_source, alpha[0], keep[0])
z2 = e2(x_source, alpha[1], keep[1]) + e3(cells.Source(z1), alpha[2], keep[2])
out = cell.project(torch.cat([z1, z2], dim=1))
print(tuple(x.shape), "->", tuple(out.shape), torch.allclose(out, cell(x, alpha)))

# %% [markdown]
# Stride 2 is on the edges that leave x; z1 → z2 joins two maps of the same size and never reduces.
#
# > *The paper says* that a 1×1 convolution "restores channel dimensionality". *It does not say* whether it is
# > normalised. We normalise it: after a path of pools and skips nothing else bounds its values.
#
# ### What is left when an edge chooses `none`
#
# > *The paper says* that zero operations prune connections. *It does not say* what happens to a cell that is cut in
# > two. Our rule: if both edges that leave x chose `none`, the one whose best other primitive weighs most takes that
# > primitive. And where z1 is empty, z1 → z2 goes with it.

# %%
# NBVAL_CHECK_OUTPUT
k = {name: i for i, name in enumerate(PRIMITIVES)}
alpha = np.full((3, 10), 0.02)
alpha[0, [k["none"], k["conv_1x1"]]] = 0.60, 0.24
alpha[1, [k["none"], k["max_pool_3x3"]]] = 0.50, 0.34
alpha[2, k["sep_conv_5x5"]] = 0.82
rescued = genotype.derive_cell(alpha, list(PRIMITIVES))
rescued

# %%
figures.cell_svg(rescued, alphas=[0.60, 0.34, alpha[2, k["none"]]], title="Without a path, and repaired")

# %% [markdown]
# `none` led on both edges, 0.60 and 0.50. The better runner-up is `max_pool_3x3` with 0.34, so x → z2 keeps it.
#
# ## 8 · When is an operation light enough to skip?
#
# > *The paper says* that operations with a weight "below a threshold (e.g., 10⁻⁶)" are omitted in the forward pass, and
# > that this makes the model more efficient as training progresses.
#
# How far must theta spread for that? Two extremes. If one of ten is lower by d and the others are equal, its weight is
# $e^{-d} / (9 + e^{-d})$; if one is higher by d, each of the other nine has $1 / (e^{d} + 9)$.

# %%
# NBVAL_CHECK_OUTPUT
K, threshold = 10, cells.PRUNE_BELOW
one_falls_behind = np.log((1 - threshold) / (threshold * (K - 1)))
one_runs_ahead = np.log(1 / threshold - (K - 1))
print(f"theta must differ by {one_falls_behind:.2f} to {one_runs_ahead:.2f}")
for gap in (11.6, 11.7):
    theta = torch.zeros(K, dtype=torch.double)
    theta[3] = -gap
    print(f"gap {gap}: {sum(cells.kept(torch.softmax(theta, 0)))} of {K} operations are computed")

# %% [markdown]
# Theta starts at N(0, 10⁻³) and Adam moves each number by about its learning rate, 3·10⁻⁴, a step. Two that move
# apart at every step need this many steps; an epoch has one theta step for every two batches:

# %%
steps = int(np.ceil(one_falls_behind / (2 * 3e-4)))
train = 0.7 * len(collection)
print(f"{steps:,} theta steps at the least")
print(f"on this collection, in batches of 64: {steps / (train / 64 / 2):,.0f} epochs")

# %% [markdown]
# On a few thousand specimens the threshold is never reached, whatever the search prefers: every operation is computed to
# the end. It takes millions of images to reach it, and then only where theta moved in one direction all the time.
#
# ## 9 · How many networks is that?
#
# Three edges with ten choices: 10³ cells. A network stacks several, each free to differ. How many is not said in the
# paper either; the depths of our presets:

# %%
# NBVAL_CHECK_OUTPUT
depths = {name: len(config.reductions) for name, config in network.PRESETS.items()}
sizes = {kind: [f"{genotype.space_size(n, kind):.1e}" for n in depths.values()] for kind in PRIMITIVE_SETS}
pd.DataFrame(sizes, index=[f"{name}, {n} cells" for name, n in depths.items()])

# %% [markdown]
# > *The paper says* that its ablation used sets of 10, 6 and 4 primitives. *It does not say* which six and four. We
# > assume those of `PRIMITIVE_SETS`: `reduced` keeps the small one of each kind, `conv_only` the four spatial
# > convolutions.
#
# But not all of them are different. `cell_key` writes a cell as the expression it computes, so that two cells with the
# same key are one network in two notations:

# %%
# NBVAL_CHECK_OUTPUT
for operations in (
    ("none", "conv_1x1", "dil_conv_5x5"),
    ("none", "conv_1x1", "none"),
    ("conv_1x1", "none", "none"),
    ("skip_connect", "conv_1x1", "none"),
    ("conv_1x1", "skip_connect", "none"),
):
    print(f"{', '.join(operations):<32} {genotype.cell_key(operations)}")

# %% [markdown]
# The first three are one convolution alone: an empty z1 has nothing to pass on, and the 1×1 convolution after the
# concatenation does not care which node is called z1. The last two are x beside one convolution of x.
#
# Over all thousand, leaving out those without a path from x to the output:

# %%
# NBVAL_CHECK_OUTPUT
everything = list(itertools.product(PRIMITIVES, repeat=3))
with_path = [operations for operations in everything if operations[:2] != ("none", "none")]
keys = {"normal": Counter(genotype.cell_key(operations) for operations in with_path)}
keys["reduction"] = Counter(genotype.cell_key(operations, reduction=True) for operations in with_path)
print(f"{len(everything)} cells, {len(with_path)} of them with a path")
for kind, counter in keys.items():
    print(f"{kind:<10} {len(counter)} different; the most repeated, {counter.most_common(1)[0][1]} times")

# %% [markdown]
# A reduction cell has more different ones, because there a skip has weights and is no identity. So the cells of the
# `paper` preset, two of which reduce, make

# %%
# NBVAL_CHECK_OUTPUT
reductions = network.preset("paper").reductions
different = int(np.prod([len(keys["reduction" if r else "normal"]) for r in reductions], dtype=object))
counted = genotype.space_size(len(reductions))
print(f"{different:.1e} different networks of {counted:.0e} notations: one in {counted / different:.1f}")

# %% [markdown]
# Isomorphism removes a factor, not orders of magnitude: training each for a minute would still take longer than the age
# of the universe. With Eq. 6 none of them is trained separately.
#
# How different are they in price? The three edges of each cell added up (without the 1×1 convolution they share):

# %%
# NBVAL_CHECK_OUTPUT
prices = (
    pd.Series([sum(int(costs.loc[name, "macs"]) for name in operations) for operations in with_path]) / 1e6
)
prices.describe(percentiles=[0.5])[["min", "50%", "mean", "max"]].round(2).rename("million MACs").to_frame().T

# %% [markdown]
# From zero to nearly twenty million: the cost of a random cell varies that much. Notebook 04 therefore shows the cost of
# a derived network beside those of random ones. Two random genotypes:

# %%
for i in range(2):
    drawn = genotype.Genotype.random(3, [False, True, True], generator=np.random.default_rng([seed, i]))
    display(drawn.to_svg(f"Random genotype {i + 1}"))

# %% [markdown]
# ## 10 · The whole network
#
# Cells are one part of the network. A stem of 3×3 convolutions precedes them; their last map becomes a vector of 256
# image features; a second encoder makes 256 features of the record; both are joined, and a head predicts the class.
# This drawing (the paper's Fig. 1) is made from a live model, and the shapes are those that it computes:

# %%
sizes = network.preset("quick")
supernet = network.SearchNetwork(sizes, n_classes=10, vocabulary_sizes=(12, 40), n_numeric=3)
figures.network_svg(supernet, "The supernet at preset quick, with metadata")

# %% [markdown]
# During the search every edge holds all ten operations (the paper's Fig. 3). The first edge of the untrained supernet:

# %%
figures.mixed_edge_svg(
    list(PRIMITIVES), supernet.alpha()[0, 0].tolist(), "An untrained edge: all weights are near 1/10"
)

# %% [markdown]
# > *The paper says* that image features are 256-d. *It does not say* how a map becomes 256 numbers, nor what the stem is.
# > We widen each place to 256 channels by a 1×1 convolution and average over the map; the stem has one 3×3 convolution
# > at stride 1 or 2, and two at stride 4. Dropout (0.2) is in the head and in the metadata encoder; the paper gives no
# > rate. All of these are fields of `NetworkConfig`.
#
# ## 11 · The metadata encoder and the head (Eqs. 10-11)
#
# $$X_{\rm meta} = F_{\rm meta}(\operatorname{Concat}[E_1[m_1], \dots, E_F[m_F]]) \quad (10) \qquad\qquad
# \hat y = H(\operatorname{Concat}[X_{\rm img}, X_{\rm meta}]) \quad (11)$$
#
# A categorical field is an index into a table of learned vectors, its *embedding*; index 0 means unknown or missing.
#
# > *The paper's* fields are all categorical. *It does not say* what happens to coordinates and measurements. We append
# > them to the concatenation as standardised numbers, each with a flag; a missing number is replaced by a learned value.
#
# Eq. 10 written out for one record: the categories 2 and 0 (missing), and a number that is missing too.

# %%
# NBVAL_CHECK_OUTPUT
torch.manual_seed(0)
encoder = network.MetadataEncoder(vocabulary_sizes=(4, 6), n_numeric=1, embedding=3).eval()
record = Metadata(torch.tensor([[2, 0]]), torch.tensor([[float("nan")]]))
first, second = encoder.embeddings
parts = [first.weight[2], second.weight[0], encoder.missing, torch.ones(1)]  # the last one: "was missing"
layer_1, _, _, layer_2 = encoder.project
by_hand = layer_2(F.relu(layer_1(torch.cat(parts))))
print(
    f"{len(torch.cat(parts))} numbers -> {len(by_hand)} features, as the encoder:",
    torch.allclose(encoder(record)[0], by_hand, atol=1e-6),
)

# %% [markdown]
# And Eq. 11 on a small network: concatenate, then two layers with dropout between them.

# %%
# NBVAL_CHECK_OUTPUT
small = network.NetworkConfig(image_size=16, channels=4, cells=3, stem_stride=2)
model = network.SearchNetwork(small, n_classes=5, vocabulary_sizes=(4, 6), n_numeric=1).eval()
picture = torch.randn(1, 3, 16, 16)
x_img, x_meta = model.image_features(picture).vector, model.metadata_encoder(record)
_, hidden, _, _, classes = model.head
by_hand = classes(F.relu(hidden(torch.cat([x_img, x_meta], dim=1))))
print(tuple(x_img.shape), tuple(x_meta.shape), "-> logits", tuple(by_hand.shape))
print("as the network:", torch.allclose(model(picture, record), by_hand, atol=1e-5))

# %% [markdown]
# ## 12 · Eight ways to join image and metadata
#
# > *The paper says*, in Table I, that eight fusions were compared: concatenation, bilinear pooling, gating, progressive,
# > cross-attention, transformer, multi-head and ensemble. *It describes* none but the first (Eq. 11). We take each name
# > to mean the best-known method that is called so, and name the source.
#
# Below, $x$ is $X_{\rm img}$, $y$ is $X_{\rm meta}$, $d = 256$, and $\odot$ multiplies element by element. First the four
# that join vectors.
#
# ### Concatenation (Eq. 11)
#
# $$f = [x, y] \in \mathbb{R}^{2d}$$
#
# It sees the two vectors and has no weights of its own: what belongs together is left to the head.

# %%
figures.fusion_svg("concatenation", "Concatenation leaves the joining to the head")

# %% [markdown]
# ### Bilinear pooling (Kim et al. 2017, MLB)
#
# $$f = P^\top\left(\tanh(U^\top x) \odot \tanh(V^\top y)\right) + b$$
#
# It sees products of a feature of the image with one of the record.
#
# > *We assume* the low-rank form with rank 2d: all products would need $d^3$ = 17 million weights. Compact bilinear pooling
# > (Gao et al. 2016) would be another reading; it approximates the same products by hashing.

# %%
figures.fusion_svg("bilinear_pooling", "Bilinear pooling multiplies two projections")

# %% [markdown]
# ### Gating (Arevalo et al. 2017, gated multimodal unit)
#
# $$z = \sigma(W_z [x, y]), \qquad f = z \odot \tanh(W_i x) + (1 - z) \odot \tanh(W_m y)$$
#
# It sees both vectors and decides for each feature which of the two counts.
#
# > *We assume* the GMU for two modalities, where one gate serves both sides as z and 1 − z.

# %%
figures.fusion_svg("gating", "Gating weighs image against record, feature by feature")

# %% [markdown]
# ### Progressive (Pérez-Rúa et al. 2019, MFAS)
#
# $$h_l = \operatorname{ReLU}(W_l [x_l, y_l, h_{l-1}]), \qquad f = h_L$$
#
# It sees intermediate features: $x_l$ is the average map at the end of the l-th resolution, $y_l$ the hidden layer of the
# metadata encoder; at the last step they are $x$ and $y$.
#
# > *We assume* that all depths are joined in order. MFAS searches which ones are.

# %%
figures.fusion_svg("progressive", "Progressive fusion joins at every resolution")

# %% [markdown]
# The next three use attention. Their tokens are 256 numbers each: one for each place of the last map, with its position,
# one for each field of the record, and the vectors $x$ and $y$. Missing fields are masked.
#
# $$\operatorname{Attention}(Q, K, V) = \operatorname{softmax}\left(Q K^\top / \sqrt{d/8}\right) V
# \quad\text{in 8 subspaces (Vaswani et al. 2017)}$$
#
# ### Cross-attention (Lu et al. 2019, ViLBERT)
#
# $$X' = \operatorname{Attention}(X, Y, Y), \qquad Y' = \operatorname{Attention}(Y, X, X), \qquad f = [x', y']$$
#
# It sees places and fields; each side takes keys and values from the other.
#
# > *We assume* one co-attentional layer, then one layer of self-attention for each side, pre-normalised. The two first
# > tokens are concatenated, as in Eq. 11; ViLBERT multiplies them.

# %%
figures.fusion_svg("cross_attention", "Cross-attention: each side reads the other")

# %% [markdown]
# ### Transformer (Li et al. 2019, VisualBERT)
#
# $$f = \operatorname{Encoder}([\text{CLS}, Y, X])_{\text{CLS}}$$
#
# It sees places and fields as one sequence, in which every token attends to every other.
#
# > *We assume* two layers. Fields become tokens as in FT-Transformer (Gorishniy et al. 2021), since a record has no words.

# %%
figures.fusion_svg("transformer", "Transformer: one sequence of places and fields")

# %% [markdown]
# ### Multi-head (Vaswani et al. 2017; Yu et al. 2019, MCAN)
#
# $$f = [\,x + \operatorname{Attention}(y, X, X),\; y + \operatorname{Attention}(x, Y, Y)\,]$$
#
# It sees places and fields, but only the two vectors send queries: one for each side.
#
# > *We assume* this as the cheapest method whose name mentions heads; the results are added to the vectors as in MCAN's
# > guided attention.

# %%
figures.fusion_svg("multi_head", "Multi-head: the record queries the map, the image queries the record")

# %% [markdown]
# ### Ensemble (Kittler et al. 1998, sum rule)
#
# $$\hat p = \tfrac13\left(p_{\rm img} + p_{\rm meta} + p_{\rm both}\right)$$
#
# It sees predictions only: three heads predict by themselves, and probabilities are averaged.
#
# > *We assume* three heads of the form of Eq. 11. A record without any value does not vote.

# %%
figures.fusion_svg("ensemble", "Ensemble averages three predictions")

# %% [markdown]
# ### What they cost
#
# Per specimen, with 10 classes, a record of 5 fields, and a last map of 14×14 places, as at 224 pixels in preset `paper`.
# The head that follows is counted too, because its width depends on the fusion.


# %%
def priced(name):
    """(what it reads, width of its output, parameters, MACs) of a fusion and its head."""
    fusion = FUSIONS[name](Sizes(n_classes=10, stages=(64, 128))).eval()
    following = nn.Identity() if fusion.predicts else head(fusion.out_features, 10, 0.0).eval()
    vectors = ImageFeatures(
        torch.zeros(1, 256), torch.zeros(1, 256, 14, 14), (torch.zeros(1, 64), torch.zeros(1, 128))
    )
    fields = MetadataFeatures(
        torch.zeros(1, 256), torch.zeros(1, 256), torch.ones(1, 5, dtype=bool), torch.zeros(1, 5, 256)
    )
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        following(fusion(vectors, fields))
    reads = (
        "places, fields" if fusion.reads_fields else "each resolution" if fusion.reads_stages else "vectors"
    )
    weights = sum(p.numel() for part in (fusion, following) for p in part.parameters())
    return (
        "predictions" if fusion.predicts else reads,
        fusion.out_features,
        weights,
        counter.get_total_flops() // 2,
    )


# %%
# NBVAL_CHECK_OUTPUT
columns = ["sees", "width", "parameters", "macs"]
prices_of_fusions = pd.DataFrame([priced(name) for name in FUSIONS], list(FUSIONS), columns)
prices_of_fusions

# %%
figures.cost_bars(
    prices_of_fusions[["macs", "parameters"]].rename_axis("fusion").reset_index(),
    caption="Fusion and head, per specimen: 10 classes, 14×14 places, 5 fields.",
    title="Attention over places costs most; joining vectors is almost free",
)

# %%
# NBVAL_CHECK_OUTPUT
dearest = prices_of_fusions["macs"].idxmax()
print(
    f"{dearest}: {prices_of_fusions.loc[dearest, 'macs'] / 2.95e9:.0%} of the 2.95 billion MACs of a network at the paper's size"
)

# %% [markdown]
# > *The paper says* that fusions "nearly double" the cost. Notebook 07 compares that with its own Table I; by the counts
# > above no fusion at 256 features does.

# %% [markdown]
# ## Recap
#
# - Ten primitives, each an equation of a line or two; all keep C channels and halve the side alike.
# - Eq. 2 is a full convolution: `dil_conv_5x5` costs ten times `sep_conv_5x5`, and the search does not count costs.
# - A mixed edge is a weighted sum: the choice becomes thirty real numbers per cell, with gradients.
# - `none` competes for weight but computes nothing; a cell is never left without a path, by a rule that is ours.
# - The 10⁻⁶ threshold wants theta to spread by 11.6 to 13.8: about twenty thousand steps in one direction.
# - 10³ cells are 817 different ones (862 where they reduce). The space is large because a network has several cells.
# - Records become 256 features (Eq. 10) and join those of the image (Eq. 11), in one of eight ways; Table I names them,
#   the readings are ours.
#
# ## Exercises
#
# 1. *Run.* Try the primitives on another specimen (`-p specimen=12`), or on a photograph of your own with
#    `-p source=folder -p data_dir=...`. Which primitive tells legs from the ground best, and does it still at stride 2?
# 2. *Change.* Give `spot` a horizontal filter instead of a round one. Which two primitives now differ most, and what
#    would the search have to see in the data to prefer one over the other?
# 3. *Think.* [x, x + conv(x)] and [x, conv(x)] have different keys. Yet the 1×1 convolution that follows can subtract x
#    from the second map, so both span the same functions. Should a search count them as one? What differs in
#    training, and what would a key that folds them have to know about batch normalisation?
