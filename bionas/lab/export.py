"""A trained network in the exchange formats of other programs: ONNX and TorchScript.

Both take photographs of 0 to 255 as float32 (B, 3, S, S) and give calibrated probabilities (B, C): normalisation and
temperature are inside. Each export is checked against the model on photographs before it is kept.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bionas.errors import BionasError
from bionas.lab.model import Model
from bionas.lab.photographs import Photograph
from bionas.system import files

OPSET = 18
AGREEMENT = 1e-4
"""Largest difference of a probability between the exported network and the model."""

INPUT, OUTPUT = "images", "probabilities"


class Exported(NamedTuple):
    """`path`; `difference`: the largest |Δp| on the photographs it was checked with; `checked`: how many these were."""

    path: Path
    difference: float
    checked: int


class Calibrated(nn.Module):
    """The network with its temperature: (B, 3, S, S) of 0..255 -> (B, C) probabilities."""

    def __init__(self, model: Model):
        super().__init__()
        self.network = model.network
        self.temperature = float(model.calibration.temperature)

    def forward(self, images: Tensor) -> Tensor:
        return torch.softmax(self.network(images) / self.temperature, dim=1)


def export_torchscript(
    model: Model, to: str | os.PathLike, photographs: Sequence[Photograph] = ()
) -> Exported:
    """Write a TorchScript file with the class names inside (`extra_files["classes.json"]`).

    Raises:
        BionasError: the exported network does not agree with the model, or the file cannot be written.
    """
    network = Calibrated(model).eval()
    images = _images(model, photographs)
    with torch.inference_mode():
        wanted = network(images)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # TorchScript is deprecated, and other programs still read it
        warnings.simplefilter(
            "ignore", torch.jit.TracerWarning
        )  # shapes that are the same for every photograph
        traced = torch.jit.trace(network, images[:2].float(), check_trace=False)
        made = Path(folder) / "model.pt"
        torch.jit.save(traced, str(made), _extra_files={"classes.json": json.dumps(list(model.classes))})
        with torch.inference_mode():
            given = torch.jit.load(str(made))(images.float())
        return _kept(made, to, wanted, given)


def export_onnx(
    model: Model, to: str | os.PathLike, photographs: Sequence[Photograph] = (), opset: int = OPSET
) -> Exported:
    """Write an ONNX file with a dynamic batch; the class names are in its metadata (`classes`, JSON).

    Raises:
        BionasError: the packages `onnx` and `onnxruntime` are missing, or the exported network does not agree.
    """
    onnx, runtime = _onnx()
    network = Calibrated(model).eval()
    images = _images(model, photographs)
    with torch.inference_mode():
        wanted = network(images)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.onnx"
        torch.onnx.export(
            network,
            (images[:2].float(),),
            str(made),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
            opset_version=opset,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        proto = onnx.load(str(made))
        for key, value in _metadata(model).items():
            entry = proto.metadata_props.add()
            entry.key, entry.value = key, value
        onnx.checker.check_model(proto)
        onnx.save(proto, str(made))
        return _kept(made, to, wanted, torch.from_numpy(_run(runtime, made, images.float().numpy())))


def quantize_onnx(
    source: str | os.PathLike, to: str | os.PathLike, model: Model, photographs: Sequence[Photograph]
) -> Path:
    """An int8 copy of an exported ONNX file, its activations calibrated on photographs (static, per channel).

    Raises:
        BionasError: the packages are missing, or there are no photographs to calibrate on.
    """
    _onnx()
    if not photographs:
        raise BionasError("an int8 network is calibrated on photographs. Give some with --photographs.")
    from onnxruntime import quantization

    images = _images(model, photographs).float().numpy()

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter([{INPUT: images[i : i + 8]} for i in range(0, len(images), 8)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared, made = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quantization.shape_inference.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(made),
            Reader(),
            per_channel=True,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
        )
        with files.replacing(to) as file:
            file.write(made.read_bytes())
    return Path(to)


def probabilities_onnx(path: str | os.PathLike, images: Tensor) -> np.ndarray:
    """What an exported ONNX file says of images (B, 3, S, S) of 0..255: (B, C)."""
    _, runtime = _onnx()
    return _run(runtime, path, images.float().numpy())


def _run(runtime: Any, path: str | os.PathLike, images: np.ndarray) -> np.ndarray:
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    parts = [session.run([OUTPUT], {INPUT: images[i : i + 32]})[0] for i in range(0, len(images), 32)]
    return np.concatenate(parts)


def _metadata(model: Model) -> dict[str, str]:
    return {
        "classes": json.dumps(list(model.classes), ensure_ascii=False),
        "target": model.target,
        "image_size": str(model.size),
        "model": model.name,
        "input": "RGB photographs of 0 to 255, float32, (batch, 3, image_size, image_size)",
    }


def _images(model: Model, photographs: Sequence[Photograph]) -> Tensor:
    """The photographs to check with; two of noise where none are given."""
    if photographs:
        return model.preprocess(photographs)
    noise = torch.randint(0, 256, (2, 3, model.size, model.size), generator=torch.Generator().manual_seed(0))
    return noise.to(torch.uint8)


def _kept(made: Path, to: str | os.PathLike, wanted: Tensor, given: Tensor) -> Exported:
    difference = float((wanted - given).abs().max())
    if not difference <= AGREEMENT:
        raise BionasError(
            f"the exported network differs from the model by {difference:.2g} in a probability, more than {AGREEMENT:g}. "
            "It was not written."
        )
    with files.replacing(to) as file:
        file.write(made.read_bytes())
    return Exported(Path(to), difference, len(wanted))


def _onnx() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise BionasError(
            f"export to ONNX needs the package {error.name}. Install it with `pip install bionas[export]`."
        ) from None
    return onnx, onnxruntime
