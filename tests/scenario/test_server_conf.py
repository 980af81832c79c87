"""Which nginx.conf and haproxy.cfg a container starts with, and with which environment."""

import pytest

from sim.errors import InputError, UnsupportedInput


def nginx_of(files):
    return files.load().deployments[0].template.containers[0].nginx


def haproxy_of(files):
    return files.load().deployments[1].template.containers[0].haproxy


def refused(files, part, error=InputError):
    with pytest.raises(error) as caught:
        files.load()
    assert "\n" not in str(caught.value)
    assert part in str(caught.value), caught.value


# ---------------------------------------------------------------- mounts


def test_single_file(files):
    """subPath puts one key in one place."""
    assert nginx_of(files).keepalive_timeout_s == 300


def test_single_file_read_only(files):
    """subPath and readOnly stand together in many manifests."""
    files.container["volumeMounts"][0]["readOnly"] = True
    assert nginx_of(files).keepalive_timeout_s == 300


def test_items_rename_keys(files):
    """A key can be mounted under another name."""
    files.config_map["data"]["main"] = files.config_map["data"].pop("nginx.conf")
    files.pod["volumes"][0]["configMap"]["items"] = [{"key": "main", "path": "nginx.conf"}]
    assert nginx_of(files).keepalive_timeout_s == 300
    files.pod["volumes"][0]["configMap"]["items"] = [{"key": "other", "path": "nginx.conf"}]
    refused(files, "items[0].key: got other, expected a key of ConfigMap conf")


def test_projected_volume(files):
    """ConfigMaps count inside a projected volume too."""
    files.pod["volumes"][0] = {"name": "conf", "projected": {"sources": [{"configMap": {"name": "conf"}}]}}
    assert nginx_of(files).keepalive_timeout_s == 300


def test_conf_d_in_the_official_image(files):
    """A mounted conf.d lands in the official nginx.conf: keep-alive 65 s, the mounted server."""
    files.container["image"] = "nginx:1.27"
    files.container.pop("readinessProbe")
    files.config_map["data"] = {"app.conf": "server { listen 8080; }\n"}
    files.service["spec"]["ports"] = [{"port": 80, "targetPort": 8080}]
    files.container["volumeMounts"] = [{"name": "conf", "mountPath": "/etc/nginx/conf.d"}]
    conf = nginx_of(files)
    assert conf.keepalive_timeout_s == 65
    assert [listen.port for listen in conf.listens] == [8080]


def test_include_of_a_mounted_file(files):
    """include finds what is mounted, and refuses what is not."""
    files.config_map["data"]["nginx.conf"] = "events {}\nhttp { include /etc/nginx/extra/*.conf; }\n"
    files.config_map["data"]["a.conf"] = "keepalive_timeout 7; server { listen 80; }\n"
    refused(files, "/etc/nginx/extra/*.conf", UnsupportedInput)
    files.container["volumeMounts"].append(
        {"name": "conf", "mountPath": "/etc/nginx/extra/a.conf", "subPath": "a.conf"}
    )
    assert nginx_of(files).keepalive_timeout_s == 7


def test_no_conf_at_all(files):
    """The official image's own, and that is said."""
    files.container.pop("volumeMounts")
    scenario = files.load()
    assert scenario.deployments[0].template.containers[0].nginx.keepalive_timeout_s == 65
    assert any("no nginx.conf is mounted" in note for note in scenario.warnings)


def test_command_line(files):
    """-c names the file, -g adds directives."""
    files.container["command"] = ["nginx", "-c", "/conf/other.conf", "-g", "daemon off; worker_processes 4;"]
    refused(files, "nginx reads /conf/other.conf, which no ConfigMap of the manifests puts there")
    files.config_map["data"]["other.conf"] = (
        "events {}\nhttp { keepalive_timeout 9; server { listen 80; } }\n"
    )
    files.container["volumeMounts"] = [{"name": "conf", "mountPath": "/conf"}]
    conf = nginx_of(files)
    assert (conf.keepalive_timeout_s, conf.worker_processes) == (9, 4)


def test_a_shell_before_the_server(files):
    """A shell that does not exec keeps the signal for itself: said."""
    files.container["command"] = ["sh", "-c", "nginx -g 'daemon off;'"]
    assert any("a shell is PID 1" in note for note in files.load().warnings)
    files.container["command"] = ["sh", "-c", "exec nginx -g 'daemon off;'"]
    assert files.load().warnings == ()


@pytest.mark.parametrize(
    ("volume", "part"),
    [
        (
            {"configMap": {"name": "other"}},
            "configMap.name: got other, expected a ConfigMap of the manifests (conf)",
        ),
        ({"configMap": {"name": "conf", "items": [{"key": "nope", "path": "x"}]}}, "items[0].key: got nope"),
    ],
)
def test_what_is_not_there(files, volume, part):
    """A ConfigMap or key that does not exist keeps the pod from starting."""
    files.pod["volumes"][0] = {"name": "conf", **volume}
    refused(files, part)


