"""Coverage-guided fuzzing (atheris) of the readers of nginx.conf and haproxy.cfg.

    python tests/fuzz/guided.py 30              both at once, for 30 s
    python tests/fuzz/guided.py nginx 600

Needs `pip install 'rollsim[nightly]'`. An input that breaks a promise of `limits.py` is kept in the working folder
as `crash-…`; `python tests/fuzz/guided.py nginx crash-…` runs it again.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sim.scenario", "crossplane"]):
    from sim.scenario.haproxy_cfg import parse_haproxy
    from sim.scenario.nginx_conf import parse_nginx

import inputs
from limits import said

MEMORY_MIB = 800
"""500 MiB for the reader, the rest for Python, its libraries and the fuzzer's corpus."""
SEEDS = {"nginx": inputs.NGINX_SEEDS, "haproxy": inputs.HAPROXY_SEEDS}
WORDS = {"nginx": inputs.NGINX_PIECES, "haproxy": inputs.HAPROXY_PIECES}


def nginx(raw: bytes) -> None:
    files = {"a.conf": "server { listen 81; }", "b.conf": "include a.conf;"}
    said(parse_nginx, raw.decode("utf-8", "replace"), where="nginx.conf", includes=files)


def haproxy(raw: bytes) -> None:
    said(parse_haproxy, raw.decode("utf-8", "replace"), where="haproxy.cfg", env={"A": "1 2", "B": ""})


def fuzz(program: str, how_long: str) -> None:
    """Ends the process: 0 where no input broke a promise."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for index, text in enumerate(SEEDS[program]):
            (corpus / f"{index}").write_text(text, encoding="utf-8")
        words = Path(folder) / "words"
        words.write_text("".join(f'"{quoted(word)}"\n' for word in WORDS[program] if word), encoding="ascii")
        until = how_long if Path(how_long).is_file() else f"-max_total_time={int(how_long)}"
        options = [until, f"-dict={words}", "-max_len=3000", f"-rss_limit_mb={MEMORY_MIB}", "-timeout=120"]
        if not Path(how_long).is_file():
            options += [str(corpus), "-verbosity=0", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options], {"nginx": nginx, "haproxy": haproxy}[program])
        atheris.Fuzz()


def quoted(word: str) -> str:
    return "".join(
        char if char.isalnum() and char.isascii() else "".join(f"\\x{byte:02x}" for byte in char.encode())
        for char in word
    )


if __name__ == "__main__":
    if len(sys.argv) > 2:
        fuzz(*sys.argv[1:3])
    else:
        fuzzers = [subprocess.Popen([sys.executable, __file__, name, *sys.argv[1:]]) for name in SEEDS]
        sys.exit(max(abs(fuzzer.wait()) for fuzzer in fuzzers))
