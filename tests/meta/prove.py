"""Judge the whole zoo and write reports/proof.json, which every report shows. Takes about ten minutes on one core.

python tests/meta/prove.py [faults] [generated] [sound]     only these parts; the others stay as they were judged
"""

import importlib.metadata
import json
import platform
import sys
import warnings
from pathlib import Path

import torch
from zoo.proof import prove

PARTS = ("faults", "generated", "sound")
PROOF = Path(__file__).parents[2] / "reports" / "proof.json"


def main(*parts):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    judged = prove(parts or PARTS, report=lambda text: print(text, file=sys.stderr))
    found = json.loads(PROOF.read_text(encoding="utf-8")) if PROOF.exists() else {}
    found.update(judged)
    names = ("torch", "numpy", "escnn", "e3nn")
    found["versions"] = {"python": platform.python_version(), **{n: importlib.metadata.version(n) for n in names}}
    PROOF.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    whole = all(found[kind]["caught"] == found[kind]["planted"] for kind in ("faults", "generated"))
    return 0 if whole and not found["sound"]["false_alarms"] else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
