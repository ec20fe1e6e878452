"""One helm for the whole session, so that equal values render once."""

import pytest
from helm_chart import HELM, Helm


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Helm as found on PATH."""
    if HELM is None:
        pytest.skip("helm is not on PATH")
    return Helm(HELM)
