"""Signed addresses of an MLflow server: only to a bucket's host that is known here, and without credentials."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from berth.errors import StoreError
from berth.pulling.presigned import LARGE_BYTES, SignedAddresses
from berth.pulling.transfer import Cut, Persistence, fetch_sized
from file_server import serve_files


def _addresses(answer: Mapping[str, Any] | Exception, endpoint: str = "", large: int = LARGE_BYTES) -> SignedAddresses:
    def ask(path: str) -> Mapping[str, Any]:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return SignedAddresses(ask, endpoint, Persistence(sleep=lambda seconds: None), large)


@pytest.mark.parametrize(
    "url",
    [
        "https://acme.s3.amazonaws.com/1/model.bin?X-Amz-Signature=1",
        "https://acme.s3.eu-central-1.amazonaws.com/1/model.bin?X-Amz-Signature=1",
        "https://s3.eu-central-1.amazonaws.com/acme/model.bin?X-Amz-Signature=1",
        "https://acme.s3.dualstack.us-east-1.amazonaws.com/model.bin?X-Amz-Signature=1",
        "https://storage.googleapis.com/acme/model.bin?X-Goog-Signature=1",
        "https://acme.blob.core.windows.net/c/model.bin?sig=1",
        "http://minio.internal:9000/acme/model.bin?X-Amz-Signature=1",
    ],
)
def test_where_an_address_may_lead(url: str) -> None:
    found = _addresses({"url": url, "headers": {}}, "http://minio.internal:9000").find("model.bin", LARGE_BYTES)
    assert found is not None
    assert "Signature" not in found.shown
    assert "sig" not in found.shown


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://169.254.169.254/latest/meta-data",
        "http://acme.s3.amazonaws.com/x",
        "https://acme.s3.amazonaws.com:8443/x",
        "https://s3.amazonaws.com.evil.example/x",
        "https://evils3.amazonaws.com@10.0.0.1/x",
        "https://evil.example/s3.amazonaws.com",
        "https://ec2.amazonaws.com/x",
        "https://s3-x.us-east-1.elb.amazonaws.com/x",
        "https://minio.internal:9000/x",
        "http://minio.internal/x",
        "file:///etc/passwd",
        "https://[::1/x",
    ],
)
def test_where_it_may_not(url: str) -> None:
    assert _addresses({"url": url}, "http://minio.internal:9000").find("model.bin", LARGE_BYTES) is None


def test_what_comes_through_the_server() -> None:
    good = {"url": "https://acme.s3.amazonaws.com/x"}
    assert _addresses(good).find("m", LARGE_BYTES - 1) is None
    assert _addresses(good).find("m", None) is None
    assert _addresses({**good, "headers": {"x-need": "1"}}).find("m", LARGE_BYTES) is None
    assert _addresses(StoreError("not supported")).find("m", LARGE_BYTES) is None


def test_a_server_that_is_away_is_said() -> None:
    away = StoreError("it cannot be reached")
    away.__cause__ = Cut("cut")
    with pytest.raises(StoreError, match="cannot be reached"):
        _addresses(away).find("m", LARGE_BYTES)


def test_the_bytes_come_from_the_bucket(tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "model.bin").write_bytes(b"weights")
    with serve_files(tmp_path / "bucket") as bucket:
        answer = {"url": f"{bucket.url}/model.bin?X-Amz-Signature=1", "headers": {}}
        found = _addresses(answer, bucket.url, large=1).find("model.bin", 7)
        assert found is not None
        fetch_sized(found, "", tmp_path / "here", 7, 1000, Persistence())
        assert (tmp_path / "here").read_bytes() == b"weights"
        with pytest.raises(StoreError, match="has 7 bytes at"):
            fetch_sized(found, "", tmp_path / "there", 8, 1000, Persistence())
