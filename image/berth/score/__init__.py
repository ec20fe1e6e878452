"""Scoring a file offline: read in chunks, predicted as the server predicts, written so that a killed run goes on.

    source (csv, jsonl, parquet) -> chunk -> `answering` (decode -> Predictor; bad rows alone) -> sink -> OUTPUT.part

After each chunk the part files are on the disk, and OUTPUT.part.json says how far they are good. A run that finds
them cuts off what came later and goes on at the same boundary, so that the file is the one an uninterrupted run writes.
"""

from __future__ import annotations

from berth.score.chunks import RowSource, list_rows
from berth.score.file_formats import FORMATS, FileFormat, find_format
from berth.score.job import Job, score_file
from berth.score.joining import join_shards, summarize_files
from berth.score.parts import Places
from berth.score.progress import Done
from berth.score.remote_files import Place, RemotePlace, open_place, scratch_folder
from berth.score.shards import Shard, parse_shard

__all__ = [
    "FORMATS",
    "Done",
    "FileFormat",
    "Job",
    "Place",
    "Places",
    "RemotePlace",
    "RowSource",
    "Shard",
    "find_format",
    "join_shards",
    "list_rows",
    "open_place",
    "parse_shard",
    "score_file",
    "scratch_folder",
    "summarize_files",
]
