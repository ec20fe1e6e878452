"""A slot whose model is refused has no ready pod and no address: the gate reads the reason in the pods."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from live.berths import Serve, ask, start_berth
from live.gating import BLUE, GREEN, Lookup, Puppet, judge, switch
from live.server import HOST, free_port, wait_until
from models.test_signing import write_key

pytestmark = pytest.mark.live


def test_the_reason_of_an_unsigned_version(
    serve: Serve, store: Path, run_dir: Path, tmp_path: Path, told: list[str]
) -> None:
    key = write_key(tmp_path / "team.pem", ec.generate_private_key(ec.SECP256R1()))
    settings = {"slot": "green", "fingerprint": GREEN, "models": "iris@2", "workers": 1}
    green = start_berth(serve, store, run_dir, signature_keys_file=key.with_suffix(".pub"), **settings)
    wait_until(lambda: "failed" in str(ask(green, "GET", "/health")[1]), "the version is refused")
    blue = Puppet(lambda path: (200, {"slot": "blue", "fingerprint": BLUE}))
    try:
        silent = f"http://target.shop.svc:{free_port()}"
        plan = replace(switch(blue.url, silent), timeout_seconds=1.5, pod_port=green.port)
        assert "signed" not in judge(plan, Lookup([HOST]), [])[1]
        passed, sentence = judge(replace(plan, every_pod_host="every"), Lookup([HOST]), told)
    finally:
        blue.stop()
    assert not passed
    assert sentence.startswith("a model of slot green cannot be loaded: iris@2: is not signed: it has no model.sig")
    assert "(1 of 1 pods); slot green gave no response (Connection refused)" in sentence
    assert "stage first" in sentence
    assert "\n" not in sentence
