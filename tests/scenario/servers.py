"""The servers' own verdict on their configuration files."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ECHO_MODULE = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
PATH = f"{os.environ['PATH']}:/usr/sbin"
CHECK = {
    "nginx": ["nginx", "-t", "-q", "-e", "stderr", "-c"],
    "haproxy": ["haproxy", "-c", "-f"],
}


def taken_by(program: str, text: str, folder: Path, env: dict[str, str] | None = None) -> tuple[bool, str]:
    """Whether the server takes the file, and what it says; skips the test where the server cannot be asked."""
    if shutil.which(program, path=PATH) is None or (program == "nginx" and not ECHO_MODULE.exists()):
        pytest.skip(f"needs {program}" + (" and its echo module" if program == "nginx" else ""))
    file = folder / program
    file.write_bytes(text.encode())
    done = subprocess.run(
        [*CHECK[program], str(file)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=20,
        check=False,
        env={"PATH": PATH, **(env or {})},
    )
    if "[emerg] bind() to" in done.stderr:
        pytest.skip("nginx -t binds, and a port of the file is taken or not allowed")
    return done.returncode == 0, done.stderr
