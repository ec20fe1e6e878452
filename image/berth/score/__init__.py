"""Scoring a file offline: read in chunks, predicted as the server predicts, written so that a killed run goes on.

    source (csv, jsonl, parquet) -> chunk -> `answering` (decode -> Predictor; bad rows alone) -> sink -> OUTPUT.part

After each chunk the part files are on the disk, and OUTPUT.part.json says how far they are good. A run that finds
them cuts off what came later and goes on at the same boundary, so that the file is the one an uninterrupted run writes.
"""
