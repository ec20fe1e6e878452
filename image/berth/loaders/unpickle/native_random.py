"""Random generators: the Mersenne twister and Philox read their tables at a position that the file gives."""

from __future__ import annotations

from typing import Any

from berth.loaders.unpickle.native_refusals import check_whole

_TWISTER_WORDS = 624
_PHILOX_WORDS = 4


def check_bits(bits: Any) -> None:
    """A bit generator. Raises UnsafeArtifact."""
    state = bits.state
    if state["bit_generator"] == "MT19937":
        check_whole(bits, "pos", state["state"]["pos"], 0, _TWISTER_WORDS)
    elif state["bit_generator"] == "Philox":
        check_whole(bits, "buffer_pos", state["buffer_pos"], 0, _PHILOX_WORDS)


def check_random_state(generator: Any) -> None:
    """numpy's older interface, RandomState."""
    check_bits(generator._bit_generator)


def check_generator(generator: Any) -> None:
    """numpy's newer interface, Generator."""
    check_bits(generator.bit_generator)
