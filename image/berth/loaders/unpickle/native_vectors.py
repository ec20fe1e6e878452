"""Support vector machines: libsvm copies as many numbers as the counts say, from arrays that may be shorter."""

from __future__ import annotations

from typing import Any

import numpy as np

from berth.loaders.unpickle.native_refusals import (
    brief,
    check_dimensions,
    check_inside,
    check_shape_is,
    native_class,
    refuse,
)

# What every prediction reads before it calls libsvm.
_READ = {"_n_support", "support_vectors_", "_dual_coef_", "_intercept_", "_probA", "_probB"}


def check_machine(machine: Any) -> None:
    """A fitted SVC, NuSVC, SVR, NuSVR or OneClassSVM. Raises UnsafeArtifact."""
    state = vars(machine)
    if not state.keys() >= _READ:
        return  # saved by an old version; a prediction raises AttributeError
    if "_impl" in state:
        refuse(machine, "_impl is set: another algorithm than its class has")
    counts = state["_n_support"]
    check_dimensions(machine, "_n_support", counts, 1, "i")
    classifier = machine._impl in ("c_svc", "nu_svc")
    classes = len(state.get("classes_", ())) if classifier else 2
    if classes < 2 or len(counts) != classes:
        refuse(machine, f"_n_support has {len(counts)} entries for {classes} classes")
    vectors = state["support_vectors_"]
    total = _count_vectors(machine, vectors, state)
    if classifier:
        check_inside(machine, "_n_support", counts, 0, total)
        if int(counts.sum()) != total:
            refuse(machine, f"_n_support counts {counts.sum()} support vectors where there are {total}")
    _check_coefficients(machine, state, classes, total)


def _count_vectors(machine: Any, vectors: Any, state: dict[str, Any]) -> int:
    """How many support vectors libsvm is given."""
    if state.get("_sparse"):
        compressed = native_class("scipy.sparse._csr", "_csr_base")
        if not isinstance(vectors, compressed) or not isinstance(state.get("_dual_coef_"), compressed):
            refuse(machine, "_sparse is set and its vectors are not sparse")
        if state.get("kernel") == "precomputed" or callable(state.get("kernel")):
            refuse(machine, "kernel is precomputed and its vectors are sparse")
        return int(vectors.shape[0])
    support: Any = state.get("support_")
    check_dimensions(machine, "support_", support, 1, "i")
    check_dimensions(machine, "support_vectors_", vectors, 2, "f")
    rows = state.get("shape_fit_", (0,))[0]
    computed = state.get("kernel") == "precomputed" or callable(state.get("kernel"))
    if not computed:
        check_shape_is(machine, "support_vectors_", vectors, (len(support), vectors.shape[1]))
    elif not isinstance(rows, int | np.integer):
        refuse(machine, f"shape_fit_ is {brief(rows)}")
    else:
        check_inside(machine, "support_", support, 0, int(rows) - 1)
    return len(support)


def _check_coefficients(machine: Any, state: dict[str, Any], classes: int, total: int) -> None:
    pairs = classes * (classes - 1) // 2
    coefficients = state.get("_dual_coef_")
    if state.get("_sparse"):
        if coefficients is None or len(coefficients.data) != (classes - 1) * total:
            refuse(machine, f"_dual_coef_ is {brief(coefficients)} for {classes} classes of {total} vectors")
    else:
        check_shape_is(machine, "_dual_coef_", coefficients, (classes - 1, total))
    check_shape_is(machine, "_intercept_", state.get("_intercept_"), (pairs,))
    for name in ("_probA", "_probB"):
        values = state.get(name)
        if not isinstance(values, np.ndarray) or values.shape not in ((0,), (pairs,)):
            refuse(machine, f"{name} is {brief(values)} where {pairs} numbers or none belong")
    if state["_probA"].shape != state["_probB"].shape:
        refuse(machine, "_probA and _probB have different lengths")
