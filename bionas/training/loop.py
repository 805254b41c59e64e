"""The training loop that search and retraining share: epochs, checkpoints, history, resuming.

`Trainer` drives the updates of `bionas.trainer`; a subclass says which of them and on which batches (`fitting`). Order,
augmentation and every random draw of an epoch depend on the seed and the checkpoint only, so a run that was killed and
started again ends bit-identical to one that was not. Device and mixed precision are Accelerate's. `predict` is the same
forward pass without training.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import time
from collections.abc import Callable
from typing import Any, ClassVar, Self

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
from bionas.trainer import Step, WeightTrainer, adamw
from bionas.training import distributed
from bionas.training.balance import criterion
from bionas.training.batch_size import LARGEST, largest_batch_size
from bionas.training.random_state import random_state, set_random_state
from bionas.training.recipe import DEVICES, FitConfig, schedule_of
from bionas.training.runs import Run, provenance

HEADLESS_LINES = 5
"""Where no progress bar is shown, a run prints about this many lines; history.csv has every epoch."""

READ_EVERY = 64
"""Steps between two readings of the losses on a GPU: each reading makes it wait. A CPU has nothing to wait for."""


class Trainer:
    """The loop that search and retraining share: epochs, checkpoints, history, resuming.

    The constructor only assigns. `train` calls `prepare`, which claims the run folder, reads the checkpoint, chooses the
    batch size and builds loaders and optimisers; call `prepare` yourself to look at these before training.

    Args:
        model: called `model(image, metadata) -> logits`.
        train, val: splits; val is evaluated, never learnt from.
        encoding: of the metadata, fitted on train.
        config: see `FitConfig`.
        run: where everything is written and found again.
        description: what else determines this run (network, source, ...): written to config.json, and compared with it.
    """

    phase: ClassVar[str]
    rate_warmup_epochs = 0
    """Epochs in which the rate of w rises linearly before its schedule begins."""

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
        self.model, self.config, self.run, self.encoding = model, config, run, encoding
        self.train_set, self.val_set = train, val
        self.description = {"phase": self.phase, **dataclasses.asdict(config), **(description or {})}
        self.history: list[dict[str, Any]] = []
        self.epoch = 0
        self.prepared = False

    # --- what subclasses define ---------------------------------------------------------------------------------

    def require(self) -> None:
        """Check the configuration before anything is written.

        Raises:
            TrainingError: choices that exclude each other.
        """

    def setup(self) -> None:
        """Build what training reads, after the batch size is known and before the checkpoint is loaded."""
        self.train_loader = self._loader(
            self.train_set, self.config.seed, shuffle=True, augment=self.config.augment
        )
        self.val_loader = self._loader(self.val_set, self.config.seed, shuffle=False)

    def count_steps(self) -> int:
        """Updates of w in an epoch."""
        return len(self.train_loader)

    def make_algorithm(self) -> WeightTrainer:
        """The updates, with their optimisers."""
        raise NotImplementedError

    def train_epoch(self, epoch: int, bar: tqdm) -> dict[str, Any]:
        """Train one epoch; returns its columns of history.csv."""
        raise NotImplementedError

    @property
    def stopped(self) -> str:
        """Why training ends before its last epoch; "" where it does not. It follows from `state` alone."""
        return ""

    # --- preparation --------------------------------------------------------------------------------------------

    def prepare(self) -> Self:
        """Make everything ready for training, once; returns this trainer.

        Raises:
            CheckpointError: the folder holds another run, or its checkpoint is damaged.
            TrainingError: the configuration cannot be trained here.
        """
        if self.prepared:
            return self
        self.require()
        self.accelerator = _accelerator(self.config)
        self.device = self.accelerator.device
        config, data = self.config, self.train_set
        self.run.begin(self.description, provenance(config.seed, str(self.device), data.fingerprint))
        if config.sync_batch_norm:
            distributed.synchronise_batch_norm(self.model)
        # Gradients are averaged in `WeightTrainer.update`: theta and w take turns, which DDP's wrapper cannot follow.
        self.model = self.accelerator.prepare_model(
            self.model.to(memory_format=torch.channels_last), evaluation_mode=True
        )
        distributed.share_weights(self.model)
        state = self.run.load_checkpoint("cpu")
        self.batch_size = state["batch_size"] if state else self._choose_batch_size()
        self.setup()
        self.steps_per_epoch = self.count_steps()
        self.algorithm = self.make_algorithm()
        if state:
            self.load_state(state)
        self.prepared = True
        return self

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return self.algorithm.optimizers

    def settings(self, w: torch.optim.Optimizer) -> dict[str, Any]:
        """The arguments of `WeightTrainer` that follow from the configuration, for an optimiser of w."""
        c = self.config
        steps = max(1, c.epochs * self.steps_per_epoch)
        return {
            "w_schedule": schedule_of(w, c, steps, self.rate_warmup_epochs * self.steps_per_epoch),
            "clip_norm": c.clip_norm,
            "label_smoothing": c.label_smoothing,
            "criterion": self._criterion(),
            "scaler": self.accelerator.scaler,
            "reduce": distributed.average_gradients if distributed.world()[1] > 1 else None,
        }

    # --- the loop -----------------------------------------------------------------------------------------------

    def train(self) -> Run:
        """Train the epochs that are not done yet, with a checkpoint after each.

        Raises:
            TrainingError: a loss that is not finite; the last complete epoch is kept.
            BionasError: no space left for a checkpoint; the previous one is kept.
        """
        self.prepare()
        total = self.config.epochs
        with progress(total=total, initial=self.epoch, desc=self.phase, unit="epoch") as bar:
            for epoch in range(self.epoch, total):
                if self.stopped:
                    break
                start, core_start = time.perf_counter(), time.process_time()
                distributed.own_random_state(self.config.seed, epoch)
                self.model.train()
                row = {"epoch": epoch + 1, "phase": self.phase, **self.train_epoch(epoch, bar)}
                seconds = time.perf_counter() - start
                distributed.average_buffers(self.model)
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
        if self.device.type != "cpu":
            free_memory()
        return self.run

    def validate(self) -> dict[str, float]:
        """Loss and accuracy on the validation split, in inference mode."""
        logits, labels = map(distributed.gathered, _forward_all(self.model, self.val_loader))
        loss = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        return {
            "val_loss": loss.item(),
            "val_accuracy": (logits.argmax(1) == labels).cpu().double().mean().item(),
        }

    def to_device(self, batch: Batch) -> Batch:
        return batch.to(self.device, non_blocking=True)

    # --- resuming ----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        scaler = self.accelerator.scaler
        return {
            "epoch": self.epoch,
            "batch_size": self.batch_size,
            "model": self.accelerator.unwrap_model(self.model).state_dict(),
            "optimizers": {n: o.state_dict() for n, o in self.optimizers.items()},
            "schedulers": {n: s.state_dict() for n, s in self.algorithm.schedules.items()},
            "scaler": scaler.state_dict() if scaler is not None else {},
            "history": self.history,
            "random": random_state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Raises CheckpointError where the checkpoint is of another network."""
        try:
            self.accelerator.unwrap_model(self.model).load_state_dict(state["model"])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
            for name, scheduler in self.algorithm.schedules.items():
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
        set_random_state(state["random"])

    def save(self) -> None:
        """The checkpoint first; the tables are drawn from what it holds, and redrawn on resuming."""
        self.run.save_checkpoint(self.state())
        self.write_tables()
        distributed.wait()

    def write_tables(self) -> None:
        files.write_csv(self.run.path / "history.csv", pd.DataFrame(self.history))

    # --- set-up -------------------------------------------------------------------------------------------------

    def _criterion(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        counts = np.bincount(self.train_set.labels, minlength=len(self.train_set.class_names))
        return criterion(self.config.balance, counts, self.config.label_smoothing, self.device)

    def _loader(self, specimens: SpecimenSet, seed: int, shuffle: bool, augment: str = "none") -> BatchLoader:
        # A last batch of one image would leave batch normalisation without a variance: training drops the remainder.
        return BatchLoader(
            specimens,
            self.encoding,
            distributed.divisible(self.batch_size, len(specimens)),
            shuffle=shuffle,
            seed=seed,
            augment=augment,
            drop_last=shuffle,
            device=self.device,
            share=distributed.world(),
            resample=shuffle and self.config.balance == "resampling",
        )

    def trial_step(self, batch: Batch) -> None:
        """One forward and backward pass as in training, without an update: what automatic batch size tries."""
        F.cross_entropy(self.model(batch.image, batch.metadata), batch.label).backward()
        self.model.zero_grad(set_to_none=True)

    def _choose_batch_size(self) -> int:
        if self.config.batch_size != "auto":
            return int(self.config.batch_size)

        def step_with(images: int) -> None:
            positions = np.arange(images) % len(self.train_set)
            loader = BatchLoader(self.train_set.subset(positions), self.encoding, images, shuffle=False)
            self.trial_step(self.to_device(next(loader.epoch(0))))

        _, ranks = distributed.world()
        own = distributed.of_rank_0(largest_batch_size(self.model, step_with, self.device))
        return min(LARGEST, own * ranks)


def predict(
    model: nn.Module,
    specimens: SpecimenSet,
    encoding: MetadataEncoding,
    batch_size: int = 128,
    device: str = "auto",
) -> np.ndarray:
    """Class probabilities of every specimen, in order: (N, n_classes) float64, rows summing to 1."""
    on = chosen_device(device)
    loader = BatchLoader(specimens, encoding, batch_size, shuffle=False, device=on)
    logits, _ = _forward_all(model.to(on), loader)
    return torch.softmax(logits.cpu().double(), dim=1).numpy()


class Tally:
    """Mean loss and accuracy of an epoch, and the check for a loss that is not finite.

    Losses stay on the device and are read together, `READ_EVERY` steps at a time; each of them is checked.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.every = 1 if trainer.device.type == "cpu" else READ_EVERY
        self.unread: list[tuple[int, Step]] = []
        self.loss = self.right = 0.0
        self.images = 0

    def add(self, number: int, step: Step) -> None:
        """Count a step; `number` is its place in the epoch, from 0."""
        self.unread.append((number, step))
        if len(self.unread) >= self.every:
            self._read()

    def _read(self) -> None:
        if not self.unread:
            return
        losses = torch.stack([step.loss for _, step in self.unread]).tolist()
        rights = torch.stack([step.right for _, step in self.unread]).tolist()
        for (number, step), loss, right in zip(self.unread, losses, rights, strict=True):
            if not math.isfinite(loss):
                self._refuse(number, loss)
            self.loss += loss * step.images
            self.right += right
            self.images += step.images
        self.unread.clear()

    def _refuse(self, number: int, loss: float) -> None:
        t = self.trainer
        kept = (
            f"the last complete epoch, {t.epoch}, is in {t.run.checkpoint_path}"
            if t.epoch
            else "no epoch was complete"
        )
        raise TrainingError(
            f"{t.phase}: the loss is {loss} at epoch {t.epoch + 1}, step {number}; {kept}. Usual causes: a learning rate "
            f"too high (it is {t.config.learning_rate:g}), fp16 (try precision='bf16' or 'fp32'), or numeric metadata "
            "with extreme values."
        )

    def row(self) -> dict[str, Any]:
        """The columns of history.csv.

        Raises:
            TrainingError: a loss that is not finite; the message names the step.
        """
        self._read()
        loss, right, images = distributed.summed([self.loss, self.right, self.images], self.trainer.device)
        n = max(images, 1)
        return {"train_loss": loss / n, "train_accuracy": right / n, "images": int(images)}


def free_memory() -> None:
    """Collect garbage and empty the device's cache: what one phase held is there for the next (section III-B.2)."""
    gc.collect()
    for backend in (torch.cuda, torch.mps):
        if backend.is_available():
            backend.empty_cache()


def optimizer_of_w(parameters: list[nn.Parameter], config: FitConfig) -> torch.optim.Optimizer:
    """AdamW with a configuration's rate and decay."""
    return adamw(parameters, config.learning_rate, config.weight_decay)


def chosen_device(name: str) -> torch.device:
    """The device of a name; "auto" is the first of CUDA, Apple's GPU and CPU that torch sees here.

    Raises:
        UnknownName: not one of `DEVICES`.
        TrainingError: torch does not see that device here.
    """
    if name not in DEVICES:
        raise UnknownName("device", name, DEVICES)
    seen = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, here in seen.items() if here))
    if not seen[name]:
        raise TrainingError(
            f"device={name!r} was asked for, but torch sees no such device here. Use device='auto'."
        )
    return torch.device(name)


