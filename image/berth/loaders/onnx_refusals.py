"""What onnxruntime says of a file that it does not load, as one sentence with the step that works."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

from berth.errors import BerthError, LoadError, UnsafeArtifact

# What onnxruntime says of external data outside the model's folder; it looks before it opens the file,
# in a subgraph with words of their own.
_ESCAPES = (
    "escapes model directory",
    "Absolute path not allowed",
    "points outside the directory",
    "is an absolute path",
)
# In front of its own words: its codes, and where it had the file from, which no client needs to know.
_CODES = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from \S+ failed:|/onnxruntime_src/\S+ ?")
_SHOWN = 300
# An operator set that today's onnxruntime has every operator of.
_OPSET = 21


def shorten(error: BaseException) -> str:
    """What onnxruntime says, without its own codes and paths."""
    return " ".join(_CODES.sub("", str(error)).split())[:_SHOWN]


def _convert(name: str) -> str:
    """The command that brings a file to an operator set of today."""
    new = f"{Path(name).stem}-{_OPSET}.onnx"
    code = f"import onnx; onnx.save(onnx.version_converter.convert_version(onnx.load({name!r}), {_OPSET}), {new!r})"
    quoted = f'"{code}"' if re.fullmatch(r"[\w.+-]+", name) else shlex.quote(code)
    return (
        f"export it again with opset {_OPSET}, or, where its dimensions are fixed, "
        f"convert it with python -c {quoted} and add {new}"
    )


def _missing_kernel(name: str, found: re.Match[str]) -> str:
    return f"{name} uses {found[1]} of operator set {found[2]}, which onnxruntime lacks; {_convert(name)}"


def _new_format(name: str, found: re.Match[str]) -> str:
    return f"{name} is newer than this onnxruntime supports ({found[0]}); {_convert(name)}"


def _unknown(name: str, found: re.Match[str]) -> str:
    return (
        f"{name} uses an operator that onnxruntime lacks: {found[1]}, which is not a registered function/op; "
        "export the model again without it"
    )


def _locale(name: str, found: re.Match[str]) -> str:
    return f"{name} compares text by the rules of {found[1]}, a locale that is not installed here; install it"


_KNOWN: tuple[tuple[str, Callable[[str, re.Match[str]], str]], ...] = (
    (r"Could not find an implementation for (\w+)\((\d+)\)", _missing_kernel),
    (r"Unsupported model IR version: \d+, max supported IR version: \d+", _new_format),
    (r"Opset \d+ is under development", _new_format),
    (r"([\w.:]+)\(-?\d+\) is not a registered function/op", _unknown),
    (r"Failed to construct locale with name: ?([\w.-]+)", _locale),
)


def explain_refusal(name: str, error: BaseException) -> BerthError:
    """The error to raise for a file called `name`, of what onnxruntime raised when it loaded it."""
    text = str(error)
    if any(words in text for words in _ESCAPES):
        return UnsafeArtifact(
            f"{name} wants data from outside its folder; save it with its data beside it ({shorten(error)})"
        )
    if "External data path" in text:
        return LoadError(
            f"{name} keeps its weights in another file, which is not beside it; add both from one folder "
            f"({shorten(error)})"
        )
    for pattern, explain in _KNOWN:
        if found := re.search(pattern, text):
            return LoadError(explain(name, found))
    return LoadError(
        f"{name} is not a model that onnxruntime can load; it is damaged or of a newer kind, export it again "
        f"({shorten(error)})"
    )
