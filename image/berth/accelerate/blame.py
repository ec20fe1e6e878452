"""Which step of a pipeline has no exact accelerated model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from berth.accelerate.refusal import Refusal, step_name

# Tries one estimator alone: the refusal, or None where it is exact.
Attempt: TypeAlias = Callable[[Any], Refusal | None]


@dataclass(frozen=True, slots=True)
class _Part:
    """One step, the way to it, and the whole cut down so that it ends with this step."""

    path: str
    step: Any
    alone: Any


def _with(estimator: Any, **fitted: Any) -> Any:
    shorter = copy.copy(estimator)
    vars(shorter).update(fitted)
    return shorter


def _steps(pipeline: Any) -> Iterator[_Part]:
    for at, (name, step) in enumerate(pipeline.steps):
        if step is None or step == "passthrough":
            continue
        if at == 0:
            for inner in walk_parts(step):
                yield _Part(f"{name}/{inner.path}", inner.step, _with(pipeline, steps=[(name, inner.alone)]))
        yield _Part(name, step, _with(pipeline, steps=pipeline.steps[: at + 1]))


def _branches(transformer: Any) -> Iterator[_Part]:
    for name, part, columns in transformer.transformers_:
        if part in ("drop", "passthrough"):
            continue
        for inner in walk_parts(part):
            cut = _with(transformer, transformers_=[(name, inner.alone, columns)])
            yield _Part(f"{name}/{inner.path}", inner.step, cut)
        yield _Part(name, part, _with(transformer, transformers_=[(name, part, columns)]))


def walk_parts(estimator: Any) -> Iterator[_Part]:
    """The steps of a pipeline, the parts of a column transformer or a union, those inside others first."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import FeatureUnion, Pipeline

    if isinstance(estimator, FeatureUnion):
        for name, part in estimator.transformer_list:
            yield _Part(name, part, _with(estimator, transformer_list=[(name, part)]))
    elif isinstance(estimator, Pipeline):
        yield from _steps(estimator)
    elif isinstance(estimator, ColumnTransformer):
        yield from _branches(estimator)


def find_step(estimator: Any, refusal: Refusal, attempt: Attempt) -> Refusal:
    """The refusal of the first step that is not exact by itself; if each is, that of the whole."""
    last = None
    for last in walk_parts(estimator):
        whole = getattr(last.alone, "steps", None) == getattr(estimator, "steps", ())
        found = refusal if whole else attempt(last.alone)
        if found is not None:
            return Refusal(step_name(last.path, last.step), found.reason)
    return refusal
