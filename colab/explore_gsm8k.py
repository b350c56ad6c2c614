# The source of explore_gsm8k.ipynb: `python colab/generate.py` writes that one, in which these lines are left out.
# ruff: noqa: E402, E501

# %% [markdown]
# # Look: at the data, at a run, at what it learnt
#
# Nobody should train on problems that they have not read, nor believe a curve whose completions they have not seen.
# Here you look at all three: at GSM8K as a map, at a run while it trains, and at what came of it, problem by problem.
# All of it on the CPU and in a few minutes, with a small model that comes along. Press **Runtime > Run all**.

# %% cellView="form"
# @title Install { display-mode: "form" }
# @markdown Two minutes, once. Where the runtime must restart, this says so and does it by itself: then press **Run all** once more.
# !curl -sSfL --max-time 60 -o install.py {RAW}/colab/install.py
# %run install.py

# %% [markdown]
# ## 1. The data
#
# GSM8K has 7,473 problems to train on and 1,319 to test with. Each becomes a point, and points whose texts are alike
# lie together. This takes a minute or two; with a copy of your own, say where its `train.jsonl` and `test.jsonl` are.

# %%
from grpo_colab.notebook import explore

path = ""  # @param {type:"string"}
explore("gsm8k", path=path or None)

# %% [markdown]
# **Put the mouse on a point** to read it. Search for a word, or draw around a group: the problems are listed below,
# and can be saved. Two things to look at:
#
# - **Colour by split.** Test problems should lie among those for training, everywhere: else the test asks for
#   something that was never taught. Those that nearly repeat a training problem are listed at the end.
# - **Colour by steps**, which is how hard a problem is. If one subject were harder than all others, the model could
#   learn the subject in place of the reasoning.
#
# The folder `embeddings/gsm8k` is a TensorBoard log directory, too: `%load_ext tensorboard` and then
# `%tensorboard --logdir embeddings/gsm8k` turn it in three dimensions, under Projector.
#
# ## 2. A run, while it trains
#
# A small model on problems of one to three steps, in about a minute. Watch the reward rise, and how much the answers
# to one problem differ: **where all are paid the same, GRPO learns nothing.**

# %%
from grpo_colab import Recipe, train

steps = 40  # @param {type:"integer"}
run = train(Recipe.load("word-problems-tiny", budget={"max_steps": steps}), resume=False)

# %% [markdown]
# ## 3. What came of it
#
# The same page that every run leaves behind as `report.html`. Search the completions, open one, and look at its
# group: the same problem, answered eight times, and what each was paid. At the end are the held-out problems, those
# that were gained and those that were lost.

# %%
from grpo_colab.notebook import show

show(run)

# %% [markdown]
# ## 4. Back on the map
#
# These are the problems of the run, with three columns more: the share of right answers `before` and `after`, and the
# `change`. Colour by `change`: is it one kind of problem that was learnt, or all of them?

# %%
explore(run=run.path)

# %% [markdown]
# ## Your turn
#
# - Your own problems: `explore("jsonl", path="mine.jsonl")`, a JSON object with a `prompt` and an `answer` a line.
# - Another embedder: `explore("gsm8k", model="all-mpnet-base-v2")`, or any other that sentence-transformers loads.
# - Your own reward in the [reward workshop]({COLAB}/colab/reward_workshop.ipynb), and a large model in the
#   [main notebook]({COLAB}/colab/grpo_gsm8k.ipynb): `explore(run=run.path)` works for its runs, too.
