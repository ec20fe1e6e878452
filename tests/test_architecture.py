"""The house's rules that a program can check: layers, forbidden imports, sizes, words, docstrings."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from statistics import median

import pytest

PACKAGE = Path(__file__).parents[1] / "image" / "berth"

# The rooms, the lowest first: imports point down. Files right below berth/ are rooms of their own.
ORDER = [
    *("errors", "whole_files", "cgroups", "platforms", "settings", "cpu"),
    *("tensors", "models", "telemetry", "loaders", "accelerate", "serving"),
    *("experiments", "publishing", "pulling", "score", "switchgate", "web", "rpc", "consuming", "worker"),
    *("load_settings", "cpu_settings", "batch", "app", "cli", "__main__"),
]
HEAVY = {
    "confluent_kafka", "google", "grpc", "httpx",
    "joblib", "lightgbm", "mlflow", "onnx", "onnxruntime", "opentelemetry", "pandas", "pyarrow", "safetensors",
    "redis", "scipy", "simdjson", "skl2onnx", "sklearn", "skops", "torch", "xgboost", "yaml",
}  # fmt: skip
# Which files may import what nobody else may.
RESERVED = {
    "flask": r"web/(flask_routes|http_metrics)\.py|app\.py",
    "werkzeug": r"web/(flask_routes|console)\.py",
    "prometheus_client": r"telemetry/metrics/.*",
    "prometheus_flask_exporter": r"web/http_metrics\.py",
    "gunicorn": r"worker/.*",
    "multiprocessing": "nobody",
    "berth.settings": r"cli/.*|app\.py|batch\.py|(load|cpu)_settings\.py",
}
MOST_LINES = 300
# Of lines that are not blank.
MEDIAN_LINES = 100
MOST_FUNCTION_LINES = 35
# A page of JSON Schema, or an application's parts one after another: longer, and none the worse for it.
LONG_FUNCTIONS = {"cli/store_commands.py:add"}


@dataclass(frozen=True)
class Import:
    """One import: by whom, of what, and whether it runs when the file is imported."""

    file: str
    module: str
    at_start: bool


@cache
def files() -> dict[str, ast.Module]:
    """Every file of the package by its path, parsed."""
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}


def sources() -> dict[str, str]:
    """Every file of the package by its path, as text."""
    return {name: (PACKAGE / name).read_text("utf-8") for name in files()}


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    assert node.level == 0, "imports are absolute"
    module = str(node.module)
    inside = [f"{module}.{name.name}" for name in node.names] if module.startswith("berth") else []
    return [module, *(name for name in inside if is_module(name))]


def is_module(name: str) -> bool:
    """Whether a dotted name is a file of the package."""
    path = Path(*name.split(".")[1:])
    return (PACKAGE / path).is_dir() or (PACKAGE / path).with_suffix(".py").is_file() if path.parts else True


def _walk(node: ast.AST, at_start: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, at_start
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        else:
            yield from _walk(child, at_start and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


@cache
def imports() -> tuple[Import, ...]:
    """Every import in the package; those for the type checker alone are none."""
    return tuple(
        Import(file, module, at_start)
        for file, tree in files().items()
        for node, at_start in _walk(tree, True)
        for module in _modules(node)
    )


def top(file: str) -> str:
    """The module or package right below berth that a file belongs to."""
    return file.split("/")[0].removesuffix(".py")


def test_every_room_has_its_place() -> None:
    assert {top(file) for file in files()} - {"__init__"} == set(ORDER)


def test_imports_point_down() -> None:
    for found in imports():
        target = [*found.module.split("."), ""][1]
        if found.module.startswith("berth.") and top(found.file) != target:
            assert ORDER.index(top(found.file)) > ORDER.index(target), f"{found} points up"


def test_init_files_only_export() -> None:
    inits = {name: tree for name, tree in files().items() if name.endswith("__init__.py") and name != "__init__.py"}
    allowed = (ast.Import, ast.ImportFrom, ast.Expr, ast.Assign)
    assert [name for name, tree in inits.items() if not all(isinstance(node, allowed) for node in tree.body)] == []


def _scripts() -> dict[str, ast.Module]:
    """The Python files beside the package: the gunicorn file, the benchmark, and what people and CI call."""
    root = PACKAGE.parents[1]
    listing = ["git", "ls-files", "-co", "--exclude-standard", "image/gunicorn.conf.py", "bench", "ci"]
    names = subprocess.run(listing, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
    texts = {name: (root / name).read_text("utf-8") for name in names if Path(name).suffix in ("", ".py")}
    is_python = re.compile(r"#!/usr/bin/env python")
    return {name: ast.parse(text) for name, text in texts.items() if name.endswith(".py") or is_python.match(text)}


def test_no_two_modules_or_classes_share_a_name() -> None:
    trees = files() | _scripts()
    modules = [Path(name).stem for name in trees if Path(name).stem not in ("__init__", "__main__")]
    rooms = {str(path) for name in files() for path in [Path(name).parent.name] if path}
    classes = [node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert [name for name, count in Counter([*modules, *rooms]).items() if count > 1] == []
    assert [name for name, count in Counter(classes).items() if count > 1] == []


def test_no_file_imports_itself_in_a_circle() -> None:
    edges: dict[str, set[str]] = {}
    for found in imports():
        if found.module.startswith("berth.") and found.at_start:
            path = found.module.removeprefix("berth.").replace(".", "/")
            target = f"{path}.py" if f"{path}.py" in files() else f"{path}/__init__.py"
            edges.setdefault(found.file, set()).add(target)
    finished: set[str] = set()

    def visit(file: str, way: tuple[str, ...]) -> None:
        assert file not in way, f"a circle: {' -> '.join([*way, file])}"
        if file not in finished:
            for target in edges.get(file, set()) - {file}:
                visit(target, (*way, file))
            finished.add(file)

    for file in edges:
        visit(file, ())


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    assert [found for found in imports() if found.at_start and found.module.split(".")[0] in HEAVY] == []


def test_the_server_starts_without_heavy_libraries() -> None:
    commands = "list(berth.cli.main.berth.commands.values())"
    code = f"import sys, berth.app, berth.cli.main; {commands}; print(sorted(set(sys.modules) & {HEAVY!r}))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("library", RESERVED)
def test_who_may_import_what(library: str) -> None:
    allowed = re.compile(RESERVED[library])
    for found in imports():
        if found.module == library or found.module.startswith(library + "."):
            assert allowed.fullmatch(found.file), found


def test_json_over_http_is_the_codecs_alone() -> None:
    coders = [found.file for found in imports() if found.module in ("json", "orjson") and top(found.file) == "web"]
    assert coders == []


def test_the_environment_is_read_in_two_places() -> None:
    readers = {name for name, text in sources().items() if re.search(r"os\.(environ|getenv)", text)}
    assert readers <= {"settings.py", "cpu.py"}


def test_files_are_short() -> None:
    lines = {name: text.splitlines() for name, text in sources().items()}
    assert {name: len(text) for name, text in lines.items() if len(text) > MOST_LINES} == {}
    written = [sum(bool(line.strip()) for line in text) for text in lines.values()]
    assert median(written) < MEDIAN_LINES


def functions() -> Iterator[tuple[str, str, ast.FunctionDef]]:
    """(file, qualified name, function) for functions and methods, those inside functions left out."""
    for file, tree in files().items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                yield file, node.name, node
            elif isinstance(node, ast.ClassDef):
                methods = (child for child in node.body if isinstance(child, ast.FunctionDef))
                yield from ((file, f"{node.name}.{method.name}", method) for method in methods)


def _body_lines(function: ast.FunctionDef) -> int:
    first = function.body[1] if ast.get_docstring(function) and len(function.body) > 1 else function.body[0]
    return int(function.end_lineno or 0) - first.lineno + 1


def test_functions_are_short() -> None:
    long = {f"{file}:{name}": _body_lines(function) for file, name, function in functions()}
    assert {name: count for name, count in long.items() if count > MOST_FUNCTION_LINES}.keys() <= LONG_FUNCTIONS


def _overriding_classes() -> set[str]:
    """Classes made from another: what their methods are for is said there."""
    classes = ((file, node) for file, tree in files().items() for node in tree.body if isinstance(node, ast.ClassDef))
    return {f"{file}:{node.name}" for file, node in classes if node.bases}


def _is_public(qualified: str) -> bool:
    return not any(part.startswith("_") for part in qualified.split("."))


def test_what_is_public_says_what_it_is_for() -> None:
    silent = [name for name, tree in files().items() if not ast.get_docstring(tree)]
    for name, tree in files().items():
        classes = (node for node in tree.body if isinstance(node, ast.ClassDef) and _is_public(node.name))
        silent += [f"{name}:{node.name}" for node in classes if not ast.get_docstring(node)]
    public = ((file, name, node) for file, name, node in functions() if _is_public(name))
    inherited = _overriding_classes()
    named = ((f"{file}:{name}", node) for file, name, node in public)
    silent += [name for name, node in named if not ast.get_docstring(node) and name.rpartition(".")[0] not in inherited]
    assert silent == []


def test_names_say_what_things_are() -> None:
    classes = chain.from_iterable(
        (f"{file}:{node.name}" for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
        for file, tree in files().items()
    )
    assert [name for name in classes if re.search(r"(Manager|Helper|Utils?|Base|Impl)$", name)] == []
    assert [name for name in files() if re.search(r"(utils?|helpers?|common|misc)\.py$", name)] == []


def test_nothing_is_left_to_do() -> None:
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    assert [name for name, text in sources().items() if words.search(text)] == []


def test_a_type_that_is_ignored_names_its_reason() -> None:
    assert [name for name, text in sources().items() if re.search(r"type: ignore(?!\[)", text)] == []


def test_nothing_is_printed() -> None:
    calls = [
        file
        for file, tree in files().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == []


def test_gunicorns_master_loads_neither_numpy_nor_the_routes() -> None:
    modules = re.findall(
        r"^from (berth\.[\w.]+) import", (PACKAGE.parent / "gunicorn.conf.py").read_text("utf-8"), re.M
    )
    assert "berth.worker.fair_worker" in modules
    code = f"import sys, {', '.join(modules)}; print(*{{'numpy', 'flask', 'berth.web.pipeline'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
