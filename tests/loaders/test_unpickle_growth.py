"""Loading takes time in proportion to the file, also for files that are made to be slow."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from berth.errors import LoadError
from berth.loaders.unpickle.loading import default_allow, load_pickle, read_globals
from malicious_models import colliding_numbers
from pickle_assembler import call, named, text, whole

# Shapes that a bound rejects early, or that grow with the file; each is the body of a pickle of n parts.
SHAPES: dict[str, Callable[[int], bytes]] = {
    "colliding-set": lambda n: b"\x8f(" + colliding_numbers(n) + b"\x90",
    "colliding-frozenset": lambda n: b"(" + colliding_numbers(n) + b"\x91",
    "colliding-dict": lambda n: b"}(" + colliding_numbers(n, b"N") + b"u",
    "colliding-pairs": lambda n: b"}(" + colliding_numbers(n, b"N\x86N") + b"u",
    "colliding-one-by-one": lambda n: b"}" + colliding_numbers(n, b"Ns"),
    "colliding-called": lambda n: call(named("builtins", "frozenset"), b"](" + colliding_numbers(n) + b"e"),
    "colliding-memo": lambda n: b"N" + b"".join(b"p%d\n" % (1 + number * (2**61 - 1)) for number in range(n)),
    "long-number-as-keys": lambda n: (
        b"}\x8b" + (4 * n).to_bytes(4, "little") + b"\x7f" * 4 * n + b"q\x000" + b"h\x00Ns" * n
    ),
    "wide-tuple-as-keys": lambda n: b"}(" + b"N" * n + b"tq\x000" + b"h\x00Ns" * n,
    "shared-tuples": lambda n: b"}K\x01" + b"2\x86" * min(n, 40) + b"q\x000" + b"h\x00Ns" * n,
    "appends": lambda n: b"]" + b"(K\x01K\x02e" * n,
    "one-list": lambda n: b"](" + b"K\x01" * n + b"e",
    "marks": lambda n: b"(" * n + b"t" * n,
    "lists-in-lists": lambda n: b"]" * n + b"a" * (n - 1),
    "copies": lambda n: b"](" + b"N" * n + b"eq\x000](" + (named("builtins", "bytearray") + b"h\x00\x85R0") * n + b"e",
    "decimal": lambda n: b"L" + b"9" * n + b"L\n",
    "decimal-int": lambda n: b"I" + b"9" * n + b"\n",
    "long": lambda n: b"\x8b" + n.to_bytes(4, "little") + b"\x7f" * n,
    "decimal-float": lambda n: b"F1." + b"9" * n + b"\n",
    "escapes": lambda n: b"V" + b"\\u00e9" * n + b"\n",
    "text": lambda n: text("x" * n),
    "memo": lambda n: b"N" + b"\x94" * n,
    "record": lambda n: call(named("numpy", "dtype"), text("V8")) + b"0N" * n,
}
_FREE_SECONDS = 0.15


def _seconds(data: bytes, path: Path, load: Callable[..., object]) -> float:
    """The CPU time of this thread, the better of two runs; that of others, and waiting for them, does not count."""
    path.write_bytes(whole(data))
    taken = []
    for _ in range(2):
        begun = time.thread_time()
        with suppress(LoadError):
            load(path, default_allow())
        taken.append(time.thread_time() - begun)
    return min(taken)


@pytest.mark.parametrize("load", [load_pickle, read_globals])
@pytest.mark.parametrize("shape", SHAPES)
def test_time_grows_with_the_file(shape: str, load: Callable[..., object], tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    small, large = (_seconds(SHAPES[shape](count), path, load) for count in (5000, 20_000))
    # Quadratic time would be 16 times; what takes almost none is not judged by its ratio.
    assert large < 8 * small + _FREE_SECONDS, (small, large)
    assert large < 5
