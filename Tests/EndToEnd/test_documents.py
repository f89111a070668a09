"""docs/operations.md and the program say the same."""

import pathlib
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

ROOT = pathlib.Path(__file__).resolve().parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def metric_names(text):
    return set(re.findall(r"\bfanfare_[a-z0-9_]+\b", text))


def emitted_by_the_sources():
    names = set()
    for file in (ROOT / "Sources").rglob("*.swift"):
        if file.name != "MetricDescription.swift":
            names |= set(re.findall(r'"(fanfare_[a-z0-9_]+)"', file.read_text()))
    return names


def documented():
    return metric_names(OPERATIONS[OPERATIONS.index("## Metrics") : OPERATIONS.index("## Logs")])


def test_every_metric_is_documented_and_there():
    assert documented() == emitted_by_the_sources()


def test_every_metric_has_a_help_text():
    descriptions = ROOT / "Sources" / "FanfareObservability" / "Metrics" / "MetricDescription.swift"
    assert metric_names(descriptions.read_text()) == emitted_by_the_sources()


def test_every_option_is_documented():
    settings = (ROOT / "Sources" / "FanfareCommand" / "Configuration" / "Setting.swift").read_text()
    names = re.findall(r'Setting\(\s*"([a-z_]+)"', settings)
    assert len(names) > 40
    flags = {"--" + name.replace("_", "-") for name in names}
    assert flags - set(re.findall(r"--[a-z-]+", OPERATIONS)) == set()


def pages():
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_the_first_page_leads_to_every_page():
    links = set(re.findall(r"\]\((docs/[^)#]+)", (ROOT / "README.md").read_text()))
    assert links == {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_tables_are_whole(page):
    """A row after an empty line is no row; one with another number of cells is cut or padded."""
    lines = ["", *re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE).splitlines(), ""]
    cells = 0
    for before, line, after in zip(lines, lines[1:], lines[2:]):
        if not line.startswith("|"):
            continue
        count = len(re.findall(r"(?<!\\)\|", line))
        if not before.startswith("|"):
            assert re.fullmatch(r"[|: -]+", after), f"no table begins with: {line}"
            cells = count
        assert count == cells, line


async def test_metrics_are_a_valid_exposition(cluster, api):
    """Read by the parser of Prometheus's own client library."""
    await api("publish", channel="room:metrics", data=1)
    text = (await api.client.get("/metrics")).text
    families = list(text_string_to_metric_families(text))
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert len(names) == len(families), "a family stands in two places"
    ours = {name for name in names if name.startswith("fanfare_")}
    assert len(ours) > 50
    assert ours <= documented()
    assert [family.name for family in families if not family.documentation] == []
    samples = [(sample.name, tuple(sorted(sample.labels.items()))) for family in families for sample in family.samples]
    assert len(samples) == len(set(samples)), "a series stands there twice"
    links = {
        (sample.labels["backend"], sample.labels.get("link") or sample.labels["class"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "fanfare_broker_connected"
    }
    assert links[("redis", "commands")] == links[("redis", "subscriptions")] == 1
    assert links[("postgres", "requests")] >= 1
