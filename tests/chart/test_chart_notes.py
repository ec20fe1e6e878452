"""What helm prints after an upgrade: the state, a call that works, and next commands that render."""

import re
import subprocess
from typing import Any

import pytest
import yaml
from helm_chart import BOTH, CHART, EXAMPLES, HELM, SLOTS, Helm, Values, overlay, read_values

QUICKSTART = read_values(EXAMPLES / "quickstart.yaml")


def command(notes: str, word: str) -> list[str]:
    """The keys that the next command of that name sets."""
    line = next(line for line in notes.splitlines() if line.strip().startswith(word))
    assert "--reset-then-reuse-values" in line
    assert "--wait" not in line
    return re.findall(r"--set (\S+)", line)


def with_sets(values: Values, sets: list[str]) -> Values:
    """Values with `--set` flags on top."""
    for each in sets:
        path, value = each.split("=")
        change: Any = {"true": True, "NEW": "2"}.get(value, value)
        for step in reversed(path.split(".")):
            change = {step: change}
        values = overlay(values, change)
    return values


def test_notes_lead_from_install_to_retirement(helm: Helm) -> None:
    notes = helm.notes(QUICKSTART)
    image = r"ghcr.io/berth/berth:0.1.0-samples"
    assert re.search(rf"blue +serve +iris@1 +{image} +fingerprint [0-9a-f]{{12}} +<- live", notes)
    assert re.search(r"green +absent\s*\n", notes)
    assert "curl http://localhost:8000/predict" in notes
    staged = with_sets(QUICKSTART, command(notes, "stage green"))
    notes = helm.notes(staged)
    assert "--filter name=iris-berth-test-green" in notes
    switched = with_sets(staged, command(notes, "switch to green"))
    assert switched == overlay(staged, {"activeSlot": "green"})
    notes = helm.notes(switched)
    assert re.search(r"green +serve .*<- live", notes)
    retired = with_sets(switched, command(notes, "or retire it"))
    assert retired["slots"]["blue"]["mode"] == "absent"
    assert "Deployment/iris-berth-blue" not in helm.objects(retired)


DIGEST = "sha256:" + "5" * 64


@pytest.mark.parametrize(
    "image",
    [{}, {"tag": f"0.1.0@{DIGEST}"}, {"tag": "0.1.0", "digest": DIGEST}, {"tag": "", "digest": DIGEST}],
    ids=["as in the repository", "as released", "tag and digest", "digest alone"],
)
def test_notes_pin_slots_that_are_not_and_leave_the_live_one_as_it_is(helm: Helm, image: dict[str, str]) -> None:
    loose: Values = {"slotDefaults": {"model": {"name": "iris"}, "image": image}}
    pinned = {"tag": "0.1.0", **image}
    sets = command(helm.notes(loose), "stage green")
    assert {f"slots.{slot}.image.{key}={pinned[key]}" for slot in SLOTS for key in pinned if pinned[key]} <= set(sets)
    live = "Deployment/iris-berth-blue"
    assert helm.objects(with_sets(loose, sets))[live] == helm.objects(loose)[live]


def test_notes_tell_the_outside_addresses(helm: Helm) -> None:
    hosts = [{"host": "iris.example", "paths": [{"path": "/", "pathType": "Prefix"}]}]
    route = {"enabled": True, "parentRefs": [{"name": "web"}], "hostnames": ["iris.web.example"]}
    values = overlay(BOTH, {"ingress": {"enabled": True, "hosts": hosts, "tls": [{"hosts": []}]}, "httpRoute": route})
    notes = helm.notes(values)
    assert "https://iris.example" in notes
    assert "http://iris.web.example" in notes


def test_chart_describes_itself(helm: Helm) -> None:
    done = subprocess.run([str(HELM), "show", "chart", str(CHART)], capture_output=True, text=True, check=True)
    description = yaml.safe_load(done.stdout)
    assert description["version"] == description["appVersion"]
    assert read_values(CHART / "values.yaml")["slotDefaults"]["image"]["tag"].startswith(description["appVersion"])


def test_notes_say_whether_a_canary_is_analysed(helm: Helm) -> None:
    route = {"httpRoute": {"enabled": True, "parentRefs": [{"name": "web"}]}}
    values = overlay(overlay(BOTH, route), {"canary": {"weight": 5}})
    assert "verify Job compares" not in helm.notes(values)
    on: Values = {"canary": {"analysis": {"enabled": True, "seconds": 90}}}
    assert "green receives 5 % of the route's requests" in helm.notes(overlay(values, on))
    assert "compares it with blue for 90 s" in helm.notes(overlay(values, on))
    idle = helm.notes(overlay(BOTH, on))
    assert "Canary analysis is on, but canary.weight is 0, so there is nothing to compare." in idle


def test_notes_say_how_labels_are_seen(helm: Helm) -> None:
    assert "berth quality" not in helm.notes(QUICKSTART)
    notes = helm.notes(overlay(QUICKSTART, {"feedback": {"existingSecret": "receipts"}}))
    assert "exec deploy/iris-berth-blue -- berth quality --headless-host iris-berth-blue-pods" in notes


def test_notes_say_whether_the_route_is_checked(helm: Helm) -> None:
    hosts = [{"host": "iris.example", "paths": [{"path": "/", "pathType": "Prefix"}]}]
    values = overlay(QUICKSTART, {"ingress": {"enabled": True, "hosts": hosts}})
    assert "set verify.routeUrl to the address of its controller" in helm.notes(values)
    checked = overlay(values, {"verify": {"routeUrl": "http://traefik.traefik.svc"}})
    assert "also asks through the route, at http://traefik.traefik.svc." in helm.notes(checked)
    for silent in (QUICKSTART, overlay(values, {"verify": {"enabled": False}})):
        assert "route is not checked" not in helm.notes(silent)
