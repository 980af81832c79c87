"""What a container finds on its mounts: nginx.conf and haproxy.cfg out of ConfigMaps, read-only paths."""

import fnmatch
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sim.errors import InputError, UnsupportedInput
from sim.scenario.conf_text import MAX_CONF
from sim.scenario.haproxy_cfg import parse_haproxy
from sim.scenario.model import HAProxyConf, NginxConf, Service
from sim.scenario.nginx_conf import parse_nginx
from sim.scenario.reader import Fields
from sim.scenario.shell import SHELLS

ConfigMaps = Mapping[str, Mapping[str, str]]

CONF_D: Final = "/etc/nginx/conf.d/*.conf"
DEFAULT_SERVER_PATH: Final = "/etc/nginx/conf.d/default.conf"
NGINX_PATHS: Final = ("/etc/nginx/nginx.conf", "/usr/local/nginx/conf/nginx.conf")
HAPROXY_PATHS: Final = ("/etc/haproxy/haproxy.cfg", "/usr/local/etc/haproxy/haproxy.cfg")

READ_ONLY_VOLUMES: Final = frozenset({"configMap", "secret", "projected", "downwardAPI", "image"})
OTHER_VOLUMES: Final = frozenset(
    {
        "emptyDir",
        "hostPath",
        "persistentVolumeClaim",
        "csi",
        "ephemeral",
        "nfs",
        "iscsi",
        "fc",
        "rbd",
        "cephfs",
    }
)

OFFICIAL_NGINX_CONF: Final = """\
worker_processes auto;
events { worker_connections 1024; }
http {
  sendfile on;
  keepalive_timeout 65;
  include /etc/nginx/conf.d/*.conf;
}
"""
"""Of the official image (docker-nginx, `nginx.conf` of the packages): what a mounted conf.d lands in."""
OFFICIAL_NGINX_SERVER: Final = (
    "server { listen 80; location / { root /usr/share/nginx/html; index index.html; } }\n"
)

MAX_VARIABLE: Final = 131_072
"""Characters of one environment variable (Linux: MAX_ARG_STRLEN)."""
_REFERENCE: Final = re.compile(r"\$\(([^()]+)\)")
_VARIABLE: Final = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounts:
    """A container's mounts, as paths inside it."""

    files: Mapping[str, str]
    """Texts that come from ConfigMaps."""
    origins: Mapping[str, str]
    """Where each text stands, for messages: `ConfigMap conf: nginx.conf`."""
    read_only: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()


def read_mounts(container: Fields, volumes: Mapping[str, Fields], config_maps: ConfigMaps) -> Mounts:
    """Resolve `volumeMounts` against the pod's *volumes* and the *config_maps* by name.

    Raises
    ------
    InputError
        A volume, ConfigMap or key that does not exist.
    """
    files: dict[str, str] = {}
    origins: dict[str, str] = {}
    read_only: list[str] = []
    empty: list[str] = []
    mounted: set[str] = set()
    for mount in container.entries("volumeMounts"):
        name = mount.text("name")
        if name not in volumes:
            raise mount.error(
                "name", f"got {name}, expected one of the pod's volumes ({', '.join(volumes) or 'none'})"
            )
        if not mount.text("mountPath"):
            raise mount.error("mountPath", "missing")
        path = posixpath.normpath(mount.text("mountPath"))
        if path in mounted:
            raise mount.error("mountPath", f"got {path}, must be unique")
        mounted.add(path)
        sub_path, own_read_only = mount.text("subPath", None), mount.flag("readOnly", False)
        volume = volumes[name]
        kinds = [kind for kind in volume.given() if kind != "name"]
        if sub_path or own_read_only or READ_ONLY_VOLUMES.intersection(kinds):
            read_only.append(path)
        elif "emptyDir" in kinds or not kinds:
            empty.append(path)
        mount.finish(ignored={"mountPropagation", "recursiveReadOnly", "subPathExpr"})
        for key, (text, origin) in _texts(volume, config_maps).items():
            if sub_path is None or key.startswith(sub_path.rstrip("/") + "/"):
                target = posixpath.join(
                    path, key if sub_path is None else key[len(sub_path.rstrip("/")) + 1 :]
                )
            elif key == sub_path:
                target = path
            else:
                continue
            files[target], origins[target] = text, origin
        if (
            sub_path
            and "configMap" in kinds
            and not any(t == path or t.startswith(path + "/") for t in files)
        ):
            raise mount.error("subPath", f"got {sub_path}, expected a key of the ConfigMap")
    return Mounts(files=files, origins=origins, read_only=tuple(read_only), empty=tuple(empty))