def test_sub_path_that_is_no_key(files):
    """Kubernetes would mount an empty directory there."""
    files.container["volumeMounts"][0]["subPath"] = "nginx.cnf"
    refused(files, "subPath: got nginx.cnf, expected a key of the ConfigMap")


def test_limit_rate_needs_a_length(files):
    """How long an answer streams follows from its length."""
    files.config_map["data"]["nginx.conf"] = (
        "events {}\nhttp { server { listen 80; location / { limit_rate 10k; } } }\n"
    )
    refused(files, 'spec.images."app:red".bodyBytes')


def test_errors_name_the_config_map(files):
    """A complaint about the text says which ConfigMap and key it is from."""
    files.config_map["data"]["nginx.conf"] = "events {}\nhttp { keepalive_timeout soon; server {} }\n"
    refused(files, "scenario.yaml: ConfigMap conf: nginx.conf")


# ---------------------------------------------------------------- HAProxy


def test_service_variables(files):
    """NAME_SERVICE_HOST is the Service's name, NAME_SERVICE_PORT its first port."""
    files.with_proxy()
    (server,) = haproxy_of(files).backends[0].servers
    assert (server.host, server.port) == ("app", 80)


def test_own_variables_win(files):
    """env beats the service variables and can use them; a ConfigMap's key is a plain value."""
    proxy = files.with_proxy()
    container = proxy["spec"]["template"]["spec"]["containers"][0]
    files.config_map["data"]["port"] = "80"
    container["env"] = [
        {"name": "APP_SERVICE_PORT", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "port"}}},
        {"name": "APP_SERVICE_HOST", "value": "$(APP_SERVICE_HOST).default.svc.cluster.local"},
    ]
    (server,) = haproxy_of(files).backends[0].servers
    assert (server.host, server.port) == ("app.default.svc.cluster.local", 80)


def test_a_value_that_is_not_in_the_manifests(files):
    """Refused only where it is used."""
    proxy = files.with_proxy()
    container = proxy["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
    assert haproxy_of(files)
    container["env"][0]["name"] = "APP_SERVICE_HOST"
    refused(files, "${APP_SERVICE_HOST}: its value comes from valueFrom.fieldRef", UnsupportedInput)


def test_without_service_links(files):
    """enableServiceLinks: false takes the variables away."""
    proxy = files.with_proxy()
    proxy["spec"]["template"]["spec"]["enableServiceLinks"] = False
    refused(files, "APP_SERVICE_HOST")


def test_no_haproxy_cfg(files):
    """HAProxy without a configuration does not start."""
    proxy = files.with_proxy()
    proxy["spec"]["template"]["spec"]["containers"][0].pop("volumeMounts")
    refused(files, "no haproxy.cfg is mounted from a ConfigMap")


def test_directory_of_files(files):
    """-f DIRECTORY reads its *.cfg files in their order."""
    proxy = files.with_proxy()
    text = files.config_map["data"].pop("haproxy.cfg")
    head, body = text.split("listen app")
    files.config_map["data"] |= {"1.cfg": head, "2.cfg": "listen app" + body}
    proxy["spec"]["template"]["spec"]["containers"][0]["args"] = ["haproxy", "-f", "/usr/local/etc/haproxy"]
    assert haproxy_of(files).backends[0].servers[0].host == "app"


@pytest.mark.parametrize(
    ("server", "part"),
    [
        ("server a 10.0.0.1:80", 'got host "10.0.0.1", expected a Service of the manifests (app, proxy)'),
        ("server a elsewhere:80", 'got host "elsewhere"'),
        ("server a app:81", "got port 81, expected a port of Service app (80)"),
    ],
)
def test_servers_that_lead_nowhere(files, server, part):
    """A proxy's server is a Service of the manifests, by name and port."""
    files.with_proxy()
    head = "defaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n"
    files.config_map["data"]["haproxy.cfg"] = f"{head}listen x\n  bind :8080\n  {server}\n"
    refused(files, part)


def test_headless_service(files):
    """server-template follows the pods of a headless Service; a single line does not."""
    files.with_proxy()
    files.more.append(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "pods"},
            "spec": {"clusterIP": "None", "selector": {"app": "app"}, "ports": [{"port": 80}]},
        }
    )
    head = (
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n"
        "resolvers dns\n  parse-resolv-conf\nlisten x\n  bind :8080\n  "
    )
    files.config_map["data"]["haproxy.cfg"] = (
        head + "server-template app 5 pods:80 check resolvers dns init-addr none\n"
    )
    assert haproxy_of(files).backends[0].servers[0].template_count == 5
    files.config_map["data"]["haproxy.cfg"] = head + "server a pods:80\n"
    refused(files, "Service pods is headless", UnsupportedInput)
    files.config_map["data"]["haproxy.cfg"] = (
        head + "server-template a 5 app:80 resolvers dns init-addr none\n"
    )
    refused(files, "make it headless", UnsupportedInput)
