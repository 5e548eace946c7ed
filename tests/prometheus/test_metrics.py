"""The names of the metrics: docs/metrics.md, the dashboard and the alert rules use those that exist."""

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from bridge.prometheus import metrics
from tests.markdown import ROOT, block

HISTOGRAMS = (metrics.LAG, metrics.QUEUED, metrics.RUN)
DASHBOARD = json.loads((ROOT / "deploy" / "grafana.json").read_text())
RULES = ROOT / "deploy" / "alerts.yml"


def names() -> set[str]:
    """Return the names of all metrics as Prometheus shows them, without those of the parts of a histogram."""
    found = {name for name, _ in HISTOGRAMS}
    for metric in (*metrics.STREAMS, *metrics.PUBLISHER):
        found.add(metric.name + ("_total" if metric.kind == metrics.COUNTER else ""))
    return found | {name + "_total" for name, _ in (metrics.ENDED, metrics.RETRIES, metrics.LOST_REPORTS)}


def used_in(expression: str) -> set[str]:
    """Return the names of metrics in an expression, those of histograms without the part."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bbridge_\w+", expression)}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    """Return the queries of the dashboard, with values in place of Grafana's variables."""
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [query.replace("$__rate_interval", "1m").replace("$job", ".+") for query in found]


def test_the_documentation_has_each_metric_with_its_label() -> None:
    """The table of docs/metrics.md has exactly the metrics that exist, with their labels and values."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(bridge_\w+)` \| (.*?) ?\| (.+) \|$", text, re.MULTILINE)
    assert sorted(name for name, _, _ in rows) == sorted(names())
    documented = {name: (labels, what) for name, labels, what in rows}
    for metric in (*metrics.STREAMS, *metrics.PUBLISHER):
        name = metric.name + ("_total" if metric.kind == metrics.COUNTER else "")
        labels, what = documented[name]
        assert labels == (f"`{metric.label}`" if metric.label else "")
        assert all(f"`{value}`" in what for value in metric.values if value)


def test_names_follow_the_conventions() -> None:
    """A name says its unit at its end, and a counter ends with `_total`, which the client adds."""
    for name in names():
        assert re.fullmatch(r"bridge_[a-z_]+", name)
        if "bytes" in name or "seconds" in name:
            assert re.search(r"_(bytes|seconds)(_total)?$", name)


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    """Each query of the dashboard names metrics that exist, and each metric is in some query."""
    assert set().union(*map(used_in, queries())) == names()


def test_the_dashboard_can_be_imported() -> None:
    """Grafana asks for a data source; panels have a title, a number and a place of their own."""
    (source,) = DASHBOARD["__inputs"]
    assert (source["name"], source["pluginId"]) == ("DS_PROMETHEUS", "prometheus")
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()}
    numbers = {panel["id"] for panel in DASHBOARD["panels"]}
    assert len(places) == len({panel["title"] for panel in panels()}) == len(panels())
    assert len(numbers) == len(DASHBOARD["panels"])
    for panel in panels():
        assert panel["datasource"]["uid"] == "${DS_PROMETHEUS}"


def test_the_alert_rules_use_metrics_that_exist() -> None:
    """Each rule names metrics that exist and values of labels that exist, and says what to do."""
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert len(rules) >= 8
    reasons = {*metrics.CLOSED.values, *metrics.REFUSED.values, *metrics.REPLAYS.values}
    for rule in rules:
        assert used_in(rule["expr"])
        assert used_in(rule["expr"]) <= names()
        for given in re.findall(r'(?:reason|result)=~?"([^"]+)"', rule["expr"]):
            assert set(given.split("|")) <= reasons
        assert rule["annotations"]["description"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="on Debian: apt-get install prometheus")
def test_promtool_accepts_the_alert_rules() -> None:
    """Prometheus can load the rules, and the configuration of docs/metrics.md."""
    subprocess.run(["promtool", "check", "rules", RULES], check=True, capture_output=True, timeout=60)
    given = yaml.safe_load(block("docs/metrics.md", "scrape_configs:\n"))
    assert [job["job_name"] for job in given["scrape_configs"]] == ["web", "worker"]
    assert given["rule_files"] == [RULES.name]