def _texts(volume: Fields, config_maps: ConfigMaps) -> dict[str, tuple[str, str]]:
    """Path below the volume to (text, origin)."""
    if source := volume.mapping("configMap"):
        return _config_map_texts(source, config_maps)
    found: dict[str, tuple[str, str]] = {}
    if projected := volume.mapping("projected"):
        for entry in projected.entries("sources"):
            if source := entry.mapping("configMap"):
                found |= _config_map_texts(source, config_maps)
    return found


def _config_map_texts(source: Fields, config_maps: ConfigMaps) -> dict[str, tuple[str, str]]:
    name = source.text("name")
    if name not in config_maps:
        if source.flag("optional", False) or name == "kube-root-ca.crt":
            return {}
        raise source.error(
            "name", f"got {name}, expected a ConfigMap of the manifests ({', '.join(config_maps) or 'none'})"
        )
    data = config_maps[name]
    items = source.entries("items")
    if not items:
        return {key: (text, f"ConfigMap {name}: {key}") for key, text in data.items()}
    chosen = {}
    for item in items:
        key = item.text("key")
        if key not in data:
            raise item.error(
                "key", f"got {key}, expected a key of ConfigMap {name} ({', '.join(data) or 'none'})"
            )
        chosen[posixpath.normpath(item.text("path"))] = (data[key], f"ConfigMap {name}: {key}")
    return chosen


# ---------------------------------------------------------------- nginx


def nginx_conf(container: Fields, mounts: Mounts, file: str, *, official: bool) -> NginxConf:
    """The configuration that nginx starts with; *file* is the manifest's, for messages.

    Raises
    ------
    InputError
        The file that the command line names is not mounted, or cannot be used.
    """
    words = _server_words(container)
    asked = _option(words, "-c")
    path = asked or next((known for known in NGINX_PATHS if known in mounts.files), None)
    path = path or _by_name(mounts, "nginx.conf")
    if path is not None and path in mounts.files:
        text, where = mounts.files[path], f"{file}: {mounts.origins[path]}"
    elif asked:
        raise container.error("args", f"nginx reads {asked}, which no ConfigMap of the manifests puts there")
    else:
        text, where = OFFICIAL_NGINX_CONF, f"{container.place}: nginx.conf of the official image"
        if official and not any(fnmatch.fnmatch(mounted, CONF_D) for mounted in mounts.files):
            container.warn(
                "image", "no nginx.conf is mounted: the official image's is taken (keep-alive 65 s)"
            )
        elif not official:
            container.warn("image", "no nginx.conf is mounted: the official image's is taken for this one's")
    if more := re.sub(r"\bdaemon\s+\w+\s*;?", "", _option(words, "-g") or "").strip(" ;"):
        text = f"{more};\n{text}"
    includes = dict(mounts.files)
    if text.startswith(OFFICIAL_NGINX_CONF) or official:
        _add_default_server(includes, mounts)
    return parse_nginx(text, where=where, includes=includes)


def _add_default_server(includes: dict[str, str], mounts: Mounts) -> None:
    """The official image's conf.d/default.conf, unless a mount hides it."""
    folder, name = posixpath.split(DEFAULT_SERVER_PATH)
    if folder not in (*mounts.read_only, *mounts.empty) and DEFAULT_SERVER_PATH not in mounts.files:
        includes[f"{folder}/{name}"] = OFFICIAL_NGINX_SERVER


# ---------------------------------------------------------------- HAProxy


def haproxy_conf(
    container: Fields, mounts: Mounts, file: str, *, env: Mapping[str, str], unreadable: Mapping[str, str]
) -> HAProxyConf:
    """The configuration that HAProxy starts with; *unreadable* names where other variables come from."""
    words = _server_words(container)
    given = [words[index + 1] for index, word in enumerate(words[:-1]) if word == "-f"]
    given = given or [path for path in HAPROXY_PATHS if path in mounts.files][:1]
    given = given or [path for path in [_by_name(mounts, "haproxy.cfg")] if path]
    paths = [path for name in given for path in _files_at(name, mounts)]
    if not paths:
        raise InputError(
            f"{container.place}: no haproxy.cfg is mounted from a ConfigMap of the manifests (looked at "
            f"{', '.join(given or HAPROXY_PATHS)}, and for a key haproxy.cfg)"
        )
    where = f"{file}: {' + '.join(mounts.origins[path] for path in paths)}"
    if sum(len(mounts.files[path]) for path in paths) > MAX_CONF:
        raise UnsupportedInput(f"{where}: longer than {MAX_CONF} characters, the most that is read")
    *others, last = (mounts.files[path] for path in paths)
    text = "".join(f"{other.rstrip()}\n" for other in others) + last  # without its newline HAProxy rejects it
    for name in _VARIABLE.findall(re.sub(r"^[ \t]*#.*$", "", text, flags=re.MULTILINE)):
        if name in unreadable:
            raise UnsupportedInput(
                f"{where}: ${{{name}}}: its value comes from {unreadable[name]}: write it as a plain value"
            )
    return parse_haproxy(text, where=where, env=env)


