"""A file's lines, and the byte after the last one that was given."""

from __future__ import annotations

from typing import BinaryIO

from berth.errors import OperatorError

_BOM = b"\xef\xbb\xbf"
_MOST_BYTES = 64 << 20


class Lines:
    """An iterator over a binary file from `position` on; a byte order mark at its start is left out."""

    def __init__(self, file: BinaryIO, position: int) -> None:
        self._file = file
        self.position = file.seek(position)

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> bytes:
        """The next line with its end. Raises OperatorError for one that no text file has."""
        line = self._file.readline(_MOST_BYTES + 1)
        if not line:
            raise StopIteration
        if len(line) > _MOST_BYTES:
            raise OperatorError(
                f"a line of more than {_MOST_BYTES} bytes at byte {self.position}; is this a text file?"
            )
        began, self.position = self.position, self.position + len(line)
        return line.removeprefix(_BOM) if began == 0 else line
