"""Dashboard and alert rules name metrics and labels that there are, and hold together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.scripts.test_docs import _root_command, fault_of
from zugvogel.api.metrics import METRICS

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "contrib" / "grafana" / "zugvogel.json"
ALERTS = ROOT / "contrib" / "prometheus" / "zugvogel-alerts.yml"
NOT_OURS = re.compile(r"^(process_[a-z_]+|up)$")
LABELS_OF_SCRAPES = {"job", "instance", "le"}
LABELS = {
    name: {*metric.labels, *LABELS_OF_SCRAPES}
    for metric in METRICS
    for name in (metric.name, *(f"{metric.name}_{part}" for part in ("bucket", "sum", "count")))
    if name == metric.name or metric.kind == "histogram"
}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def targets() -> Iterator[tuple[str, str, str]]:
    """(panel, expression, legend)"""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target["legendFormat"]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def metrics_in(expression: str) -> set[str]:
    """Names that are followed by a selector or an end; functions and labels are not."""
    bare = re.sub(r"\{[^}]*\}", "{}", expression)
    bare = re.sub(r"\b(by|without|on|ignoring) *\([^)]*\)", " ", bare)
    return set(re.findall(r"\b((?:zugvogel|process)_[a-z_]+|up)\b", bare))


def labels_in(expression: str) -> set[str]:
    by = re.findall(r"\bby *\(([^)]*)\)", expression)
    return {label.strip() for group in by for label in group.split(",")}


def faults_of(expression: str) -> list[str]:
    unknown = {name for name in metrics_in(expression) - LABELS.keys() if not NOT_OURS.match(name)}
    faults = [f"no metric {name}" for name in sorted(unknown)]
    for name, selector in re.findall(r"\b(zugvogel_[a-z_]+)\{([^}]*)\}", expression):
        wrong = set(re.findall(r"(\w+) *[=!]~?", selector)) - LABELS.get(name, set())
        faults += [f"{name} has no label {label}" for label in wrong]
    known = set().union(*(LABELS.get(name, LABELS_OF_SCRAPES) for name in metrics_in(expression)))
    faults += [f"no label {label} to group by" for label in labels_in(expression) - known]
    for opening, closing in ("()", "{}", "[]"):
        if expression.count(opening) != expression.count(closing):
            faults.append(f"{opening} and {closing} do not match")
    return faults


@pytest.mark.parametrize(("panel", "expression", "legend"), list(targets()))
def test_the_dashboard_names_what_there_is(panel: str, expression: str, legend: str) -> None:
    assert metrics_in(expression)
    assert faults_of(expression) == []
    told = set(re.findall(r"\{\{(\w+)\}\}", legend))
    grouped = labels_in(expression) or set().union(
        *(LABELS.get(n, LABELS_OF_SCRAPES) for n in metrics_in(expression))
    )
    assert told <= grouped, panel


def test_the_dashboard_can_be_imported_anywhere() -> None:
    found = dashboard()
    assert (found["uid"], found["title"], found["id"]) == ("zugvogel", "Zugvogel", None)
    assert found["schemaVersion"] >= 36
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids)
    assert {variable["name"] for variable in found["templating"]["list"]} == {"datasource", "job"}
    for panel in found["panels"]:
        assert set(panel["gridPos"]) == {"h", "w", "x", "y"}
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["targets"]
            assert all('job="$job"' in target["expr"] for target in panel["targets"])


def test_no_two_panels_lie_over_each_other() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, (panel["title"], taken[x, y])
                taken[x, y] = panel["title"]


def test_every_metric_is_shown_or_watched_or_of_single_vms() -> None:
    shown = {name for _, expression, _ in targets() for name in metrics_in(expression)}
    watched = {name for rule in rules() for name in metrics_in(rule["expr"])}
    seen = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown | watched}
    left = {metric.name for metric in METRICS} - seen
    assert left <= {
        "zugvogel_build_info", "zugvogel_primary", "zugvogel_failover_level", "zugvogel_registry_loaded",
        "zugvogel_registry_member", "zugvogel_guard_watchdog", "zugvogel_vm_cpus", "zugvogel_vm_state",
    }  # fmt: skip


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_alert_rules_name_what_there_is_and_say_what_to_do(rule: dict[str, Any]) -> None:
    assert faults_of(rule["expr"]) == []
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    texts = rule["annotations"]
    assert set(texts) == {"summary", "description"}
    for text in texts.values():
        for command in re.findall(r"\bzv ([a-z][a-z .-]*[a-z])", re.sub(r"\{\{.*?\}\}", "X", text)):
            assert fault_of(_root_command(), command.split()) == "", command


def test_alerts_are_called_each_by_a_name_of_its_own() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"Zugvogel[A-Z][A-Za-z]+", name) for name in names)


def test_a_wrong_name_would_be_found() -> None:
    assert faults_of("sum(zugvogel_vmz)") == ["no metric zugvogel_vmz"]
    assert faults_of('zugvogel_vms{stat="x"}') == ["zugvogel_vms has no label stat"]
    assert faults_of("sum by (vm) (zugvogel_vms)") == ["no label vm to group by"]
    assert faults_of("sum(zugvogel_vms") == ["( and ) do not match"]
    assert (
        faults_of("histogram_quantile(0.9, sum by (le) (rate(zugvogel_migration_blackout_seconds_bucket[5m])))")
        == []
    )
