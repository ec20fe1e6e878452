"""The experiment file: which public name goes to which versions, in which shares, by what.

{"experiments": [
  {"name": "churn-q4", "model": "churn", "unit": "header:X-User-Id",
   "arms": [{"model": "churn@3", "weight": 90}, {"model": "churn@4", "weight": 10}]}]}
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from berth.errors import SettingsError, shown
from berth.models.store import WORD
from berth.tensors.codec import find_duplicate

SETTING = "BERTH_EXPERIMENT_FILE"
FIXED, THOMPSON, EPSILON = POLICIES = ("fixed", "thompson", "epsilon")
HEADER, FIELD, REQUEST = "header", "field", "request"
MOST_EXPERIMENTS, MOST_ARMS = 32, 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_KEYS = frozenset(
    {"name", "model", "arms", "unit", "policy", "seed", "epsilon", "floor", "minimumRewards", "halfLifeDays", "shadow"}
)


@dataclass(frozen=True)
class Arm:
    """A version that takes a share of the traffic."""

    model: str
    version: str
    weight: float = 1.0

    @cached_property
    def key(self) -> str:
        """The arm as people write it."""
        return f"{self.model}@{self.version}"


@dataclass(frozen=True)
class Unit:
    """What stays with its arm: a header's value, a column's, or nothing but the request itself."""

    kind: str = REQUEST
    name: str = ""

    @cached_property
    def variable(self) -> str:
        """The header's name in a WSGI environ."""
        return f"HTTP_{self.name.upper().replace('-', '_')}"


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that predicts a share of the requests a second time; no client gets its predictions."""

    arm: Arm
    share: float


@dataclass(frozen=True, slots=True)
class Experiment:
    """One public name and its arms; with a shadow alone it has none."""

    name: str
    model: str
    arms: tuple[Arm, ...] = ()
    unit: Unit = Unit()
    policy: str = FIXED
    seed: str = ""
    epsilon: float = 0.1
    floor: float = 0.01
    minimum_rewards: int = 100
    half_life_days: float = 0.0
    shadow: Shadow | None = None

    @property
    def versions(self) -> tuple[Arm, ...]:
        """The arms, and the shadow's version."""
        return self.arms if self.shadow is None else (*self.arms, self.shadow.arm)


def _reject(where: str, wanted: str, value: Any) -> SettingsError:
    return SettingsError(f"{where} must be {wanted}, got {shown(value)}")


