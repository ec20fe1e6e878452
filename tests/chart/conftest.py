"""One helm for the whole session, so that equal values render once."""

import pytest
from every_value import EVERYTHING
from helm_chart import HELM, Helm, Rendered


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Helm as found on PATH."""
    if HELM is None:
        pytest.skip("helm is not on PATH")
    return Helm(HELM)


@pytest.fixture(name="everything")
def fixture_everything(helm: Helm) -> list[Rendered]:
    """All objects that the chart can make."""
    return helm.render(EVERYTHING)