def _files_at(name: str, mounts: Mounts) -> list[str]:
    """A file, or a directory's *.cfg files in their order, as `-f` takes it."""
    path = posixpath.normpath(name)
    if path in mounts.files:
        return [path]
    return sorted(mounted for mounted in mounts.files if fnmatch.fnmatch(mounted, f"{path}/*.cfg"))


def _server_words(container: Fields) -> list[str]:
    """The server's command line; of `sh -c LINE` the words of the line."""
    words = [*container.texts("command"), *container.texts("args")]
    if words and posixpath.basename(words[0]) in SHELLS:
        return [word.strip("'\"") for word in re.findall(r"'[^']*'|\"[^\"]*\"|[^\s;&|]+", words[-1])]
    return words


def _option(words: Sequence[str], option: str) -> str | None:
    return next((words[index + 1] for index, word in enumerate(words[:-1]) if word == option), None)


def _by_name(mounts: Mounts, key: str) -> str | None:
    """A file whose key has that name, wherever it is mounted."""
    named = [
        path
        for path, origin in mounts.origins.items()
        if origin.endswith(f": {key}") or path.endswith(f"/{key}")
    ]
    return min(named) if named else None


# ---------------------------------------------------------------- environment


def service_variables(services: Sequence[Service]) -> dict[str, str]:
    """Kubernetes' own variables; the host is the Service's name, which is what the model routes by.

    Notes
    -----
    kubernetes v1.34 pkg/kubelet/envvars/envvars.go: none for headless Services.
    """
    variables = {}
    for service in services:
        if service.headless or not service.ports:
            continue
        prefix = re.sub(r"[^A-Z0-9]", "_", service.name.upper())
        first = service.ports[0]
        variables[f"{prefix}_SERVICE_HOST"] = service.name
        variables[f"{prefix}_SERVICE_PORT"] = str(first.port)
        variables[f"{prefix}_PORT"] = f"tcp://{service.name}:{first.port}"
        for port in service.ports:
            if port.name:
                name = re.sub(r"[^A-Z0-9]", "_", port.name.upper())
                variables[f"{prefix}_SERVICE_PORT_{name}"] = str(port.port)
            variables[f"{prefix}_PORT_{port.port}_TCP_ADDR"] = service.name
            variables[f"{prefix}_PORT_{port.port}_TCP_PORT"] = str(port.port)
    return variables


ASSUMED_NAMESPACE: Final = "default"
"""What `fieldRef: metadata.namespace` gives; routes go by a Service's name, whatever its namespace."""


def container_variables(
    container: Fields, config_maps: ConfigMaps, services: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """(name to value, name to the source that cannot be read) of a container, *services*' own included."""
    values: dict[str, str] = dict(services)
    unreadable: dict[str, str] = {}
    for group in container.entries("envFrom"):
        prefix = group.text("prefix", "")
        reference = group.mapping("configMapRef")
        data = config_maps.get(reference.text("name"), {}) if reference is not None else {}
        values |= {f"{prefix}{key}": value for key, value in data.items()}
    for entry in container.entries("env"):
        name = entry.text("name")
        source = entry.mapping("valueFrom")
        if source is None:
            values[name] = _expanded(entry, values)
            continue
        from_pod = source.mapping("fieldRef")
        if from_pod is not None and from_pod.text("fieldPath") == "metadata.namespace":
            values[name] = ASSUMED_NAMESPACE
            continue
        from_map = source.mapping("configMapKeyRef")
        data = config_maps.get(from_map.text("name"), {}) if from_map is not None else {}
        if from_map is not None and from_map.text("key") in data:
            values[name] = data[from_map.text("key")]
        else:
            values.pop(name, None)
            unreadable[name] = f"valueFrom.{next(iter(source.given()), 'nothing')}"
    return values, unreadable


def _expanded(entry: Fields, values: Mapping[str, str]) -> str:
    """`$(NAME)` of earlier variables, as Kubernetes expands it."""
    text = entry.text("value", "")
    parts = [values.get(match[1], match[0]) for match in _REFERENCE.finditer(text)]
    if len(text) + sum(map(len, parts)) > MAX_VARIABLE:
        raise entry.error("value", f"longer than {MAX_VARIABLE} characters: Linux starts no process with it")
    found = iter(parts)
    return _REFERENCE.sub(lambda _: next(found), text)
