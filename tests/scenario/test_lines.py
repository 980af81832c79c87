"""Single lines of nginx.conf and haproxy.cfg, each judged by our reader and by the server's own program.

`nginx_lines.yaml` and `haproxy_lines.yaml` hold, by verdict and by the block that the line is put into, each line
with a part of our message. Verdicts: bad (both reject it), stricter (the server takes it as something that nobody
means, we reject it), refused (the server takes it, the model does not), good (both take it).
"""

from pathlib import Path

import pytest
import yaml
from servers import taken_by

from sim.errors import InputError, UnsupportedInput
from sim.scenario.haproxy_cfg import parse_haproxy
from sim.scenario.nginx_conf import parse_nginx

HERE = Path(__file__).parent
BLOCKS = {
    "nginx": {
        "file": "{}",
        "http": "events {{}}\nhttp {{ {} }}\n",
        "server": "events {{}}\nhttp {{ server {{ listen 80; {} }} }}\n",
        "location": "events {{}}\nhttp {{ server {{ listen 80; location / {{ {} }} }} }}\n",
    },
    "haproxy": {
        "file": "{}",
        "listen": "listen l\n  mode http\n  bind :80\n  {}\n",
        "global": "global\n  {}\nlisten l\n  mode http\n  bind :80\n",
        "defaults": "defaults\n  mode http\n  {}\nlisten l\n  bind :80\n",
        "resolvers": "resolvers r\n  {}\nlisten l\n  mode http\n  bind :80\n",
    },
}
PARSE = {
    "nginx": lambda text: parse_nginx(text, where="nginx.conf"),
    "haproxy": lambda text: parse_haproxy(text, where="haproxy.cfg", env={}),
}
KINDS = {"bad": InputError, "stricter": InputError, "refused": UnsupportedInput}
HELD_AT_LEAST = 40
"""Files that each server rejects, and we with it."""


def cases(program):
    table = yaml.safe_load((HERE / f"{program}_lines.yaml").read_text(encoding="utf-8"))
    for verdict, blocks in table.items():
        for block, lines in blocks.items():
            for line, says in lines.items():
                yield program, BLOCKS[program][block].format(line), verdict, says


CASES = [case for program in BLOCKS for case in cases(program)]


def title(value):
    return value[-60:] if isinstance(value, str) and "\n" in value else None


@pytest.mark.parametrize(("program", "text", "verdict", "says"), CASES, ids=title)
def test_verdict(program, text, verdict, says):
    """Ours, in one line that names what is wrong."""
    if verdict == "good":
        PARSE[program](text)
        return
    with pytest.raises(InputError) as caught:
        PARSE[program](text)
    assert type(caught.value) is KINDS[verdict]
    assert says in str(caught.value)


@pytest.mark.parametrize(("program", "text", "verdict", "says"), CASES, ids=title)
def test_verdict_of_the_server_itself(program, text, verdict, says, tmp_path):
    """`nginx -t` and `haproxy -c` reject what is bad here and take the rest."""
    accepted, said = taken_by(program, text, tmp_path)
    assert accepted == (verdict != "bad"), said


@pytest.mark.parametrize("program", BLOCKS)
def test_enough_is_held_against_the_server(program):
    """The count that the table of trust names, of lines and of whole files."""
    whole = yaml.safe_load((HERE / f"{program}_verdicts.yaml").read_text(encoding="utf-8"))
    verdicts = [verdict for name, _, verdict, _ in CASES if name == program] + [c["verdict"] for c in whole]
    n_bad, n_taken = verdicts.count("bad"), len(verdicts) - verdicts.count("bad")
    print(f"{program}: {n_bad} files that it rejects, {n_taken} that it takes")
    assert n_bad >= HELD_AT_LEAST
    assert n_taken >= HELD_AT_LEAST / 2
