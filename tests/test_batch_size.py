"""Automatic batch size: the largest of 512 ... 32 that memory allows, chosen without a trace (section III-B.2)."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest
import small
import torch
from torch import nn

from bionas.errors import TrainingError
from bionas.training.batch_size import largest_batch_size
from bionas.training.fitting import Fit, Search
from bionas.training.recipe import FitConfig, SearchConfig
from bionas.training.runs import Run

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def network():
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
    return nn.Sequential(first, nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), last)


def step_of(model, side):
    return lambda images: model(torch.randn(images, 3, side, side)).mean().backward()


def free(monkeypatch, size):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=size))


def kept_by(capsys):
    """MiB an image, from what the choice says of itself."""
    return float(capsys.readouterr().out.split("one image keeps ")[1].split(" MiB")[0])


# --- on a CPU -------------------------------------------------------------------------------------------------------


def test_what_an_image_keeps_is_measured(monkeypatch, capsys):
    free(monkeypatch, 2**50)
    sizes = {}
    for side in (128, 256):
        model = network()
        assert largest_batch_size(model, step_of(model, side), CPU) == 512
        sizes[side] = kept_by(capsys)
    # By hand, a pixel: the input (3 floats), the outputs of the first convolution, the ReLU and the dropout (8 each),
    # and the dropout's mask (8, of one to four bytes).
    pixel = 4 * (3 + 3 * 8)
    assert 0.99 * (pixel + 8) <= sizes[256] * 2**20 / 256**2 <= 1.01 * (pixel + 4 * 8)
    assert sizes[256] / sizes[128] == pytest.approx(4, rel=0.05)


def test_weights_are_not_counted_as_memory_of_images(monkeypatch, capsys):
    free(monkeypatch, 2**50)
    model = nn.Sequential(
        nn.Linear(4, 2**19), nn.Linear(2**19, 2, bias=False)
    )  # weights of 12 MiB, features of 2
    largest_batch_size(model, lambda images: model(torch.randn(images, 4)).mean().backward(), CPU)
    assert kept_by(capsys) == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize(
    ("images", "chosen"), [(10_000, 512), (520, 512), (500, 256), (260, 256), (70, 64), (33, 32)]
)
def test_half_of_the_free_memory_is_used(monkeypatch, capsys, images, chosen):
    model = network()
    free(monkeypatch, 2**50)
    largest_batch_size(model, step_of(model, 256), CPU)
    an_image = kept_by(capsys) * 2**20
    free(monkeypatch, 2 * an_image * (images + 0.4))
    assert largest_batch_size(model, step_of(model, 256), CPU) == chosen
    assert f"automatic batch size: {chosen} (one image keeps" in capsys.readouterr().out


def test_too_little_memory_is_said_with_what_to_do(monkeypatch):
    free(monkeypatch, 2**20)
    model = network()
    with pytest.raises(TrainingError, match="32 images does not fit in the memory of cpu .*smaller preset"):
        largest_batch_size(model, step_of(model, 256), CPU)


# --- on a GPU, by its answers ---------------------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch):
    """What the choice asks of CUDA, answered on any machine."""
    emptied = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**30)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    return emptied


def with_room_for(most, model, tried):
    def step(images):
        tried.append(images)
        model(torch.randn(2, 3, 8, 8)).mean().backward()
        if images > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    return step


@pytest.mark.slow
@pytest.mark.parametrize(("most", "tries"), [(600, [512]), (300, [512, 256]), (32, [512, 256, 128, 64, 32])])
def test_a_gpu_is_tried_from_512_down(gpu, capsys, most, tries):
    tried, model = [], network()
    assert largest_batch_size(model, with_room_for(most, model, tried), CUDA) == tries[-1] and tried == tries
    said = capsys.readouterr().out
    assert f"automatic batch size: {tries[-1]} (a step peaks at 3.0 GiB" in said
    assert len(tries) == 1 or f"{tries[:-1]} did not fit" in said
    assert len(gpu) >= len(tries) - 1  # what a failed try held is given back before the next


@pytest.mark.slow
def test_a_gpu_too_small_for_32_is_said_with_what_to_do(gpu):
    tried, model = [], network()
    with pytest.raises(
        TrainingError, match=r"does not fit in the memory of cuda .*\[512, 256, 128, 64, 32\]"
    ):
        largest_batch_size(model, with_room_for(31, model, tried), CUDA)
    assert tried == [512, 256, 128, 64, 32]


@pytest.mark.parametrize(
    "error", [ValueError("no"), RuntimeError("mat1 and mat2 shapes cannot be multiplied")]
)
def test_another_error_is_not_taken_for_a_full_memory(gpu, error):
    def step(images):
        raise error

    with pytest.raises(type(error), match=str(error)):
        largest_batch_size(network(), step, CUDA)


# --- without a trace ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
@pytest.mark.parametrize("most", [600, 100, 10])
def test_trying_leaves_no_trace(gpu, device, most):
    """Running statistics, gradients and the random state are as they were, also where nothing fitted."""
    model, tried = network(), []
    before, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    try:
        largest_batch_size(model, with_room_for(most, model, tried), device)
    except (TrainingError, torch.cuda.OutOfMemoryError):
        assert most == 10
    assert tried and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and torch.equal(torch.get_rng_state(), random)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["search", "fit"])
def test_a_chosen_size_trains_as_the_same_size_given(monkeypatch, tmp_path, kind):
    data = small.sides(64, 32)

    def start(name, size):
        choices = {"epochs": 1, "batch_size": size, "device": "cpu"}
        if kind == "search":
            return Search(
                small.supernet(data[2]), *data, SearchConfig(**choices), Run(tmp_path / name)
            ).prepare()
        return Fit(small.derived(data[2]), *data, FitConfig(**choices), Run(tmp_path / name)).prepare()

    free(monkeypatch, 2**50)
    assert start("room enough", "auto").batch_size == 512
    monkeypatch.setattr(
        "bionas.training.loop.largest_batch_size", lambda *args: largest_batch_size(*args) and 32
    )
    for name, size in (("auto", "auto"), ("given", 32)):
        start(name, size).train()
    auto, given = (Run(tmp_path / name).load_checkpoint() for name in ("auto", "given"))
    assert auto["batch_size"] == 32
    assert not [
        d for part in ("model", "optimizers", "random") for d in small.differences(auto[part], given[part])
    ]
    monkeypatch.undo()
    assert start("auto", "auto").batch_size == 32  # a run that goes on keeps its size
