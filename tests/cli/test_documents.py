"""A document may be written in JSON or YAML, or built in Python: it is the same document."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge.cli.fields import json_value
from schemas.workflows.document import Document

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "workflows"


def test_the_example_is_one_document_in_json_yaml_and_python():
    built = subprocess.run(
        [sys.executable, str(EXAMPLES / "weekly_report.py")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    written = json_value(f"@{EXAMPLES / 'weekly-report.json'}")
    assert json_value(f"@{EXAMPLES / 'weekly-report.yaml'}") == written
    assert json.loads(built.stdout) == written
    assert Document.model_validate(written).steps


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.yaml", "until: 2026-11-24", "date is not JSON"),
        ("a.yml", "steps: [", "YAML"),
        ("a.yaml", "when: !!python/object:os.system x", "YAML"),
        ("a.json", "steps: []", "not JSON"),
    ],
)
def test_what_stands_for_no_json_is_refused_with_the_reason(tmp_path, name, text, why):
    (tmp_path / name).write_text(text)
    with pytest.raises(argparse.ArgumentTypeError, match=why):
        json_value(f"@{tmp_path / name}")