def _accelerator(config: FitConfig) -> Accelerator:
    device = chosen_device(config.device)
    automatic = "fp16" if device.type == "cuda" else "no"
    precision = {"auto": automatic, "fp32": "no"}.get(config.precision, config.precision)
    if device.type != "cuda" and precision == "fp16":
        raise TrainingError("precision='fp16' needs a CUDA device. Use 'bf16' or 'fp32' here.")
    # A second run in one process may want another precision, or another device.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=device.type == "cpu", mixed_precision=precision)


@torch.no_grad()
def _forward_all(model: nn.Module, loader: BatchLoader) -> tuple[Tensor, Tensor]:
    model.eval()
    results = [(model(b.image, b.metadata).float(), b.label) for b in loader.epoch(0)]
    return torch.cat([logits for logits, _ in results]), torch.cat([labels for _, labels in results])


def _line(row: dict[str, Any], epochs: int) -> str:
    theta = f", theta loss {row['theta_loss']:.3f}" if np.isfinite(row.get("theta_loss", np.nan)) else ""
    return (
        f"{described(row['phase'])} epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.3f}{theta}, "
        f"validation loss {row['val_loss']:.3f}, accuracy {row['val_accuracy']:.3f}"
        f"{left(row['seconds'] * (epochs - row['epoch']))}"
    )
