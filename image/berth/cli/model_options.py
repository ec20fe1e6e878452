"""The options that describe a model file, which `berth add` and `berth serve FILE` share."""

from __future__ import annotations

import json
from typing import Any

import click

from berth.cli.option_types import FILE, with_options
from berth.loaders.formats import FORMATS
from berth.publishing.adding import AddRequest
from berth.tensors.arrays import DATATYPES, TensorSpec


def _parse_spec(text: str) -> TensorSpec:
    """NAME:DATATYPE:SHAPE, as in features:FP64:-1,4. Raises click.BadParameter."""
    name, _, rest = text.partition(":")
    datatype, _, shape = rest.partition(":")
    try:
        sizes = tuple(int(size) for size in shape.split(","))
    except ValueError:
        sizes = ()
    if not name or datatype not in DATATYPES or not sizes or min(sizes) < -1:
        raise click.BadParameter(f"{text!r}: want NAME:DATATYPE:SHAPE, such as features:FP64:-1,4 (-1 is any)")
    return TensorSpec(name, datatype, sizes)


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _parse_metadata(pairs: tuple[str, ...]) -> dict[str, Any]:
    """key=value pairs; a value that is JSON is used as such. Raises click.BadParameter."""
    metadata: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{pair!r}: want KEY=VALUE")
        try:
            metadata[key] = json.loads(text, parse_constant=_refuse_constant)
        except ValueError:
            metadata[key] = text
    return metadata


# A command gets these as keywords and hands them to `build_request`.
model_options = with_options(
    click.option(
        "--format", "format_", type=click.Choice(list(FORMATS)), help="Format of the model [default: detected]."
    ),
    click.option("--sample", type=FILE, help="CSV of typical inputs, or a request as JSON."),
    click.option("--no-profile", is_flag=True, help="Do not store the distribution of the sample, which /drift needs."),
    click.option(
        "--steps", default="", show_default=False, metavar="PART,…", help="Parts of the file to apply, in order."
    ),
    click.option(
        "--metadata", multiple=True, metavar="KEY=VALUE", help="Metadata to store in model.json; may be repeated."
    ),
    click.option(
        "--input", "inputs", multiple=True, metavar="NAME:DATATYPE:SHAPE", help="Input that the file does not describe."
    ),
    click.option(
        "--output",
        "outputs",
        multiple=True,
        metavar="NAME:DATATYPE:SHAPE",
        help="Output that the file does not describe.",
    ),
    click.option("--architecture", metavar="PACKAGE.MODULE:FACTORY", help="Factory of a safetensors file's module."),
    click.option("--arguments", metavar="JSON", default="{}", help="Keyword arguments of the factory."),
)


def build_request(name: str, version: str, given: dict[str, Any]) -> AddRequest:
    """What the options demand. Raises click.BadParameter."""
    try:
        arguments = json.loads(given["arguments"])
    except ValueError as error:
        raise click.BadParameter(f"--arguments is not JSON: {error}") from error
    architecture = given["architecture"]
    return AddRequest(
        name=name,
        version=version,
        format=given["format_"] or "",
        sample=given["sample"],
        inputs=tuple(_parse_spec(text) for text in given["inputs"]),
        outputs=tuple(_parse_spec(text) for text in given["outputs"]),
        metadata=_parse_metadata(given["metadata"]),
        steps=tuple(word.strip() for word in given["steps"].split(",") if word.strip()),
        profile=not given["no_profile"],
        architecture={"factory": architecture, "arguments": arguments} if architecture else None,
    )


def given_options(given: dict[str, Any]) -> list[str]:
    """The names of the options in use."""
    words = {"format_": "format", "no_profile": "no-profile", "inputs": "input", "outputs": "output"}
    return [f"--{words.get(name, name)}" for name, value in given.items() if value not in (None, (), "{}", "", False)]
