# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From a sweep to a decision
#
# "Which preStop sleep is enough, does keep-alive matter, and what does it cost?" One sweep answers: every point is
# the same scenario with some fields set otherwise, replicated with the same random numbers, so that points differ by
# their settings and not by luck.

# %%
import os
import tempfile
from pathlib import Path

import pandas as pd
from IPython.display import HTML, Markdown, display

from sim import sweep
from sim.sweep.pictures import plot_sweep

RUNS = int(os.environ.get("ROLLSIM_NOTEBOOK_RUNS", "100"))
SCENARIO = Path("../configs/tutorial/1-draining.yaml")
CONTAINER = "deployment/myapp.spec.template.spec.containers[myapp]"
folder = tempfile.TemporaryDirectory()
out = Path(folder.name, "sleep.parquet")

# %% [markdown]
# ## The sweep
# A client that pauses about 20 ms between two requests; nginx that stops fast (SIGTERM) or softly (SIGQUIT); a preStop
# sleep from none to five seconds; connections that are kept, or one for every request. A sweep takes all cores, and
# goes on where it stopped when it is interrupted. A parameter may set several fields: each `sleep` below does.

# %%
points = sweep(
    SCENARIO,
    {
        "sleep": {
            f"{seconds} s": {
                f"{CONTAINER}.lifecycle": {"preStop": {"sleep": {"seconds": seconds}}} if seconds else None,
                "deployment/myapp.spec.template.spec.terminationGracePeriodSeconds": 30,
            }
            for seconds in (0, 1, 2, 3, 5)
        },
        "load.keepAlive": "false,true",
        "stop": {
            signal: {f'images."rollsim/app:{colour}".stopSignal': signal for colour in ("red", "blue")}
            for signal in ("SIGTERM", "SIGQUIT")
        },
    },
    sets={"load.client": "plain", "load.options": None, "load.thinkTime": {"exponential": "20ms"}},
    runs=RUNS,
    out=out,
)
shown = ["sleep", "load.keepAlive", "stop", "failed", "failed_low95", "failed_high95", "p_zero", "rollout_s"]
display(HTML(points[shown].round(2).to_html(index=False)))

# %% [markdown]
# The same on the command line, with the parameters in a sweep file:
# `rollsim sweep sleep.yaml -o sleep.parquet`, then `rollsim plot sleep.parquet --y p_zero`.
#
# ## What the sleep does
# Median, half of the rollouts (dark) and 95 % of them (light). With a connection for every request the sleep is all it
# takes. Kept connections do not move during a sleep: they end with the pod, however long it waits.

# %%
plot_sweep(out, x="sleep", by="load.keepAlive")

# %%
plot_sweep(out, x="sleep", by="load.keepAlive", y="p_zero")

# %% [markdown]
# ## What it costs
# The rollout does not wait for the sleep of an old pod; the old pod lives longer, so that for a while there are more
# pods.

# %%
costs = points[(points["stop"] == "SIGTERM") & ~points["load.keepAlive"]]
display(
    HTML(
        costs[["sleep", "rollout_s", "rollout_low95", "rollout_high95", "extra_pods"]]
        .round(2)
        .to_html(index=False)
    )
)

# %% [markdown]
# ## Why, replication by replication
# The file holds a row for each rollout with its counts by cause, for pandas.

# %%
rows = pd.read_parquet(out)
causes = [
    name
    for name in ("stale_endpoint_refused", "accept_queue_reset", "stop_in_flight", "idle_closed")
    if rows[name].any()
]
by_cause = rows.groupby(["load.keepAlive", "stop", "sleep"], sort=False)[causes].mean().round(2)
display(HTML(by_cause.to_html()))

# %% [markdown]
# ## The decision
# The shortest sleep with which P(no request fails) reaches 0.99, by kind of connection.

# %%
for keep_alive, some in points[points["stop"] == "SIGQUIT"].groupby("load.keepAlive"):
    enough = some[some["p_zero"] >= 0.99]
    kind = "kept connections" if keep_alive else "a connection for every request"
    if enough.empty:
        best = some.loc[some["failed_mean"].idxmin()]
        text = f"no sleep is enough: {best['failed_mean']:.1f} requests fail in the mean at best"
    else:
        first = enough.iloc[0]
        text = f"{first['sleep']} is enough (P(none fails) {first['p_zero']:.2f}, at least {first['p_zero_low']:.2f})"
    display(Markdown(f"- {kind}: **{text}**"))

# %% [markdown]
# `rollsim advise` does this search by itself, over more settings, and prints the change as a patch to the manifests.

# %%
folder.cleanup()
