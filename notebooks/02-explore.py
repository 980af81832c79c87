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
# # Explore: what does a setting do?
#
# One app of the tutorial under a client that pauses about 20 ms between two requests. Move a slider: the picture is
# one rollout with the new setting, the numbers above it come from up to 200 rollouts and sharpen while you look.
#
# Things to try:
# - **preStop sleep** to 0 with *keep-alive* off: new connections still arrive while the rules catch up.
# - Back to 5 s: none fails. Now *keep-alive* on: each kept connection loses one request, whatever the sleep.
# - The **client** go-http instead: it repeats what broke on a reused connection, and none fails again.
# - Back to plain, then **SIGQUIT**: what remains is what crosses the close of an idle connection.
# - **Probe period**: it decides how long the rollout takes, hardly how many fail.

# %%
from pathlib import Path

import ipywidgets as widgets
from explorer import Control, Explorer

CONTAINER = "deployment/myapp.spec.template.spec.containers[myapp]"
OLD, NEW = "rollsim/app:red", "rollsim/app:blue"


def slider(text, value, low, high):
    return widgets.IntSlider(
        value, low, high, description=text, continuous_update=False, style={"description_width": "9em"}
    )


def pre_stop(seconds):
    return [
        f"{CONTAINER}.lifecycle=" + (f"{{preStop: {{sleep: {{seconds: {seconds}}}}}}}" if seconds else "null")
    ]


controls = {
    "probe": Control(
        slider("probe period, s", 1, 1, 10), lambda s: [f"{CONTAINER}.readinessProbe.periodSeconds={s}"]
    ),
    "pre_stop": Control(slider("preStop sleep, s", 5, 0, 15), pre_stop),
    "keep_alive": Control(
        widgets.ToggleButtons(options={"keep-alive": True, "one connection each": False}),
        lambda on: [f"load.keepAlive={str(on).lower()}"],
    ),
    "client": Control(
        widgets.Dropdown(options=["plain", "go-http", "requests"], description="client"),
        lambda name: [f"load.client={name}"],
    ),
    "replicas": Control(slider("replicas", 3, 1, 6), lambda n: [f"deployment/myapp.spec.replicas={n}"]),
    "signal": Control(
        widgets.ToggleButtons(options=["SIGTERM", "SIGQUIT"]),
        lambda signal: [f'images."{image}".stopSignal={signal}' for image in (OLD, NEW)],
    ),
}

# %%
explorer = Explorer(
    Path("../configs/tutorial/1-draining.yaml"),
    controls,
    base=[
        "load.options=null",
        "load.connections=5",
        "load.thinkTime={exponential: 20ms}",
        "load.connectTimeout=5s",
        "load.answerTimeout=5s",
        "deployment/myapp.spec.template.spec.terminationGracePeriodSeconds=30",
    ],
)
explorer.panel

# %% [markdown]
# The same settings on the command line, and what stands above once all rollouts are counted:

# %%
from IPython.display import HTML, display

await explorer.settled()
print("rollsim predict configs/tutorial/1-draining.yaml \\")
print(" \\\n".join(f"  --set '{each}'" for each in explorer.sets))
display(HTML(explorer.numbers.value), explorer.figure)
