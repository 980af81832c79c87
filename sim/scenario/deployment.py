"""Deployments, checked as the API server checks them, with their strategy resolved to pods."""

import math
import re
from collections.abc import Mapping
from typing import Final

from sim.scenario.documents import Document
from sim.scenario.durations import shown
from sim.scenario.ignored_fields import DEPLOYMENT, check_ignored
from sim.scenario.manifests import object_fields
from sim.scenario.model import Deployment, Recreate, RollingUpdate
from sim.scenario.pods import Surroundings, read_template
from sim.scenario.reader import INT32, Fields

IGNORED_DEPLOYMENT_FIELDS: Final = frozenset({"revisionHistoryLimit"})

MAX_REPLICAS: Final = 11_000
"""As many pods as the largest modelled cluster takes: 100 nodes of 110 (kubelet's maxPods)."""
_PERCENT: Final = re.compile(r"0*\d{1,9}%", re.ASCII)


def read_deployment(document: Document, around: Surroundings, warnings: list[str]) -> Deployment:
    """A Deployment with every default filled in.

    Notes
    -----
    kubernetes v1.34 pkg/apis/apps/validation/validation.go, ValidateDeploymentSpec; defaults in
    pkg/apis/apps/v1/defaults.go.
    """
    fields = object_fields(document, warnings)
    spec = fields.required("spec")
    replicas = spec.integer("replicas", 1, least=0, most=INT32)
    if replicas > MAX_REPLICAS:
        raise spec.unsupported("replicas", f"got {replicas}, modelled are up to {MAX_REPLICAS}")
    if spec.flag("paused", False):
        raise spec.unsupported("paused", "not modelled: a paused Deployment rolls nothing out")
    selector = spec.required("selector")
    match_labels = selector.strings("matchLabels")
    expressions = selector.entries("matchExpressions")
    selector.finish()
    template = read_template(spec.required("template"), document, around)
    if not match_labels and not expressions:
        raise spec.error("selector", "got an empty selector, expected matchLabels")
    if any(template.labels.get(key) != value for key, value in match_labels.items()) or not all(
        _matches(expression, template.labels) for expression in expressions
    ):
        raise spec.error(
            "selector",
            f"got {shown(match_labels)}, which does not match the template's labels "
            f"{shown(dict(template.labels))}",
        )
    min_ready_s = spec.integer("minReadySeconds", 0, least=0, most=INT32)
    deadline_s = spec.integer("progressDeadlineSeconds", 600, least=0, most=INT32)
    if deadline_s <= min_ready_s:
        raise spec.error(
            "progressDeadlineSeconds",
            f"got {deadline_s}, must be greater than minReadySeconds ({min_ready_s})",
        )
    strategy = _strategy(spec, replicas)
    check_ignored(spec, DEPLOYMENT)
    spec.finish(ignored=IGNORED_DEPLOYMENT_FIELDS)
    fields.mapping("status")
    fields.finish()
    return Deployment(
        name=document.name,
        template=template,
        replicas=replicas,
        selector=match_labels,
        strategy=strategy,
        min_ready_s=min_ready_s,
        progress_deadline_s=deadline_s,
    )


def _matches(expression: Fields, labels: Mapping[str, str]) -> bool:
    key = expression.text("key")
    operator = expression.text("operator", allowed=("In", "NotIn", "Exists", "DoesNotExist"))
    values = expression.texts("values", least=1 if operator in ("In", "NotIn") else 0)
    if values and operator in ("Exists", "DoesNotExist"):
        raise expression.error("values", f"may not be specified when operator is {operator}")
    expression.finish()
    match operator:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
    return key not in labels


# ---------------------------------------------------------------- strategy


def _strategy(spec: Fields, replicas: int) -> RollingUpdate | Recreate:
    strategy = spec.mapping("strategy")
    if strategy is None:
        return resolve_rolling_update("25%", "25%", replicas)
    kind = strategy.text("type", "RollingUpdate", allowed=("RollingUpdate", "Recreate"))
    rolling = strategy.mapping("rollingUpdate")
    strategy.finish()
    if kind == "Recreate":
        if rolling is not None:
            raise strategy.error("rollingUpdate", "may not be specified when strategy type is Recreate")
        return Recreate()
    surge: int | str = "25%"
    unavailable: int | str = "25%"
    if rolling is not None:
        surge, unavailable = _pods(rolling, "maxSurge"), _pods(rolling, "maxUnavailable")
        rolling.finish()
        if isinstance(unavailable, str) and int(unavailable[:-1]) > 100:
            raise rolling.error("maxUnavailable", f"got {unavailable}, must not be greater than 100%")
        if _literal(surge) == 0 and _literal(unavailable) == 0:
            raise rolling.error("maxUnavailable", f"got {unavailable}, may not be 0 when maxSurge is 0")
    return resolve_rolling_update(surge, unavailable, replicas)


def _pods(rolling: Fields, key: str) -> int | str:
    value = rolling.raw(key, "25%")
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= INT32:
        return value
    if isinstance(value, str) and _PERCENT.fullmatch(value):
        return value
    raise rolling.error(
        key, f"got {shown(value)}, expected an integer of at least 0 or a percentage such as 25%"
    )


def _literal(value: int | str) -> int:
    return value if isinstance(value, int) else int(value[:-1])


def resolve_rolling_update(surge: int | str, unavailable: int | str, replicas: int) -> RollingUpdate:
    """Percentages to pods: surge up, unavailable down; one unavailable if both come to none.

    Notes
    -----
    kubernetes v1.34 pkg/controller/deployment/util/deployment_util.go:880-905, ResolveFenceposts.
    """
    max_surge = surge if isinstance(surge, int) else math.ceil(int(surge[:-1]) * replicas / 100)
    max_unavailable = unavailable if isinstance(unavailable, int) else int(unavailable[:-1]) * replicas // 100
    if max_surge == 0 and max_unavailable == 0:
        max_unavailable = 1
    return RollingUpdate(max_surge=max_surge, max_unavailable=min(max_unavailable, max(replicas, 1)))
