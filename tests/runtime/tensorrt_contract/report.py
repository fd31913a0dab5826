"""Tells test_releases.py what this TensorRT has of all that quillrt uses, and which of it the walks reach."""

import json
import os
from pathlib import Path

from tensorrt_contract.reach import reached, uses
from tensorrt_contract.walks import WALKS


def test_report(stage):
    found = uses(stage.real)
    walked = reached(found, lambda: [walk(stage) for walk in WALKS])
    report = {"uses": sorted(found), "reached": sorted(walked)}
    Path(os.environ["TENSORRT_CONTRACT_REPORT"]).write_text(json.dumps(report), encoding="utf-8")
