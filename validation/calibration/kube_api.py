"""The API server over one kept connection: PATCHes that are timed, watches that are read line by line."""

import base64
import http.client
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml


class KubeApi:
    """A client with the kubeconfig's certificate. Not for several threads: each takes its own."""

    def __init__(self, kubeconfig: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        self._tls = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
        with tempfile.NamedTemporaryFile() as pair:
            for part in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[part]) + b"\n")
            pair.flush()
            self._tls.load_cert_chain(pair.name)
        address = urlsplit(cluster["server"])
        self._host, self._port = str(address.hostname), int(address.port or 443)
        self._kept: http.client.HTTPSConnection | None = None

    def _connection(self, timeout_s: float | None = 30.0) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, context=self._tls, timeout=timeout_s)

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One request; raises RuntimeError with the server's answer unless it is a 2xx."""
        if self._kept is None:
            self._kept = self._connection()
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        self._kept.request(method, path, None if body is None else json.dumps(body), {"Content-Type": kind})
        answer = self._kept.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
        found: dict[str, Any] = json.loads(text)
        return found

    def get_text(self, path: str) -> str:
        """For metrics."""
        connection = self._connection()
        connection.request("GET", path)
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def watch(
        self, path: str, version: str, started: threading.Event
    ) -> Iterator[tuple[float, dict[str, Any]]]:
        """Events after *version* with the monotonic time of their arrival; ends when the server ends it."""
        connection = self._connection(timeout_s=None)
        connection.request("GET", f"{path}?watch=1&resourceVersion={version}&timeoutSeconds=3600")
        answer = connection.getresponse()
        started.set()
        while line := answer.readline():
            at_s = time.monotonic()
            yield at_s, json.loads(line)
