"""How an artifact is made smaller: one table by format and method; adding one is a function and a line."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from berth.errors import BerthError, LoadError
from berth.loaders.artifacts import find_artifact
from berth.loaders.formats import LoadOptions
from berth.loaders.onnxruntime_library import import_onnxruntime
from berth.loaders.pt2 import clean_export
from berth.loaders.torch import read_module
from berth.loaders.torch_archives import clean_torchscript
from berth.models.manifest import Manifest
from berth.tensors.arrays import Tensors

_AMOUNT = 0.5
# A bias or a scale has one dimension: few numbers, and each of them matters.
_WEIGHT_DIMENSIONS = 2


@dataclass(frozen=True, slots=True)
class Method:
    """int8, or prune with the share of weights that becomes zero."""

    name: str
    amount: float = 0.0

    def __str__(self) -> str:
        return f"{self.name}:{self.amount:g}" if self.amount else self.name


@dataclass(frozen=True)
class Artifact:
    """The version that is made over, where the new files go, and a few rows it predicts."""

    folder: Path
    manifest: Manifest
    part: Path
    rows: Tensors
    options: LoadOptions


# Writes the new artifact into the source's `part`; its format.
Maker: TypeAlias = Callable[[Artifact, Method], str]


def parse_method(text: str) -> Method:
    """int8, prune or prune:SHARE. Raises ValueError."""
    name, _, share = text.partition(":")
    if name == "int8" and not share:
        return Method("int8")
    if name == "prune":
        try:
            amount = float(share or _AMOUNT)
        except ValueError:
            amount = 0.0
        if 0 < amount < 1:
            return Method("prune", amount)
    raise ValueError(f"{text!r} is no method; want int8, prune, or prune:SHARE with a share between 0 and 1")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the deprecations that torch and onnxruntime report, and for which the reader can do nothing."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _count_operators(path: Path) -> Counter[str]:
    import onnx

    return Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)


def _quantize_onnx(source: Artifact, method: Method) -> str:
    """Weights as unsigned bytes: signed ones saturate on some CPUs, and convolutions lack them."""
    import onnx

    import_onnxruntime()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = find_artifact(source.folder, source.manifest, (".onnx",))
    made = source.part / path.name
    # Given a path, it would write a file of its own beside it, which is in the store.
    quantize_dynamic(onnx.load(path), made, weight_type=QuantType.QUInt8)
    if _count_operators(path) == _count_operators(made):
        raise LoadError("it has no MatMul, Gemm, Conv or LSTM with weights in float32, so int8 would change nothing")
    return "onnx"


def _as_script(module: Any, source: Artifact) -> Any:
    """TorchScript of a module: its code where that can be compiled, else what it does with a few rows."""
    import torch

    try:
        return torch.jit.script(module)
    except Exception:  # TorchScript is a small part of Python, and its compiler fails in many ways
        given = {name: torch.from_numpy(array.copy()) for name, array in source.rows.items()}
        if set(given) <= set(inspect.signature(module.forward).parameters):
            return torch.jit.trace(module, example_kwarg_inputs=given, strict=False)
        return torch.jit.trace(module, tuple(given.values()), strict=False)


def _quantize_module(source: Artifact, method: Method) -> str:
    import torch

    if torch.cuda.is_available():
        raise LoadError("torch's int8 layers run on a CPU alone, and here a GPU would serve them; prune, or use ONNX")
    path = find_artifact(source.folder, source.manifest, (".safetensors",))
    module = read_module(source.folder, source.manifest, source.options.torch_factories)
    before = {name: type(part) for name, part in module.named_modules()}
    quantized = torch.ao.quantization.quantize_dynamic(module, dtype=torch.qint8)
    if before == {name: type(part) for name, part in quantized.named_modules()}:
        raise LoadError("it has no Linear, LSTM or GRU layer, so int8 would change nothing")
    with torch.inference_mode():
        torch.jit.save(_as_script(quantized, source), source.part / f"{path.stem}.pt")
    return "torchscript"


def _prune(weights: dict[str, Any], amount: float) -> dict[str, Any]:
    """The tensors that have two dimensions or more, with their smallest numbers zero. Raises LoadError if none has."""
    from torch.nn.utils.prune import L1Unstructured

    chosen = {
        name: weight
        for name, weight in weights.items()
        if weight.ndim >= _WEIGHT_DIMENSIONS and weight.is_floating_point()
    }
    if not chosen:
        raise LoadError("it has no weights of two dimensions or more that could be pruned")
    return {name: L1Unstructured(amount).prune(weight.detach()) for name, weight in chosen.items()}


def _prune_in_place(parameters: dict[str, Any], amount: float) -> None:
    for name, weight in _prune(parameters, amount).items():
        parameters[name].data.copy_(weight)


def _prune_module(source: Artifact, method: Method) -> str:
    """On the file's own tensors: what the module says is a parameter; tables it never trained stay."""
    import safetensors.torch

    path = find_artifact(source.folder, source.manifest, (".safetensors",))
    module = read_module(source.folder, source.manifest, source.options.torch_factories)
    names = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    tensors = safetensors.torch.load_file(path)
    tensors |= _prune({name: tensor for name, tensor in tensors.items() if name in names}, method.amount)
    safetensors.torch.save_file(tensors, source.part / path.name)
    return "safetensors"


def _prune_script(source: Artifact, method: Method) -> str:
    import torch

    path = find_artifact(source.folder, source.manifest, (".pt", ".ts", ".pth"))
    module = torch.jit.load(clean_torchscript(path), map_location="cpu").eval()
    _prune_in_place(dict(module.named_parameters()), method.amount)
    torch.jit.save(module, source.part / path.name)
    return "torchscript"


def _prune_export(source: Artifact, method: Method) -> str:
    import torch

    path = find_artifact(source.folder, source.manifest, (".pt2",))
    exported = torch.export.load(clean_export(path))
    _prune_in_place(dict(exported.named_parameters()), method.amount)
    torch.export.save(exported, source.part / path.name)
    return "torch-export"


_MAKERS: dict[tuple[str, str], Maker] = {
    ("onnx", "int8"): _quantize_onnx,
    ("safetensors", "int8"): _quantize_module,
    ("safetensors", "prune"): _prune_module,
    ("torchscript", "prune"): _prune_script,
    ("torch-export", "prune"): _prune_export,
}


def check_method(key: str, format_: str, method: Method) -> None:
    """That a version of this format can be made over by this method. Raises LoadError telling what can."""
    if (format_, method.name) not in _MAKERS:
        can = "; ".join(
            f"{name}: {', '.join(form for form, wanted in _MAKERS if wanted == name)}" for name in ("int8", "prune")
        )
        raise LoadError(f"{key} is {format_}, which {method.name} does not accept; what can be optimised: {can}")


def make_artifact(source: Artifact, method: Method) -> str:
    """Write the optimised artifact into the source's `part`; its format. Raises LoadError."""
    try:
        with _quiet():
            return _MAKERS[source.manifest.format, method.name](source, method)
    except BerthError:
        raise
    except ModuleNotFoundError as error:
        extra = "accelerate" if source.manifest.format == "onnx" else "torch"
        raise LoadError(f'{method} needs {error.name}, which is not installed: pip install "berth[{extra}]"') from error
    except Exception as error:  # the libraries raise whatever they like for what they cannot do
        reason = " ".join(str(error).split())[:300]
        raise LoadError(f"{method} failed on it: {type(error).__name__}: {reason}") from error
