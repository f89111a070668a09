"""The targets depend downward only, as docs/architecture.md draws them, and import nothing else."""

import json
import re
import subprocess

import pytest
from harness.cluster import ROOT

IMPORT = re.compile(
    r"^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:package|internal|public|private|fileprivate)\s+)?"
    r"import\s+(?:(?:struct|class|enum|protocol|func|typealias|var|let)\s+)?(\w+)",
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def targets():
    """Our own targets that are neither tests nor C: name and the names of what they depend on."""
    done = subprocess.run(["swift", "package", "dump-package"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {
        target["name"]: {(each.get("byName") or each.get("target") or each.get("product"))[0] for each in target["dependencies"]}
        for target in json.loads(done.stdout)["targets"]
        if target["type"] in ("regular", "executable") and any((ROOT / "Sources" / target["name"]).rglob("*.swift"))
    }


def layers():
    """From the bottom to the top, as the table has them."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text[text.index("## Layers") : text.index("## Membership and ownership")]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


def test_dependencies_point_downward(targets):
    order = layers()
    assert sorted(order) == sorted(targets)
    upward = [(name, each) for name in targets for each in targets[name] & set(order) if order.index(each) >= order.index(name)]
    assert upward == []


def test_imports_are_dependencies(targets):
    ours = set(targets) | {path.name for path in (ROOT / "Sources").iterdir()}
    undeclared = {
        (name, module)
        for name in targets
        for file in (ROOT / "Sources" / name).rglob("*.swift")
        for module in IMPORT.findall(file.read_text())
        if module in ours and module not in targets[name]
    }
    assert undeclared == set()


def test_an_import_is_found_however_it_is_written():
    source = "import A\npackage import B\n@testable import C\n@_spi(X) private import struct D.E\n  internal import F\n// import G\n"
    assert IMPORT.findall(source) == ["A", "B", "C", "D", "F"]
