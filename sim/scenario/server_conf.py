"""What a container finds on its mounts: nginx.conf and haproxy.cfg out of ConfigMaps, files that cannot be removed."""

import fnmatch
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sim.errors import InputError, UnsupportedInput
from sim.scenario.haproxy_cfg import parse_haproxy
from sim.scenario.model import HAProxyConf, NginxConf, Service
from sim.scenario.nginx_conf import parse_nginx
from sim.scenario.reader import Fields

ConfigMaps = Mapping[str, Mapping[str, str]]

CONF_D: Final = "/etc/nginx/conf.d/*.conf"
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

_INCLUDE: Final = re.compile(r"^([^#\n]*?)\binclude\s+([^\s;]+)\s*;", re.MULTILINE)
_WITHOUT_EFFECT: Final = (
    "mime.types",
    "fastcgi_params",
    "fastcgi.conf",
    "uwsgi_params",
    "scgi_params",
    "*.types",
)
_WELL_KNOWN: Final = ("/etc/nginx/conf.d/*", "/etc/nginx/default.d/*", "/etc/nginx/sites-enabled/*",
                      "/etc/nginx/modules-enabled/*", "/usr/share/nginx/modules/*")  # fmt: skip
_VARIABLE: Final = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
_MAX_INCLUDES: Final = 50


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
    for mount in container.entries("volumeMounts"):
        name = mount.text("name")
        if name not in volumes:
            raise mount.error(
                "name", f"got {name}, expected one of the pod's volumes ({', '.join(volumes) or 'none'})"
            )
        path = posixpath.normpath(mount.text("mountPath"))
        sub_path = mount.text("subPath", None)
        volume = volumes[name]
        kinds = [kind for kind in volume.keys() if kind != "name"]
        if sub_path or mount.flag("readOnly", False) or READ_ONLY_VOLUMES.intersection(kinds):
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
    """The configuration that nginx starts with; *file* is the manifest's, for messages."""
    words = [*container.texts("command"), *container.texts("args")]
    path = _option(words, "-c") or next((path for path in NGINX_PATHS if path in mounts.files), None)
    path = path or _by_name(mounts, "nginx.conf")
    if path is not None and path in mounts.files:
        text, origin = mounts.files[path], mounts.origins[path]
    elif path is not None and _option(words, "-c"):
        raise InputError(
            f"{container.place}: nginx reads {path}, which no ConfigMap of the manifests puts there"
        )
    else:
        text, origin = OFFICIAL_NGINX_CONF, "nginx.conf of the official image"
        if not any(fnmatch.fnmatch(mounted, CONF_D) for mounted in mounts.files):
            text = text.replace(f"include {CONF_D};", OFFICIAL_NGINX_SERVER)
            whose = (
                "the official image's"
                if official
                else "the official image's nginx.conf is assumed for the image's own"
            )
            container.warn(
                "image", f"no nginx.conf is mounted from a ConfigMap: {whose} (keepalive_timeout 65)"
            )
    directives = _option(words, "-g")
    if directives and (directives := re.sub(r"\bdaemon\s+\w+\s*;?", "", directives).strip(" ;")):
        text = f"{directives};\n{text}"
    folder = posixpath.dirname(path or NGINX_PATHS[0])
    default_server = OFFICIAL_NGINX_SERVER if official else ""
    return parse_nginx(
        _with_includes(text, mounts, folder, origin, default_server), where=f"{file}: {origin}"
    )


def _with_includes(text: str, mounts: Mounts, folder: str, origin: str, default_server: str) -> str:
    """Put mounted files in the place of their `include`; files without effect on a request are dropped."""
    for _ in range(_MAX_INCLUDES):
        match = _INCLUDE.search(text)
        if match is None:
            return text
        pattern = posixpath.join(folder, match[2].strip("\"'"))
        found = sorted(path for path in mounts.files if fnmatch.fnmatch(path, pattern))
        if not found and not _may_be_missing(pattern):
            raise UnsupportedInput(
                f"{origin}: include {match[2]}: no ConfigMap of the manifests puts a file there"
            )
        included = "\n".join(mounts.files[path] for path in found)
        if not found and pattern == CONF_D:
            included = default_server
        text = text[: match.end(1)] + included + text[match.end() :]
    raise InputError(f"{origin}: more than {_MAX_INCLUDES} includes, or a file that includes itself")


