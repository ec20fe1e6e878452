"""What tests are called: the same in every process, or `make test` refuses to run them."""

from __future__ import annotations

import gzip

import pytest

ARCHIVE = gzip.compress(b"")  # tells when it was made
TEXT = b'{"inputs": [[5.1, 3.5, 1.4, 0.2]]}'


@pytest.mark.parametrize("data", [ARCHIVE, ARCHIVE * 10, TEXT, b"\x80\x05."])
def test_bytes_that_tell_the_time_name_no_test(request: pytest.FixtureRequest, data: bytes) -> None:
    names = {ARCHIVE: "data0", ARCHIVE * 10: "data1", TEXT: TEXT.decode(), b"\x80\x05.": r"\x80\x05."}
    assert request.node.callspec.id == names[data]
