"""LightGBM and XGBoost files that are damaged or forged, made of honest ones: `DAMAGED[name](folder)` writes one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np


@cache
def lightgbm_text() -> str:
    import lightgbm

    rng = np.random.RandomState(0)
    rows = rng.rand(200, 4)
    rows[:, 0] = (rows[:, 0] * 6).round()
    target = np.isin(rows[:, 0], [1, 3, 4]).astype(int) + (rows[:, 1] > 0.7)
    options = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1, "min_data_per_group": 1}
    data = lightgbm.Dataset(rows, target, categorical_feature=[0])
    text: str = lightgbm.train({**options, "cat_smooth": 0, "num_leaves": 7}, data, 3).model_to_string()
    return text


@cache
def _xgboost_bytes(raw_format: str, booster: str = "gbtree") -> bytes:
    import xgboost

    rng = np.random.RandomState(0)
    rows = rng.rand(200, 4)
    target = (rows[:, 0] > 0.5).astype(int) + (rows[:, 1] > 0.7)
    model = xgboost.XGBClassifier(n_estimators=3, max_depth=3, booster=booster).fit(rows, target)
    return bytes(model.get_booster().save_raw(raw_format))


def xgboost_json() -> Any:
    return json.loads(_xgboost_bytes("json"))


def _text(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def _lines(change: Callable[[str], str], fix_sizes: bool = True) -> Callable[[Path], Path]:
    """Change the text of the first tree, and keep the byte counts in the header right."""

    def write(folder: Path) -> Path:
        head, _, rest = lightgbm_text().partition("Tree=0\n")
        tree, _, after = rest.partition("Tree=1\n")
        changed = change(tree)
        size = len(f"Tree=0\n{tree}")
        if fix_sizes:
            head = head.replace(f"tree_sizes={size} ", f"tree_sizes={len(f'Tree=0{chr(10)}{changed}')} ")
        return _text(folder / "model.txt", f"{head}Tree=0\n{changed}Tree=1\n{after}")

    return write


def _field(key: str, at: int, value: str) -> Callable[[str], str]:
    def change(tree: str) -> str:
        line = re.search(rf"^{key}=(.*)$", tree, re.MULTILINE)
        assert line is not None
        values = line[1].split()
        values[at] = value
        return tree.replace(line[0], f"{key}={' '.join(values)}")

    return change


def _head(old: str, new: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        assert old in lightgbm_text()
        return _text(folder / "model.txt", lightgbm_text().replace(old, new, 1))

    return write


def _json(change: Callable[[Any], None]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        document = xgboost_json()
        change(document["learner"])
        return _text(folder / "model.json", json.dumps(document))

    return write


def _tree(learner: Any) -> Any:
    return learner["gradient_booster"]["model"]["trees"][0]


def _put(key: str, at: int, value: Any) -> Callable[[Any], None]:
    def change(learner: Any) -> None:
        _tree(learner)[key][at] = value

    return change


def _cycle(learner: Any) -> None:
    _tree(learner)["left_children"][0] = _tree(learner)["right_children"][0] = 0


def _short(learner: Any) -> None:
    for key in ("left_children", "right_children"):
        _tree(learner)[key] = _tree(learner)[key][:1]


def _param(name: str, value: str) -> Callable[[Any], None]:
    def change(learner: Any) -> None:
        learner["learner_model_param"][name] = value

    return change


def _group(learner: Any) -> None:
    learner["gradient_booster"]["model"]["tree_info"][0] = 100_000_000


def _indptr(learner: Any) -> None:
    learner["gradient_booster"]["model"]["iteration_indptr"][-1] = 100_000_000


def _weights(learner: Any) -> None:
    learner["gradient_booster"] = {"name": "gblinear", "model": {"weights": [1.0], "boosted_rounds": 1}}


def _ubjson(change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "model.ubj"
        path.write_bytes(change(_xgboost_bytes("ubj")))
        return path

    return write


def _far_child(data: bytes) -> bytes:
    at = data.index(b"left_children")
    start = data.index(b"#L", at) + 10
    return data[:start] + (1 << 30).to_bytes(4, "big") + data[start + 4 :]


def _long_array(data: bytes) -> bytes:
    at = data.index(b"#L", data.index(b"base_weights")) + 2
    return data[:at] + (1 << 40).to_bytes(8, "big") + data[at + 8 :]


DAMAGED: dict[str, Callable[[Path], Path]] = {
    "lightgbm-crlf": lambda folder: _text(folder / "model.txt", lightgbm_text().replace("\n", "\r\n")),
    "lightgbm-truncated": lambda folder: _text(folder / "model.txt", lightgbm_text()[: len(lightgbm_text()) // 3]),
    "lightgbm-sizes": _lines(lambda tree: tree + "\n" * 40, fix_sizes=False),
    "lightgbm-child": _lines(_field("left_child", 0, "1000000")),
    "lightgbm-leaf": _lines(_field("right_child", 0, "-1000000")),
    "lightgbm-cycle": _lines(
        lambda tree: _field("right_child", 0, "0")(_field("left_child", 0, "0")(tree)),
    ),
    "lightgbm-feature": _lines(_field("split_feature", 0, "100000000")),
    "lightgbm-leaves": _lines(_field("num_leaves", 0, "100000")),
    "lightgbm-category": _lines(
        lambda tree: _field("threshold", 0, "1000000")(_field("decision_type", 0, "1")(tree)),
    ),
    "lightgbm-classes": _head("objective=multiclass num_class:3", "objective=multiclass num_class:90000000"),
    "lightgbm-iteration": _head("num_tree_per_iteration=3", "num_tree_per_iteration=1"),
    "lightgbm-features": _head("max_feature_idx=3", "max_feature_idx=0"),
    "xgboost-child": _json(_put("left_children", 0, 1 << 30)),
    "xgboost-cycle": _json(_cycle),
    "xgboost-feature": _json(_put("split_indices", 0, 1 << 30)),
    "xgboost-short": _json(_short),
    "xgboost-nodes": _json(lambda learner: _tree(learner)["tree_param"].update(num_nodes="1000000000")),
    "xgboost-group": _json(_group),
    "xgboost-classes": _json(_param("num_class", "1")),
    "xgboost-wide": _json(_param("num_feature", "2147483647")),
    "xgboost-steps": _json(_indptr),
    "xgboost-weights": _json(_weights),
    "xgboost-truncated": lambda folder: _text(folder / "model.json", json.dumps(xgboost_json())[:900]),
    "xgboost-deep": lambda folder: _text(folder / "model.json", '{"learner":' + "[" * 500_000),
    "ubjson-child": _ubjson(_far_child),
    "ubjson-array": _ubjson(_long_array),
    "ubjson-truncated": _ubjson(lambda data: data[: len(data) // 2]),
}