def _may_be_missing(pattern: str) -> bool:
    name = posixpath.basename(pattern)
    return any(fnmatch.fnmatch(name, known) for known in _WITHOUT_EFFECT) or pattern.startswith(
        tuple(known.rstrip("*") for known in _WELL_KNOWN)
    )


# ---------------------------------------------------------------- HAProxy


def haproxy_conf(
    container: Fields, mounts: Mounts, file: str, *, env: Mapping[str, str], unreadable: Mapping[str, str]
) -> HAProxyConf:
    """The configuration that HAProxy starts with. *unreadable*: variables whose value is not in the manifests."""
    words = [*container.texts("command"), *container.texts("args")]
    given = [words[index + 1] for index, word in enumerate(words[:-1]) if word == "-f"]
    given = given or [path for path in HAPROXY_PATHS if path in mounts.files][:1]
    given = given or [path for path in [_by_name(mounts, "haproxy.cfg")] if path]
    paths = [path for name in given for path in _files_at(name, mounts)]
    if not paths:
        raise InputError(
            f"{container.place}: no haproxy.cfg is mounted from a ConfigMap of the manifests (looked at "
            f"{', '.join(given or HAPROXY_PATHS)}, and for a key haproxy.cfg)"
        )
    text = "\n".join(mounts.files[path].rstrip("\n") for path in paths) + "\n"
    where = f"{file}: {' + '.join(mounts.origins[path] for path in paths)}"
    for name in _VARIABLE.findall(re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)):
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


def _option(words: Sequence[str], option: str) -> str | None:
    return next((words[index + 1] for index, word in enumerate(words[:-1]) if word == option), None)


def _by_name(mounts: Mounts, key: str) -> str | None:
    """A file whose key has that name, wherever it is mounted."""
    named = [
        path
        for path, origin in mounts.origins.items()
        if origin.endswith(f": {key}") or path.endswith(f"/{key}")
    ]
    return sorted(named)[0] if named else None


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
                variables[f"{prefix}_SERVICE_PORT_{re.sub(r'[^A-Z0-9]', '_', port.name.upper())}"] = str(
                    port.port
                )
            variables[f"{prefix}_PORT_{port.port}_TCP_ADDR"] = service.name
            variables[f"{prefix}_PORT_{port.port}_TCP_PORT"] = str(port.port)
    return variables


def container_variables(
    container: Fields, config_maps: ConfigMaps, services: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """(name to value, name to the source that cannot be read) of a container, *services*' own included."""
    values: dict[str, str] = dict(services)
    unreadable: dict[str, str] = {}
    for source in container.entries("envFrom"):
        prefix = source.text("prefix", "")
        if (reference := source.mapping("configMapRef")) is not None and reference.text(
            "name"
        ) in config_maps:
            data = config_maps[reference.text("name")]
            values |= {f"{prefix}{key}": value for key, value in data.items()}
    for entry in container.entries("env"):
        name = entry.text("name")
        source = entry.mapping("valueFrom")
        if source is None:
            known = values
            values[name] = re.sub(r"\$\(([^()]+)\)", lambda m: known.get(m[1], m[0]), entry.text("value", ""))
            continue
        reference = source.mapping("configMapKeyRef")
        data = config_maps.get(reference.text("name"), {}) if reference is not None else {}
        if reference is not None and reference.text("key") in data:
            values[name] = data[reference.text("key")]
        else:
            values.pop(name, None)
            unreadable[name] = f"valueFrom.{next(iter(source.keys()), 'nothing')}"
    return values, unreadable
