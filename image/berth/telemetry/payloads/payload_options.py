"""BERTH_PAYLOAD_LOG: where to, and the options that ride behind it as a query.

/var/log/berth/payloads.jsonl?sample=0.1&redact=ssn,name
https://collector.example/berth?failures=sampled
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from berth.errors import SettingsError

NAME = "BERTH_PAYLOAD_LOG"


@dataclass(frozen=True, slots=True)
class PayloadOptions:
    """`sample` is the share of requests that is kept; `keep_failures` keeps every 4xx and 5xx besides.

    `redact` holds names in `str.casefold`. A body longer than `max_bytes` is logged by its length alone.
    """

    target: str
    sample: float = 1.0
    redact: frozenset[str] = frozenset()
    queue: int = 1000
    max_bytes: int = 65_536
    keep_failures: bool = True

    @property
    def is_url(self) -> bool:
        """Whether lines are posted rather than appended to a file."""
        return self.target.startswith(("http://", "https://"))


def _share(text: str) -> float:
    if not re.fullmatch(r"\d{1,3}(\.\d{1,12})?|\.\d{1,12}", text, re.ASCII) or float(text) > 1:
        raise ValueError("a number from 0 to 1")
    return float(text)


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse_whole(text: str) -> int:
        if not re.fullmatch(r"\d{1,12}", text, re.ASCII) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse_whole


def _names(text: str) -> frozenset[str]:
    # Split before it is decoded, so that %2C may stand in a column's name.
    names = frozenset(unquote_plus(name).strip().casefold() for name in text.split(","))
    if "" in names:
        raise ValueError("names with commas between them")
    return names


def _all_failures(text: str) -> bool:
    if text not in ("all", "sampled"):
        raise ValueError("all or sampled")
    return text == "all"


# Key -> field of PayloadOptions, parser.
_KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "sample": ("sample", _share),
    "redact": ("redact", _names),
    "queue": ("queue", _whole(1, 1_000_000)),
    "max_bytes": ("max_bytes", _whole(0, 1 << 30)),
    "failures": ("keep_failures", _all_failures),
}


def _parse_query(query: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for pair in query.split("&") if query else ():
        key, _, text = pair.partition("=")
        if key not in _KEYS:
            raise SettingsError(f"{NAME}: unknown option {key[:60]!r}; there are {', '.join(_KEYS)}")
        field, parse = _KEYS[key]
        if field in values:
            raise SettingsError(f"{NAME}: the option {key} is duplicated; keep one")
        try:
            values[field] = parse(text)
        except ValueError as error:
            raise SettingsError(f"{NAME}: {key}={text[:60]!r} must be {error}") from None
    return values


def _check_url(target: str) -> None:
    try:
        good = bool(urlsplit(target).hostname) and urlsplit(target).port != 0 and not re.search(r"[^!-~]", target)
    except ValueError:
        good = False
    if not good:
        raise SettingsError(
            f"{NAME}: the URL must have a host and neither spaces nor letters beyond ASCII, as in https://collector.example/path"
        )


def parse_options(text: str) -> PayloadOptions | None:
    """The setting's value; None where it is off. Raises SettingsError."""
    target, _, query = text.strip().partition("?")
    if target in ("", "off"):
        if query:
            raise SettingsError(f"{NAME}: options need a path or an http URL before the question mark")
        return None
    options = PayloadOptions(target.removeprefix("file://"), **_parse_query(query))
    if options.is_url:
        _check_url(target)
    elif "://" in options.target:
        raise SettingsError(f"{NAME}: {target.partition('://')[0]!r} is not a path, http:// or https://")
    return options
