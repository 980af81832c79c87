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
# # How good is it?
#
# Every scenario can be replayed on a real kind cluster: the same manifests, real nginx and HAProxy, real clients. The
# runs are kept in `validation/observations/`, each with the prediction that was made before its first replay. This
# notebook reads them, and what today's model predicted when the [report](../validation/REPORT.md) was last made.
#
# - **before the first replay**: the prediction made before anything was known about a scenario. The honest score.
# - **today's model** against every kept run.

# %%
import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown, display

from sim.plots import Picture
from validation import compare
from validation.report import MEASURED, TODAY, gather

evidence = gather()
runs = evidence.runs
groups = {name: found for name, found in evidence.groups.items() if found}
if not groups:
    display(Markdown("**No kept run yet**: `rollsim lab up`, then `rollsim validate configs/tutorial`."))
else:
    display(Markdown(f"{len(runs)} real runs of {len({run.scenario for run in runs})} scenarios."))

# %% [markdown]
# ## Scores
# *Verdict*: would the rollout lose requests, yes or no? *Coverage*: share of real runs inside the predicted 95 %
# interval. *Skill*: 1.0 is the true distribution, 2.0 is what one single replay would be worth as a forecast.

# %%
for name, found in groups.items():
    display(Markdown(f"**{name}**"))
    print("\n".join(compare.scores_text(compare.scores_of(found))))

# %% [markdown]
# ## Scenario by scenario


# %%
def table(found):
    return pd.DataFrame(
        [
            {
                "scenario": each.forecast.scenario,
                "predicted": f"{np.median(each.forecast.counted):g}",
                "95 %": "{} to {}".format(*each.forecast.interval95),
                "real runs": " ".join(str(run.counted) for run in each.runs),
                "inside": "{} of {}".format(
                    sum(
                        each.forecast.interval95[0] <= run.counted <= each.forecast.interval95[1]
                        for run in each.runs
                    ),
                    len(each.runs),
                ),
            }
            for each in found
        ]
    )


for name, found in groups.items():
    display(Markdown(f"**{name}**"), HTML(table(found).to_html(index=False)))


# %% [markdown]
# ## The picture
# Bars: the predicted 95 % interval and its median; crosses: real runs.


# %%
def picture(found):
    figure = Picture(figsize=(9, 1.2 + 0.3 * len(found)), layout="constrained")
    axes = figure.subplots()
    for y, each in enumerate(found):
        axes.hlines(y, *each.forecast.interval95, colors="#0072B2", linewidths=5, alpha=0.5)
        axes.plot(
            [np.median(each.forecast.counted)], [y], "|", color="black", markersize=12, markeredgewidth=2
        )
        real = [run.counted for run in each.runs]
        axes.plot(real, np.full(len(real), y + 0.25), "x", color="#D55E00", markersize=5)
    axes.set_yticks(range(len(found)), [each.forecast.scenario for each in found])
    axes.invert_yaxis()
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(left=-0.5)
    axes.set_xlabel("failed requests in one rollout")
    return figure


for found in groups.values():
    display(picture(found))

# %% [markdown]
# ## Why they failed
# Means by cause. A real failure is put to its cause by what the client saw and what the cluster did at that time.

# %%
if groups:
    causes = {
        each.forecast.scenario: {
            "predicted": {k: round(v, 1) for k, v in each.forecast.causes.items() if v >= 0.05},
            "real": compare.mean_causes(each.runs) or "only the tool's figure is known",
        }
        for each in groups.get(f"{TODAY} on every kept run, {MEASURED}", [])
    }
    display(pd.DataFrame(causes).T)
