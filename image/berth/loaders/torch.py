"""torch's three formats: TorchScript, exported programs, and safetensors with an allowed architecture."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.artifacts import find_artifact, learn_outputs
from berth.loaders.formats import LoadOptions
from berth.loaders.pt2 import clean_export
from berth.loaders.recognition import check_is
from berth.loaders.torch_archives import clean_torchscript
from berth.models.manifest import Manifest
from berth.models.model import Loaded
from berth.tensors.arrays import DATATYPES, Array, Tensors, TensorSpec, datatype_of


@dataclass(frozen=True)
class _Program:
    """A callable torch module, its parameters' names, how many it must be given, and what it says of its inputs."""

    module: Any
    parameters: tuple[str, ...]
    required: int
    inputs: tuple[TensorSpec, ...] = ()


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _to_array(tensor: Any) -> Array:
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"the model returned a {type(tensor).__name__} where a tensor belongs")
    if tensor.dtype == torch.bfloat16:  # numpy has no such dtype; FP32 holds every value of it
        tensor = tensor.float()
    array: Array = tensor.detach().cpu().numpy()
    return array


def _to_tensor(array: Array, dtype: np.dtype[Any], device: str) -> Any:
    import torch

    ready = np.ascontiguousarray(array, dtype)
    # torch shares the memory and warns of arrays that cannot be written, as those read from a request's body are.
    return torch.from_numpy(ready if ready.flags.writeable else ready.copy()).to(device)


def _name_outputs(answer: Any, names: Sequence[str]) -> dict[str, Any]:
    """A tensor, a tuple of them or a dict, as a dict by output name."""
    if isinstance(answer, Mapping):
        return {str(key): value for key, value in answer.items()}
    if not isinstance(answer, (tuple, list)):
        return {names[0] if names else "output": answer}
    wanted = names or [f"output_{index}" for index in range(len(answer))]
    return dict(zip(wanted, answer, strict=True))


def _runner(
    program: _Program, inputs: Sequence[TensorSpec], output_names: Sequence[str]
) -> Callable[[Tensors], dict[str, Any]]:
    """The module as a function of named arrays: by name where the names are its own, else in order."""
    import torch

    device, dtypes = _device(), {spec.name: DATATYPES[spec.datatype] for spec in inputs}
    by_name = set(dtypes) <= set(program.parameters)

    def run(tensors: Tensors) -> dict[str, Any]:
        given = {name: _to_tensor(tensors[name], dtype, device) for name, dtype in dtypes.items()}
        with torch.inference_mode():
            answer = program.module(**given) if by_name else program.module(*given.values())
        return _name_outputs(answer, output_names)

    return run


def _check_inputs(program: _Program, inputs: Sequence[TensorSpec]) -> None:
    for spec in inputs:
        if spec.datatype == "BYTES":
            raise LoadError(f"the input {spec.name!r} is BYTES; torch has no tensors of text")
    if inputs and not program.required <= len(inputs) <= len(program.parameters):
        raise LoadError(
            f"the manifest names {len(inputs)} inputs ({', '.join(spec.name for spec in inputs)}), "
            f"the model expects {len(program.parameters)} ({', '.join(program.parameters)})"
        )


def _loaded(program: _Program, manifest: Manifest, cpu_threads: int, **built_with: str) -> Loaded:
    import torch

    torch.set_num_threads(cpu_threads)
    inputs = manifest.inputs or program.inputs
    _check_inputs(program, inputs)
    run = _runner(program, inputs, [spec.name for spec in manifest.outputs])

    def arrays(tensors: Tensors) -> dict[str, Array]:
        return {name: _to_array(tensor) for name, tensor in run(tensors).items()}

    def predict(tensors: Tensors, wanted: Sequence[str]) -> dict[str, Array]:
        answers = run(tensors)
        return {name: _to_array(answers[name]) for name in wanted}

    outputs = manifest.outputs or learn_outputs(arrays, inputs)
    return Loaded(predict, inputs, outputs, {"torch": torch.__version__, **built_with})


def load_torchscript(directory: Path, manifest: Manifest, options: LoadOptions) -> Loaded:
    """A torch.jit.save file. It has argument names but no shapes: the manifest must name the inputs."""
    import torch

    path = find_artifact(directory, manifest, (".pt", ".ts", ".pth"))
    check_is(path, "torchscript")
    archive = clean_torchscript(path)
    # torch would have us export instead; the files are still about.
    warnings.filterwarnings("ignore", message=".*torch.jit.load", category=DeprecationWarning)
    try:
        module = torch.jit.load(archive, map_location=_device()).eval()
    except RuntimeError as error:
        raise LoadError(f"{path.name} is not TorchScript that torch {torch.__version__} loads: {error}") from error
    arguments = module.forward.schema.arguments[1:]
    required = sum(not argument.has_default_value() for argument in arguments)
    program = _Program(module, tuple(argument.name for argument in arguments), required)
    loaded = _loaded(program, manifest, options.cpu_threads)
    names = [spec.name for spec in loaded.inputs]
    in_order = (
        [name for name in program.parameters if name in names] if set(names) <= set(program.parameters) else names
    )
    return replace(loaded, module=module, arguments=tuple(in_order))


