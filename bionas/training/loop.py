"""The training loop that search and retraining share: epochs, checkpoints, history, going on.

`Trainer` knows no architecture search: a subclass says what a batch does (`trainer`). Order, augmentation and every random
draw of an epoch depend on the seed and the checkpoint alone, so that a run that was killed and started again ends
bit-identical to one that was not. Device, mixed precision and loss scaling are Accelerate's. `predict` is the same
forward pass without the training.
"""

from __future__ import annotations

import dataclasses
import random
import time
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from tqdm.auto import tqdm

from bionas.errors import CheckpointError, TrainingError, UnknownName
from bionas.specimens.collection import SpecimenSet
from bionas.specimens.loader import Batch, BatchLoader
from bionas.specimens.metadata import MetadataEncoding
from bionas.system import files
from bionas.system.progress import described, left, progress
from bionas.training.batch_size import largest_batch_size
from bionas.training.recipe import FitConfig
from bionas.training.runs import Run, provenance

HEADLESS_LINES = 5
"""Where no bar is shown, a run prints about so many lines; history.csv has every epoch."""


class Trainer:
    """The loop both kinds share: epochs, checkpoints, history, resuming. Subclasses say what a batch does."""

    phase: ClassVar[str]

    def __init__(
        self,
        model: nn.Module,
        train: SpecimenSet,
        val: SpecimenSet,
        encoding: MetadataEncoding,
        config: FitConfig,
        run: Run,
        description: dict[str, Any] | None = None,
    ):
        self.config, self.run = config, run
        self.accelerator = _accelerator(config)
        self.device = self.accelerator.device
        self.description = {"phase": self.phase, **dataclasses.asdict(config), **(description or {})}
        self.run.begin(self.description, provenance(config.seed, str(self.device), train.fingerprint))
        self.train_set, self.val_set, self.encoding = train, val, encoding
        self.model = self.accelerator.prepare_model(model.to(memory_format=torch.channels_last))
        self.history: list[dict[str, Any]] = []
        self.epoch = 0
        state = self.run.load_checkpoint("cpu")
        self.batch_size = state["batch_size"] if state else self._choose_batch_size()
        self.train_loader = self._loader(train, config.seed, shuffle=True, augment=config.augment)
        self.val_loader = self._loader(val, config.seed, shuffle=False)
        self.steps_per_epoch = self.count_steps()
        optimizers = self.make_optimizers()
        # The schedule wraps the optimiser's step, and loss scaling wraps that again: in this order.
        self.schedulers = {"w": self._schedule(optimizers["w"])}
        self.optimizers = {name: self.accelerator.prepare_optimizer(o) for name, o in optimizers.items()}
        if state:
            self.load_state(state)

    # --- what subclasses say ------------------------------------------------------------------------------------

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        raise NotImplementedError

    def count_steps(self) -> int:
        """Updates of w in an epoch."""
        raise NotImplementedError

    def train_epoch(self, epoch: int, bar: tqdm) -> dict[str, Any]:
        raise NotImplementedError

    @property
    def stopped(self) -> str:
        """Why training ends before its last epoch, in words; "" where it does not. It follows from `state` alone."""
        return ""

    # --- the loop -----------------------------------------------------------------------------------------------

    def train(self) -> Run:
        """Train the epochs that are not done yet, with a checkpoint after each.

        Raises:
            TrainingError: a loss that is not finite; the last complete epoch is kept.
            BionasError: no space left for a checkpoint; the previous one is kept.
        """
        total = self.config.epochs
        with progress(total=total, initial=self.epoch, desc=self.phase, unit="epoch") as bar:
            for epoch in range(self.epoch, total):
                if self.stopped:
                    break
                start, core_start = time.perf_counter(), time.process_time()
                self.model.train()
                row = {"epoch": epoch + 1, "phase": self.phase, **self.train_epoch(epoch, bar)}
                seconds = time.perf_counter() - start
                row |= self.validate()
                row["learning_rate"] = self.optimizers["w"].param_groups[0]["lr"]
                row["seconds"] = round(seconds, 2)
                # Processor time of all threads, validation included: comparable on a machine that does other work too.
                row["core_seconds"] = round(time.process_time() - core_start, 2)
                row["images_per_second"] = round(row["images"] / seconds, 1)
                self.history.append(row)
                self.epoch = epoch + 1
                self.save()
                bar.update()
                bar.set_postfix(loss=f"{row['train_loss']:.3f}", val=f"{row['val_accuracy']:.3f}")
                if bar.disable and (self.epoch == total or self.epoch % -(-total // HEADLESS_LINES) == 0):
                    print(_line(row, total), flush=True)
        if self.stopped:
            print(self.stopped, flush=True)
        return self.run

    def validate(self) -> dict[str, float]:
        """Loss and accuracy on the validation split, in inference mode."""
        logits, labels = _forward_all(self.model, self.val_loader, self.device)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        return {"val_loss": loss.item(), "val_accuracy": (logits.argmax(1) == labels).double().mean().item()}

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy with label smoothing, and the number of images named rightly."""
        logits = self.model(batch.image, batch.metadata)
        loss = F.cross_entropy(logits, batch.label, label_smoothing=self.config.label_smoothing)
        return loss, (logits.detach().argmax(1) == batch.label).sum()

    def update(self, name: str, parameters: list[nn.Parameter], loss: Tensor) -> None:
        """Back-propagate, clip to norm 1, step. Where loss scaling found an overflow, Accelerate skips the step."""
        optimizer = self.optimizers[name]
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(parameters, self.config.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if name in self.schedulers:
            self.schedulers[name].step()

    def to_device(self, batch: Batch) -> Batch:
        return batch.to(self.device, non_blocking=True)

    # --- going on -----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on."""
        scaler = self.accelerator.scaler
        return {
            "epoch": self.epoch,
            "batch_size": self.batch_size,
            "model": self.accelerator.unwrap_model(self.model).state_dict(),
            "optimizers": {n: o.state_dict() for n, o in self.optimizers.items()},
            "schedulers": {n: s.state_dict() for n, s in self.schedulers.items()},
            "scaler": scaler.state_dict() if scaler is not None else {},
            "history": self.history,
            "random": _random_state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Raises CheckpointError where the checkpoint is of another network."""
        try:
            self.accelerator.unwrap_model(self.model).load_state_dict(state["model"])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
            for name, scheduler in self.schedulers.items():
                scheduler.load_state_dict(state["schedulers"][name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{self.run.checkpoint_path} is of another network ({str(error).splitlines()[-1].strip()}). "
                "Choose another run_dir, or remove that run folder."
            ) from error
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.history, self.epoch = list(state["history"]), state["epoch"]
        self.write_tables()
        _set_random_state(state["random"])

    def save(self) -> None:
        """The checkpoint first; the tables are drawn from what it holds, and redrawn on resuming."""
        self.run.save_checkpoint(self.state())
        self.write_tables()

    def write_tables(self) -> None:
        files.write_csv(self.run.path / "history.csv", pd.DataFrame(self.history))

    # --- set-up -------------------------------------------------------------------------------------------------

    def _loader(self, specimens: SpecimenSet, seed: int, shuffle: bool, augment: str = "none") -> BatchLoader:
        # A last batch of one image would leave batch normalisation without a variance: training drops the remainder.
        size = min(self.batch_size, len(specimens))
        return BatchLoader(
            specimens, self.encoding, size, shuffle=shuffle, seed=seed, augment=augment, drop_last=shuffle
        )

    def _schedule(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        steps = max(1, self.config.epochs * self.steps_per_epoch)
        if self.config.schedule == "one_cycle":
            return torch.optim.lr_scheduler.OneCycleLR(
                optimizer, self.config.learning_rate, total_steps=steps + 1
            )
        if self.config.schedule == "cosine":
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)

    def trial_step(self, batch: Batch) -> None:
        """One forward and backward pass as in training, without an update: what automatic batch size tries."""
        self.loss(batch)[0].backward()
        self.model.zero_grad(set_to_none=True)

    def _choose_batch_size(self) -> int:
        if self.config.batch_size != "auto":
            return int(self.config.batch_size)

        def step_with(images: int) -> None:
            positions = np.arange(images) % len(self.train_set)
            loader = BatchLoader(self.train_set.subset(positions), self.encoding, images, shuffle=False)
            self.trial_step(self.to_device(next(loader.epoch(0))))

        return largest_batch_size(self.model, step_with, self.device)


def predict(
    model: nn.Module,
    specimens: SpecimenSet,
    encoding: MetadataEncoding,
    batch_size: int = 128,
    device: str = "auto",
) -> np.ndarray:
    """Class probabilities of every specimen, in order: (N, n_classes) float64, rows summing to 1."""
    on = torch.device(
        "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
    )
    loader = BatchLoader(specimens, encoding, batch_size, shuffle=False)
    logits, _ = _forward_all(model.to(on), loader, on)
    return torch.softmax(logits.double(), dim=1).cpu().numpy()


class Tally:
    """Mean loss and accuracy of an epoch, and the watch for a loss that is not finite."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        # Looking at a loss makes a GPU wait, so there it is looked at every 16 steps; each loss is looked at.
        self.every = 16 if trainer.device.type == "cuda" else 1
        self.unseen: list[tuple[int, Tensor, Tensor, int]] = []
        self.loss = self.right = 0.0
        self.images = 0

    def add(self, step: int, loss: Tensor, right: Tensor, images: int) -> None:
        self.unseen.append((step, loss.detach(), right, images))
        if len(self.unseen) >= self.every:
            self._look()

    def _look(self) -> None:
        for step, loss, right, images in self.unseen:
            value = loss.item()
            if not np.isfinite(value):
                self._refuse(step, value)
            self.loss += value * images
            self.right += right.item()
            self.images += images
        self.unseen.clear()

    def _refuse(self, step: int, value: float) -> None:
        t = self.trainer
        kept = (
            f"the last complete epoch, {t.epoch}, is in {t.run.checkpoint_path}"
            if t.epoch
            else "no epoch was complete"
        )
        raise TrainingError(
            f"{t.phase}: the loss is {value} at epoch {t.epoch + 1}, step {step}; {kept}. Usual causes: a learning rate "
            f"too high (it is {t.config.learning_rate:g}), fp16 (try precision='bf16' or 'fp32'), or numeric metadata "
            "with extreme values."
        )

    def row(self) -> dict[str, Any]:
        self._look()
        n = max(self.images, 1)
        return {"train_loss": self.loss / n, "train_accuracy": self.right / n, "images": self.images}


def _accelerator(config: FitConfig) -> Accelerator:
    if config.device not in ("auto", "cpu", "cuda"):
        raise UnknownName("device", config.device, ("auto", "cpu", "cuda"))
    if config.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "device='cuda' was asked for, but torch sees no CUDA device here. Use device='auto'."
        )
    on_cpu = config.device == "cpu" or not torch.cuda.is_available()
    precision = {"auto": "no" if on_cpu else "fp16", "fp32": "no"}.get(config.precision, config.precision)
    if on_cpu and precision == "fp16":
        raise TrainingError("precision='fp16' needs a CUDA device. Use 'bf16' or 'fp32' on a CPU.")
    # A second run in one process may want another precision, or another device.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=on_cpu, mixed_precision=precision)


def adamw(parameters: list[nn.Parameter], config: FitConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )


@torch.no_grad()
def _forward_all(model: nn.Module, loader: BatchLoader, device: torch.device) -> tuple[Tensor, Tensor]:
    model.eval()
    results = [(model(b.image, b.metadata).float(), b.label) for b in (b.to(device) for b in loader.epoch(0))]
    return torch.cat([logits for logits, _ in results]), torch.cat([labels for _, labels in results])


def _random_state() -> dict[str, Any]:
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, [int(k) for k in keys], int(position), int(has_gauss), float(gauss)],
        "python": [random.getstate()[0], list(random.getstate()[1]), random.getstate()[2]],
    }


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def _line(row: dict[str, Any], epochs: int) -> str:
    theta = f", theta loss {row['theta_loss']:.3f}" if np.isfinite(row.get("theta_loss", np.nan)) else ""
    return (
        f"{described(row['phase'])} epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.3f}{theta}, "
        f"validation loss {row['val_loss']:.3f}, accuracy {row['val_accuracy']:.3f}"
        f"{left(row['seconds'] * (epochs - row['epoch']))}"
    )
