"""Calls every function of the client that openapi-generator made, with the Python that has the client's libraries.

    python call_generated.py FOLDER URL CALLS

CALLS is a file with a JSON list of {"tag", "id", "arguments", "body"}. It prints a JSON list of {"id", "status",
"value"}; a call that raises is the status 0, with what was raised.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any


def _arguments(function: Any, call: dict[str, Any]) -> dict[str, Any]:
    """The call's path parameters, and its body as the class that the function takes."""
    arguments = dict(call["arguments"])
    for name, parameter in inspect.signature(function).parameters.items():
        if call["body"] is not None and hasattr(parameter.annotation, "from_dict"):
            arguments[name] = parameter.annotation.from_dict(call["body"])
    return arguments


def _call(generated: Any, client: Any, call: dict[str, Any]) -> dict[str, Any]:
    function = getattr(getattr(generated, f"{call['tag'].capitalize()}Api")(client), f"{call['id']}_with_http_info")
    try:
        answer = function(**_arguments(function, call))
    except Exception as error:  # whatever the client raises is what is wrong with it
        return {"id": call["id"], "status": 0, "value": f"{type(error).__name__}: {error}"}
    return {"id": call["id"], "status": answer.status_code, "value": client.sanitize_for_serialization(answer.data)}


def main(folder: str, url: str, calls: str) -> None:
    """Make the calls."""
    sys.path.insert(0, folder)
    generated = importlib.import_module("generated_berth")
    client = generated.ApiClient(generated.Configuration(host=url))
    print(json.dumps([_call(generated, client, call) for call in json.loads(Path(calls).read_text("utf-8"))]))


if __name__ == "__main__":
    main(*sys.argv[1:])
