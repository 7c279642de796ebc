"""Data to learn from together, by one door: `federate.data.load("digits")`, `federate.data.csv("patients.csv", ...)`.

Everything gives a `Dataset`; its `deal` makes the clients. Nothing here is unpickled, and nothing is fetched behind
anybody's back: `nexus federate fetch mnist` does that, and says from where.
"""

from __future__ import annotations

from nexus.federate.data.dataset import Dataset
from nexus.federate.data.folders import folder, leaf, text
from nexus.federate.data.hub import huggingface
from nexus.federate.data.named import load, names
from nexus.federate.data.tables import csv, parquet

__all__ = ["Dataset", "csv", "folder", "huggingface", "leaf", "load", "names", "parquet", "text"]
