"""What ci/publish and ci/verify share: crane, cosign and helm, and how they learn whom to trust.

COSIGN_KEY and COSIGN_PUBLIC_KEY name a pair of key files; without them signing is keyless, which wants the identity of
a GitHub workflow. PLAIN_HTTP=1 is for a registry on this machine.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ISSUER = "https://token.actions.githubusercontent.com"
REVISION = "org.opencontainers.image.revision"
DIGESTED = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")
# What registries say of a name or a tag that they do not have; anything else is a failure, not an absence.
ABSENT = re.compile(r"MANIFEST_UNKNOWN|NAME_UNKNOWN|NOT_FOUND|status code 404")
# Signatures by key stay between us: nothing is written to a public log, so no service is named.
NO_SERVICES = {"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json"}


def run(*command: str | Path) -> str:
    """Run a program; its output without spaces around it. Ends the script when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}")
    return done.stdout.strip()


def check_digested(reference: str) -> None:
    """End the script unless the reference names bytes: a tag may be moved between two looks."""
    if not DIGESTED.fullmatch(reference):
        sys.exit(f"{reference}: want NAME@sha256:…, a tag says nothing about what it will mean")


def find_digest(reference: str) -> str | None:
    """The digest that a tag has in its registry, None when there is no such tag."""
    done = subprocess.run(["crane", "digest", reference], capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout.strip()
    if ABSENT.search(done.stderr):
        return None
    sys.exit(f"crane digest {reference}: {done.stderr.strip()}")


def read_revision(reference: str) -> str | None:
    """The commit that a published image or chart says it was made of."""
    manifest: dict[str, Any] = json.loads(run("crane", "manifest", reference))
    if REVISION in manifest.get("annotations", {}):
        return str(manifest["annotations"][REVISION])
    if "helm" in manifest.get("config", {}).get("mediaType", ""):
        return None
    labels = json.loads(run("crane", "config", reference)).get("config", {}).get("Labels") or {}
    return labels.get(REVISION)


def cosign(command: str, *words: str, signing: bool) -> None:
    """One command of cosign, with a key or keyless."""
    key = os.environ.get("COSIGN_KEY" if signing else "COSIGN_PUBLIC_KEY")
    with tempfile.TemporaryDirectory() as folder:
        trust: list[str] = ["--yes"] if signing else []
        if key and signing:
            services = Path(folder, "signing.json")
            services.write_text(json.dumps(NO_SERVICES), "utf-8")
            trust += ["--key", key, "--signing-config", str(services)]
        elif key:
            trust += ["--key", key, "--insecure-ignore-tlog=true"]
        elif not signing:
            repository = os.environ.get("GITHUB_REPOSITORY") or sys.exit("set COSIGN_PUBLIC_KEY or GITHUB_REPOSITORY")
            identity = (
                rf"^https://github\.com/{re.escape(repository)}/\.github/workflows/.+@refs/(heads/main|tags/v.+)$"
            )
            trust += ["--certificate-oidc-issuer", ISSUER, "--certificate-identity-regexp", identity]
        if os.environ.get("PLAIN_HTTP"):
            trust.append("--allow-http-registry")
        subprocess.run(["cosign", command, *trust, *words], check=True, stdout=subprocess.DEVNULL)


def helm(*words: str) -> str:
    """One command of helm that talks to a registry; what it prints anywhere."""
    plain = ["--plain-http"] if os.environ.get("PLAIN_HTTP") else []
    done = subprocess.run(["helm", *words, *plain], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"helm {' '.join(words)}: {done.stdout}")
    return done.stdout