def _object(value: Any, known: frozenset[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _reject(where, "an object", value)
    if unknown := sorted(set(value) - known):
        raise SettingsError(f"{where}: unknown key {unknown[0][:60]!r}; known are {', '.join(sorted(known))}")
    return value


def _number(owner: Mapping[str, Any], key: str, default: float, low: float, high: float, where: str) -> float:
    value = owner.get(key, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not low <= value <= high:
        limits = f"a number from {low:g} to {high:g}" if math.isfinite(high) else f"a number from {low:g} up"
        raise _reject(f"{where}: {key}", limits, value)
    return float(value)


def _parse_version(value: Any, where: str) -> tuple[str, str]:
    words = value.split("@") if isinstance(value, str) else []
    if len(words) != 2 or not all(WORD.fullmatch(word) for word in words):
        raise _reject(f"{where}: model", "NAME@VERSION", value)
    return words[0], words[1]


def _parse_arm(value: Any, where: str) -> Arm:
    arm = _object(value, frozenset({"model", "weight"}), where)
    return Arm(*_parse_version(arm.get("model"), where), _number(arm, "weight", 1.0, 0.0, math.inf, where))


def _parse_arms(value: Any, where: str) -> tuple[Arm, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_ARMS:
        raise _reject(f"{where}: arms", f"a list of 1 to {MOST_ARMS}", value)
    arms = tuple(_parse_arm(arm, f"{where}, arm {at}") for at, arm in enumerate(value, 1))
    keys = [arm.key for arm in arms]
    if len(set(keys)) != len(keys):
        raise SettingsError(f"{where}: an arm is listed twice in {', '.join(keys)}; list each version once")
    if not 0 < sum(arm.weight for arm in arms) < math.inf:
        raise SettingsError(f"{where}: all weights are 0; give at least one arm a weight above 0")
    return arms


def _parse_unit(value: Any, where: str) -> Unit:
    kind, _, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    good = {HEADER: _HEADER_NAME.fullmatch(name) is not None, FIELD: bool(name), REQUEST: value == REQUEST}
    if not good.get(kind, False):
        raise _reject(f"{where}: unit", '"header:NAME", "field:COLUMN" or "request"', value)
    return Unit(kind, name)


def _parse_shadow(value: Any, where: str) -> Shadow:
    shadow = _object(value, frozenset({"model", "share"}), f"{where}, shadow")
    arm = Arm(*_parse_version(shadow.get("model"), f"{where}, shadow"))
    return Shadow(arm, _number(shadow, "share", 1.0, 0.0, 1.0, f"{where}, shadow"))


def _parse_experiment(value: Any, at: int) -> Experiment:
    where = f"experiment {at}"
    given = _object(value, _KEYS, where)
    name, model, policy, seed = (given.get(key, "") for key in ("name", "model", "policy", "seed"))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _reject(f"{where}: name", "1 to 64 letters, digits, dots, dashes, underscores", name)
    where = f"experiment {name!r}"
    if not isinstance(model, str) or not WORD.fullmatch(model):
        raise _reject(f"{where}: model", "the public name of a model, without a version", model)
    if policy not in ("", *POLICIES):
        raise _reject(f"{where}: policy", " or ".join(POLICIES), policy)
    if not isinstance(seed, str):
        raise _reject(f"{where}: seed", "a string", seed)
    shadow = _parse_shadow(given["shadow"], where) if "shadow" in given else None
    arms = _parse_arms(given["arms"], where) if "arms" in given or shadow is None else ()
    half_life = _number(given, "halfLifeDays", 0.0, 0.0, 36_500.0, where)
    if 0 < half_life < 1:
        raise _reject(f"{where}: halfLifeDays", "0 (off) or 1 and more", half_life)
    return Experiment(
        name,
        model,
        arms,
        _parse_unit(given.get("unit", REQUEST), where),
        policy or FIXED,
        seed or name,
        _number(given, "epsilon", 0.1, 0.0, 1.0, where),
        _number(given, "floor", 0.01, 0.0, 1 / max(len(arms), 1), where),
        int(_number(given, "minimumRewards", 100, 0, 1e9, where)),
        half_life,
        shadow,
    )


def encode_experiment(experiment: Experiment) -> dict[str, Any]:
    """An experiment as the file has it; `parse_experiments` reads it back."""
    unit, shadow = experiment.unit, experiment.shadow
    document: dict[str, Any] = {
        "name": experiment.name,
        "model": experiment.model,
        "unit": f"{unit.kind}:{unit.name}" if unit.name else unit.kind,
        "policy": experiment.policy,
        "seed": experiment.seed,
        "epsilon": experiment.epsilon,
        "floor": experiment.floor,
        "minimumRewards": experiment.minimum_rewards,
        "halfLifeDays": experiment.half_life_days,
    }
    if experiment.arms:
        document["arms"] = [{"model": arm.key, "weight": arm.weight} for arm in experiment.arms]
    if shadow is not None:
        document["shadow"] = {"model": shadow.arm.key, "share": shadow.share}
    return document


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if (twice := find_duplicate(key for key, _ in pairs)) is not None:
        raise SettingsError(f"the key {twice[:60]!r} is duplicated in one object; keep one")
    return dict(pairs)


def parse_experiments(text: str) -> tuple[Experiment, ...]:
    """The experiments of a file. Raises SettingsError naming the experiment, the key, the value and what it must be."""
    try:
        document = json.loads(text, object_pairs_hook=_refuse_duplicates)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"not JSON: {error}") from error
    listed = _object(document, frozenset({"experiments"}), "the file").get("experiments")
    if not isinstance(listed, list) or len(listed) > MOST_EXPERIMENTS:
        raise _reject("experiments", f"a list of at most {MOST_EXPERIMENTS}", listed)
    experiments = tuple(_parse_experiment(value, at) for at, value in enumerate(listed, 1))
    for kind, words in (("name", [each.name for each in experiments]), ("model", [each.model for each in experiments])):
        if (twice := find_duplicate(words)) is not None:
            raise SettingsError(f"two experiments have the {kind} {twice!r}; each needs its own")
    return experiments
