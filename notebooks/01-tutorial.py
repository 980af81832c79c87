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
# # The tutorial, stage by stage
#
# "Zero Downtime Deployments in Kubernetes" (2016) rolls an nginx app from RED to BLUE under
# `ab -l -r -c 10 -k` and counts what fails. Each stage changes one thing. Here each is predicted from the very
# manifests that `kubectl apply` takes, and held beside real rollouts of a kind cluster where there are some.

# %%
import os
from pathlib import Path

import pandas as pd
from IPython.display import HTML, Markdown, display

from sim import load_one, predict, simulate
from sim.plots import plot_prediction, plot_side_by_side
from validation import observations
from validation.lanes import of_observation

RUNS = int(os.environ.get("ROLLSIM_NOTEBOOK_RUNS", "100"))
TUTORIAL = Path("../configs/tutorial")
real = [run for run in observations.read_all() if not run.spoiled]
predictions = []


# %%
def stage(name):
    """Predict one stage and draw one of its rollouts; beside it a real one, if there is any."""
    scenario = load_one(TUTORIAL / f"{name}.yaml")
    prediction = predict(scenario, runs=RUNS)
    predictions.append(prediction)
    told = prediction.to_json()
    low, high = told["failed"]["interval95"]
    lines = [
        f"**{told['failed']['median']:.0f}** failed requests (95 %: {low:.0f} to {high:.0f}) of {told['requests']['mean']:,.0f}"
    ]
    if told["tool"]["failed"]:
        low, high = told["tool"]["failed"]["interval95"]
        lines.append(
            f"as `{told['tool']['name']}` prints it: {told['tool']['failed']['median']:.0f} ({low:.0f} to {high:.0f})"
        )
    runs = [run for run in real if run.scenario == scenario.name]
    if runs:
        lines.append(f"real rollouts: {', '.join(str(run.counted) for run in runs)}")
    lines += [f"{cause}: {mean:.1f} in the mean" for cause, mean in told["causes"].items()]
    lines += [f"⚠ {warning}" for warning in told["warnings"]]
    display(Markdown("\n".join(f"- {line}" for line in lines)))
    rollout = simulate(scenario)
    return plot_side_by_side(rollout, of_observation(runs[0])) if runs else rollout.plot_timeline()


# %% [markdown]
# ## 0: nothing prepared
# No readiness probe: a new pod is an endpoint as soon as its container runs, which is before nginx listens. No
# preStop: nginx gets SIGTERM within milliseconds of the deletion, while rules still point to it.

# %%
stage("0-naive")

# %% [markdown]
# ## 1: connection draining
# A readiness probe, and a preStop hook that removes the probe's file and sleeps. The pod leaves the rules while it
# still answers. A client that opens a connection for every request loses none.

# %%
stage("1-draining")

# %% [markdown]
# ## 2: the keep-alive problem
# The same pods, a client that keeps its connections. Rules decide about *new* connections only: kept ones stay on
# their pod through the whole preStop sleep, and end with nginx. Black line: where the rules send new connections.
# Bar: the pod. The failures stand where the bars end, not where the lines end.

# %%
stage("2-keepalive")

# %% [markdown]
# ## 3: a proxy in between
# HAProxy keeps the client's connections and opens one to the app for every request, with `retries 3` and
# `option redispatch`. No kept connection ends on an app pod any more.

# %%
stage("3-proxy")

# %% [markdown]
# `ab -l` hides connections that end without an answer, so its 0 alone would prove little. The count above is of what
# truly failed.
#
# ## 4: the proxy is rolled out itself
# The problem is back, one tier up. The article leaves it open.

# %%
stage("4-proxy-rollout")

# %% [markdown]
# ## 4b: a proxy rollout that loses nothing
# Two proxies of which one may be missing, a probe, a preStop sleep, and a soft stop that ends idle connections with
# a response instead of under a request.

# %%
stage("4b-proxy-rollout-lossless")

# %% [markdown]
# ## All stages
# Line: 95 % of rollouts; thick: half of them; tick: the median; crosses: real rollouts, where there are any.

# %%
plot_prediction(
    predictions,
    {name: [run.counted for run in real if run.scenario == name] for name in {r.scenario for r in real}},
)

# %%
display(
    HTML(
        pd.DataFrame(
            [
                {
                    "stage": p.scenario.name.removeprefix("tutorial-"),
                    "failed, mean": round(float(p.failed.mean()), 1),
                    "none fails": f"{p.p_zero:.0%}",
                    "first thing to change": p.to_json()["advice"] or "",
                }
                for p in predictions
            ]
        ).to_html(index=False)
    )
)

# %% [markdown]
# ## The article's own load ends too soon
# `-n 100000` lasted long enough in 2016. Today it is over in seconds, before the first old pod has stopped: it reports
# no failure because it looked away.

# %%
article = predict(load_one(TUTORIAL / "article" / "2n-keepalive.yaml"), runs=RUNS)
print(f"failed: {article.failed.mean():.1f} of {article.requests.mean():,.0f}")
print(*article.warnings, sep="\n")
