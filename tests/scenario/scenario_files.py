"""A small scenario as plain data, to be changed by each test and written to files."""

import copy
from pathlib import Path
from typing import Any

import yaml

from sim.scenario import load_one
from sim.scenario.model import Scenario

NGINX_CONF = """\
worker_processes 1;
events { worker_connections 1024; }
http { keepalive_timeout 300; server { listen 80; root /www; location / { index index.html; } } }
"""
HAPROXY_CFG = """\
defaults
  mode http
  retries 3
  timeout connect 5s
  timeout client 50s
  timeout server 50s
listen app
  bind :8080
  server app "${APP_SERVICE_HOST}:${APP_SERVICE_PORT}" check
"""

CONFIG_MAP: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "conf"},
    "data": {"nginx.conf": NGINX_CONF, "haproxy.cfg": HAPROXY_CFG},
}
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "app"},
    "spec": {"selector": {"app": "app"}, "ports": [{"port": 80}]},
}
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "app"},
    "spec": {
        "replicas": 3,
        "selector": {"matchLabels": {"app": "app"}},
        "template": {
            "metadata": {"labels": {"app": "app"}},
            "spec": {
                "containers": [
                    {
                        "name": "web",
                        "image": "app:red",
                        "readinessProbe": {"httpGet": {"path": "/healthy.html", "port": 80}},
                        "volumeMounts": [
                            {"name": "conf", "mountPath": "/etc/nginx/nginx.conf", "subPath": "nginx.conf"}
                        ],
                    }
                ],
                "volumes": [{"name": "conf", "configMap": {"name": "conf"}}],
            },
        },
    },
}
PROXY: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "proxy"},
    "spec": {
        "selector": {"matchLabels": {"app": "proxy"}},
        "template": {
            "metadata": {"labels": {"app": "proxy"}},
            "spec": {
                "containers": [
                    {
                        "name": "haproxy",
                        "image": "haproxy:2.6",
                        "volumeMounts": [{"name": "conf", "mountPath": "/usr/local/etc/haproxy"}],
                    }
                ],
                "volumes": [{"name": "conf", "configMap": {"name": "conf"}}],
            },
        },
    },
}
SCENARIO: dict[str, Any] = {
    "apiVersion": "rollsim/v1",
    "kind": "Scenario",
    "metadata": {"name": "test"},
    "spec": {
        "update": {"deployment": "app", "container": "web", "image": "app:blue", "at": "5s"},
        "load": {
            "client": "plain",
            "target": {"service": "app", "port": 80},
            "connections": 10,
            "duration": "40s",
        },
        "images": {"app:red": {"server": "nginx"}, "app:blue": {"server": "nginx"}},
    },
}


class Files:
    """The documents of one test; `load` writes them to one file and reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scenario = copy.deepcopy(SCENARIO)
        self.config_map = copy.deepcopy(CONFIG_MAP)
        self.service = copy.deepcopy(SERVICE)
        self.deployment = copy.deepcopy(DEPLOYMENT)
        self.more: list[dict[str, Any]] = []

    @property
    def spec(self) -> dict[str, Any]:
        return self.scenario["spec"]

    @property
    def pod(self) -> dict[str, Any]:
        return self.deployment["spec"]["template"]["spec"]

    @property
    def container(self) -> dict[str, Any]:
        return self.pod["containers"][0]

    def with_proxy(self) -> dict[str, Any]:
        """Add a proxy tier; its Deployment is returned."""
        proxy = copy.deepcopy(PROXY)
        service = copy.deepcopy(SERVICE) | {"metadata": {"name": "proxy"}}
        service["spec"] = {"selector": {"app": "proxy"}, "ports": [{"port": 80, "targetPort": 8080}]}
        self.more += [service, proxy]
        return proxy

    def write(self, name: str, *documents: dict[str, Any]) -> Path:
        path = self.folder / name
        path.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
        return path

    def load(self, *sets: str) -> Scenario:
        objects = (self.config_map, self.service, self.deployment, *self.more)
        return load_one(self.write("scenario.yaml", self.scenario, *objects), sets)
