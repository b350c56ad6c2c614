# The source of explore_gsm8k.ipynb: `python colab/generate.py` writes it, without these two lines.
# ruff: noqa: E402, E501

# %% [markdown]
# # Look at the data, at a run, and at what it learnt
#
# Read the problems before you train on them, and read completions before you believe a curve. In this notebook you see
# GSM8K as a map, a run while it trains, and its result problem by problem. Everything runs on the CPU in a few minutes,
# with a small model that comes with the package. Press **Runtime > Run all**.

# %% cellView="form"
# @title Install { display-mode: "form" }
# @markdown Two minutes, once. If the runtime must restart, it says so and restarts by itself: then press **Run all** again.
# !curl -sSfL --max-time 60 -o install.py {RAW}/colab/install.py
# %run install.py

# %% [markdown]
# ## 1. The data
#
# GSM8K has 7,473 training problems and 1,319 test problems. Each becomes a point, and problems with similar texts lie
# close together. This takes a minute or two. If you have your own copy, set `path` to the folder with its `train.jsonl`
# and `test.jsonl`.

# %%
from grpo_colab.notebook import explore

path = ""  # @param {type:"string"}
explore("gsm8k", path=path or None)

# %% [markdown]
# **Point at a dot** to read its problem. Search for a word, or draw around a group: its problems are listed below the
# map and can be saved. Look at two things:
#
# - **Colour by split.** Test problems should lie among training problems everywhere. Otherwise the test asks for
#   something that was never taught. Test problems that nearly repeat a training problem are listed at the end.
# - **Colour by steps**, the number of steps in the solution, which measures how hard a problem is. If one subject were
#   harder than all others, the model could learn the subject instead of the reasoning.
#
# The folder `embeddings/gsm8k` is also a TensorBoard log directory. Run `%load_ext tensorboard` and then
# `%tensorboard --logdir embeddings/gsm8k`, and open Projector to see the map in three dimensions.
#
# ## 2. A run, while it trains
#
# A small model learns to solve problems of one to three steps, in about a minute. Watch the reward rise, and watch how
# much the rewards of the answers to one problem differ: **if all of them get the same reward, GRPO learns nothing.**

# %%
from grpo_colab import Recipe, train

steps = 40  # @param {type:"integer"}
run = train(Recipe.load("word-problems-tiny", budget={"max_steps": steps}), resume=False)

# %% [markdown]
# ## 3. The result
#
# Every run writes this page, as `report.html`. Search the completions, open one, and look at its group: eight answers
# to the same problem, each with its reward. At the end are the held-out problems that were gained (wrong before the
# training, right after it) and those that were lost.

# %%
from grpo_colab.notebook import show

show(run)

# %% [markdown]
# ## 4. Back on the map
#
# These are the problems of the run, with three more columns: the share of right answers `before` and `after`, and the
# `change`. Colour by `change`: did the model learn one kind of problem, or all of them?

# %%
explore(run=run.path)

# %% [markdown]
# ## Your turn
#
# - Your own problems: `explore("jsonl", path="mine.jsonl")`. Each line is a JSON object with a `prompt` and an `answer`.
# - Another embedding model: `explore("gsm8k", model="all-mpnet-base-v2")`, or any that sentence-transformers loads.
# - Your own reward: the [reward workshop]({COLAB}/colab/reward_workshop.ipynb).
# - A large model: the [main notebook]({COLAB}/colab/grpo_gsm8k.ipynb). `explore(run=run.path)` works for its runs, too.
