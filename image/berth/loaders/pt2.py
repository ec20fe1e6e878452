"""What a .pt2 file may hold, checked before torch.export.load sees it.

torch.export.load (2.13) runs code that the file chooses: it unpickles sample inputs and odd tensors, loads
compiled libraries, gives size expressions to sympy's eval, looks up operators by dotted name from `torch`
(`torch.os.system` is one), imports modules named in tree specs, and builds Python source from names and
guards. So only plain records pass, every string in them must have a harmless format, and torch gets a new archive.
"""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from berth.errors import LoadError, UnsafeArtifact
from berth.loaders.torch_archives import pack_records, read_records

_MODEL = "models/model.json"
_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_PAYLOADS = {
    "data/weights/model_weights_config.json": re.compile(r"weight_\d+"),
    "data/constants/model_constants_config.json": re.compile(r"tensor_\d+"),
}
_PLAIN = re.compile(
    r"data/weights/weight_\d+|data/constants/tensor_\d+|archive_format|archive_version|byteorder|\.data/\w+"
)
_DROPPED = re.compile(r"extra/.*")

_WORD = re.compile(r"[\w.+-]*")
_TEXT = re.compile(r"[\w ,.>+-]*")
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims)\.(?!__|from_file\b|save\b)\w+\.(?!_)\w+"
    r"|torch\.ops\.aten\.__(i?and|i?or|i?xor|i?lshift|i?rshift)__\.(?!_)\w+"
    r"|torch\.ops\.higher_order\.(cond|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\._?sym_[a-z]+"
    r"|math\.[a-z]+"
    r"|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|abs|and_|or_|not_|eq|ne|lt|le|gt|ge)"
)
_NUMBER_OR_NAME = re.compile(r"\w*|[+-]?[\d.]+(e[+-]?\d+)?")
_EXPRESSION_NODES = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.Name,
    ast.Load,
    ast.keyword,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
)
_FUNCTION = re.compile(
    "Symbol|Integer|Float|Rational|Add|Mul|Pow|Max|Min|Abs|And|Or|Not|Eq|Ne|Lt|Le|Gt|Ge|Equality|Unequality"
    "|StrictLessThan|LessThan|StrictGreaterThan|GreaterThan|floor|ceiling|FloorDiv|ModularIndexing|Where|PythonMod|Mod"
    "|CleanDiv|CeilToInt|FloorToInt|CeilDiv|LShift|RShift|PowByNatural|FloatPow|FloatTrueDiv|IntTrueDiv"
    "|IsNonOverlappingAndDenseIndicator|TruncToFloat|TruncToInt|RoundToInt|RoundDecimal|ToFloat|Identity"
)
_CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")


def _refuse(what: str) -> UnsafeArtifact:
    return UnsafeArtifact(
        f"the .pt2 file holds {what}, which could run code; export the model again with torch.export.save"
    )


def _check_matching(pattern: re.Pattern[str], what: str) -> Callable[[str], None]:
    def check(text: str) -> None:
        if not pattern.fullmatch(text):
            raise _refuse(f"the {what} {text[:80]!r}")

    return check


def _is_harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and _FUNCTION.fullmatch(node.func.id) is not None
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, str) or _NUMBER_OR_NAME.fullmatch(node.value) is not None
    return isinstance(node, _EXPRESSION_NODES)


def _check_expression(text: str) -> None:
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refuse(f"the size {text[:80]!r}") from error
    if not all(_is_harmless(node) for node in nodes):
        raise _refuse(f"the size {text[:80]!r}")


def _check_tree(tree: Any) -> None:
    if tree["type"] not in _CONTAINERS:
        raise LoadError(f"the .pt2 file's inputs or outputs are a {tree['type']}; use tensors, tuples, lists or dicts")
    keys = json.loads(tree["context"] or "null") or []
    # An object here is an enum's: torch would import the module that it names.
    if not isinstance(keys, list) or not all(isinstance(key, str) and _WORD.fullmatch(key) for key in keys):
        raise _refuse(f"the tree context {tree['context'][:80]!r}")
    for child in tree["children_spec"]:
        _check_tree(child)


def _check_treespec(text: str) -> None:
    _, tree = json.loads(text)
    _check_tree(tree)


_check_word = _check_matching(_WORD, "name")
_check_text = _check_matching(_TEXT, "text")
_check_operator = _check_matching(_OPERATOR, "operator")
_CHECKS: dict[str, Callable[[str], None]] = {
    "expr_str": _check_expression,
    "target": _check_operator,
    "as_operator": _check_operator,
    "in_spec": _check_treespec,
    "out_spec": _check_treespec,
    "as_string": _check_text,
    "as_strings": _check_text,
}


def _check_strings(key: str, value: Any) -> None:
    """That each string below `value` has the format its key demands; keys are names."""
    if isinstance(value, str):
        _CHECKS.get(key, _check_word)(value)
    elif isinstance(value, list):
        for item in value:
            _check_strings(key, item)
    elif isinstance(value, dict):
        for inner, item in value.items():
            _check_word(inner)
            _check_strings(inner, item)


def _drop_metadata(value: Any) -> Any:
    """`value` without stack traces and module paths: torch looks functions up by them, and nothing needs them."""
    if isinstance(value, list):
        return [_drop_metadata(item) for item in value]
    if isinstance(value, dict):
        return {key: {} if key == "metadata" else _drop_metadata(item) for key, item in value.items()}
    return value


def _clean_model(content: bytes) -> bytes:
    document = _drop_metadata(json.loads(content))
    # Guards are source code. The graph's own ranges stay, and the schema checks shapes before a prediction.
    document["guards_code"] = []
    _check_strings("", document)
    return json.dumps(document).encode()


def _clean_payload(content: bytes, names: re.Pattern[str]) -> bytes:
    document = json.loads(content)
    _check_strings("", document)
    for tensor, payload in document["config"].items():
        if payload["use_pickle"] or not names.fullmatch(payload["path_name"]):
            raise _refuse(f"{tensor!r} as a pickle")
    return json.dumps(document).encode()


def _clean_record(name: str, content: bytes) -> bytes:
    if name == _MODEL:
        return _clean_model(content)
    if name in _PAYLOADS:
        return _clean_payload(content, _PAYLOADS[name])
    if name == _SAMPLE_INPUTS:  # a pickle that only people read
        return b""
    if _PLAIN.fullmatch(name):
        return content
    raise _refuse(f"the record {name!r}")


def clean_export(path: Path) -> io.BytesIO:
    """The archive as torch.export.load may read it. Raises UnsafeArtifact, LoadError."""
    records = read_records(path)
    if "serialized_exported_program.json" in records:
        raise LoadError(f"{path.name} was saved by torch before 2.8; save it again with this one")
    try:
        kept = {name: _clean_record(name, body) for name, body in records.items() if not _DROPPED.fullmatch(name)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LoadError(f"{path.name} is not an archive of torch.export.save: {error!r}") from error
    if _MODEL not in kept:
        raise LoadError(f"{path.name} holds no {_MODEL}; save it with torch.export.save")
    return pack_records(kept)
