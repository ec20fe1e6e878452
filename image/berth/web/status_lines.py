"""The statuses of HTTP as response heads write them."""

from __future__ import annotations

from http import HTTPStatus

STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