def _exported_inputs(exported: Any) -> tuple[TensorSpec, ...]:
    import torch

    nodes = {node.name: node.meta["val"] for node in exported.graph.nodes if node.op == "placeholder"}
    specs = []
    for name in exported.graph_signature.user_inputs:
        value = nodes.get(name)
        if not isinstance(value, torch.Tensor):
            raise LoadError(f"the exported program expects {name!r}, which is not a tensor; export it without")
        shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
        specs.append(TensorSpec(name, datatype_of(_to_array(torch.empty(0, dtype=value.dtype)).dtype), shape))
    return tuple(specs)


def _exported_call(exported: Any, names: Sequence[str]) -> Callable[..., Any]:
    """The program's module, called with keywords only where it was exported with them."""
    module = exported.module()
    positional, keyword = exported.call_spec.in_spec.children()
    keys = list(keyword.context or ())
    if positional.num_leaves != positional.num_children or keyword.num_leaves != keyword.num_children:
        raise LoadError("the exported program accepts tensors inside lists or dicts; export it with one argument each")

    def call(*given: Any, **named: Any) -> Any:
        split, values = positional.num_children, given or [named[name] for name in names]
        try:
            return module(*values[:split], **dict(zip(keys, values[split:], strict=True)))
        except RuntimeError as error:
            if "Expected input at" in str(error):  # a size outside of what was exported
                raise ValueError(str(error)) from error
            raise

    return call


def load_export(directory: Path, manifest: Manifest, options: LoadOptions) -> Loaded:
    """A torch.export.save file, which names its inputs. Raises UnsafeArtifact for all but plain graphs."""
    import torch

    path = find_artifact(directory, manifest, (".pt2",))
    check_is(path, "torch-export")
    archive = clean_export(path)
    try:
        exported = torch.export.load(archive)
        inputs = _exported_inputs(exported)
        module = _exported_call(exported, [spec.name for spec in inputs])
    except LoadError:
        raise
    except Exception as error:  # torch.export raises its own, KeyError, AssertionError and more
        raise LoadError(f"{path.name} cannot be loaded by torch {torch.__version__}: {error}") from error
    program = _Program(module, tuple(spec.name for spec in inputs), len(inputs), inputs)
    return _loaded(program, manifest, options.cpu_threads)


def _make_module(manifest: Manifest, allowed: Sequence[str]) -> Any:
    import torch

    architecture = manifest.architecture or {}
    factory = architecture.get("factory")
    if factory is None:
        raise LoadError(
            'safetensors are weights only: name the "architecture" in model.json, {"factory": "module:name"}'
        )
    if factory not in allowed:
        raise UnsafeArtifact(f"the factory {factory!r} is not allowed; add it to BERTH_TORCH_FACTORIES if it is yours")
    module_name, name = factory.split(":")
    try:
        made = getattr(import_module(module_name), name)(**architecture.get("arguments", {}))
    except Exception as error:  # the factory is the user's own code
        raise LoadError(f"the factory {factory!r} failed: {error!r}") from error
    if not isinstance(made, torch.nn.Module):
        raise LoadError(f"the factory {factory!r} made a {type(made).__name__}, not a torch.nn.Module")
    return made


def read_module(directory: Path, manifest: Manifest, allowed: Sequence[str]) -> Any:
    """The module of a safetensors version with its weights, ready to predict. Raises UnsafeArtifact, LoadError."""
    import safetensors.torch

    path = find_artifact(directory, manifest, (".safetensors",))
    check_is(path, "safetensors")
    module = _make_module(manifest, allowed)
    try:
        module.load_state_dict(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise LoadError(f"{path.name} does not fit the architecture: {error}") from error
    return module.eval()


def load_safetensors(directory: Path, manifest: Manifest, options: LoadOptions) -> Loaded:
    """Weights for an architecture whose factory BERTH_TORCH_FACTORIES names. Raises UnsafeArtifact, LoadError."""
    import safetensors

    module = read_module(directory, manifest, options.torch_factories).to(_device())
    parameters = inspect.signature(module.forward).parameters.values()
    required = sum(parameter.default is parameter.empty for parameter in parameters)
    program = _Program(module, tuple(parameter.name for parameter in parameters), required)
    return _loaded(program, manifest, options.cpu_threads, safetensors=safetensors.__version__)
