# The source of reward_workshop.ipynb: `python colab/generate.py` writes it, without these two lines.
# ruff: noqa: E402, E501, B905

# %% [markdown]
# # The reward workshop
#
# In reinforcement learning a model learns what you **reward**, which is not always what you meant. In this notebook you
# write a reward, let an adversary look for its holes, fix them, see what it pays for real completions, and train a
# model with it. Everything runs on the CPU in about five minutes, with a small model that comes with the package. Press
# **Runtime > Run all**, and read along.

# %% cellView="form"
# @title Install { display-mode: "form" }
# @markdown Two minutes, once. If the runtime must restart, it says so and restarts by itself: then press **Run all** again.
# !curl -sSfL --max-time 60 -o install.py {RAW}/colab/install.py
# %run install.py

# %% [markdown]
# ## 1. Read what the model writes
#
# Read some completions before you write a reward. This model solves word problems of one to three steps. It should
# write its reasoning in `<reasoning>` and its answer in `<answer>`. Here it answers 64 problems, in about twenty
# seconds, and you see the first four answers.

# %%
from grpo_colab.notebook import samples

samples("word-problems-tiny", n=64, shown=4, out="samples.jsonl")

# %% [markdown]
# It knows the format, and which numbers to use. Its bad habit is to put the whole calculation into one line, as in
# `((7 + 13) - 6) + 15 =`, and then it gets the result wrong. When it works in single steps, it gets the result right,
# and in sampling that happens now and then. **This is all that GRPO needs:** something good that happens sometimes, and
# a reward that notices it.
#
# ## 2. A first reward
#
# A reward is a function. It gets the completions of a batch and every column of the data set that it names (here
# `answer`, the gold answer), and returns one number per completion. This one looks harmless: the text must contain the
# right number.


# %%
# %%writefile first_reward.py
def first_reward(completions, answer, **kwargs):
    texts = [completion[0]["content"] for completion in completions]
    return [1.0 if gold in text else 0.0 for text, gold in zip(texts, answer)]


# %% [markdown]
# ## 3. What could a model exploit in it?
#
# In training, thousands of samples find every way to get the reward, so look for these ways first. The audit is the
# adversary: it tries completions that are wrong or cheat, and right answers in all the ways in which people write them.
# It takes a second. `--kind number` says that the answers are numbers: this reward would pay any text. The result has a
# line for each sort of fault, with how often it was found and one example.

# %%
# !grpo-colab audit first_reward.py:first_reward --kind number

# %% [markdown]
# Read the lines under `pays, and should not`. A completion that repeats the question, leaves the answer empty, or answers 17
# after reasoning that ends in 18 gets the full reward, and there are more than a hundred such completions. A model that
# is trained with this reward does not have to answer at all, and sooner or later it finds that out. The lines under
# `does not pay, and should` show the opposite: the reward refuses `1450` if the data set says `1,450`.
#
# ## 4. Fix it
#
# Grade the one number in the one answer block, with a parser that knows how people write numbers. We also want the
# model to work in steps, so we add 0.1 for each of the first two equations. This bonus is paid **only for a right
# answer**: if the model can get a reward without being right, it learns to do that.

# %%
# %%writefile my_reward.py
from grpo_colab.rewards import grade


def my_reward(completions, answer, **kwargs):
    paid = []
    for completion, gold in zip(completions, answer):
        text = completion[0]["content"]
        steps = text.partition("</reasoning>")[0].count("=")
        paid.append(1.0 + 0.1 * min(steps, 2) if grade(text, gold).right else 0.0)
    return paid


# %% [markdown]
# Run the audit again. `--kind scaled` says that right answers may get different rewards, as they do here. The last line
# should be `ok`.

# %%
# !grpo-colab audit my_reward.py:my_reward --kind scaled

# %% [markdown]
# ## 5. What does it pay for real completions?
#
# Score the 64 completions from above with both rewards and with `correctness`, which is part of the package. If two
# rewards disagree, read those lines of `samples.jsonl`: one of the two rewards is wrong there. This takes a second and
# needs no model.

# %%
# !grpo-colab score samples.jsonl --rewards correctness,first_reward.py:first_reward,my_reward.py:my_reward

# %% [markdown]
# Look at two things. `my_reward` should never pay a completion that `correctness` does not pay. And its `std`, the
# standard deviation, must not be 0: GRPO compares the answers to one problem with each other, so a reward that is the
# same for all of them teaches nothing.
#
# ## 6. Train with it
#
# Twenty steps take about a minute. In each step the model writes eight answers to each of four problems. Answers with a
# reward above the mean of their eight become more likely, the others less likely. Before and after the training, the
# model answers 128 held-out problems, and the right answers are counted **whatever your reward pays**, so that a reward
# cannot praise itself.

# %%
from grpo_colab import Recipe, train

recipe = Recipe.load(
    "word-problems-tiny",
    rewards={"my_reward.py:my_reward": 1.0, "correctness": False, "integer": False},  # the format rewards stay
    grpo={"learning_rate": 1e-3},
    budget={"max_steps": 20, "prompts_per_step": 4},
    evaluation={"n": 128},
)
run = train(recipe, resume=False)  # a new run, whatever was trained before

# %% [markdown]
# ## 7. What has it learnt?
#
# The reward should rise, and the accuracy with it. Open one of the answers that changed: the long line has become
# several short ones. **If your reward rises and the accuracy does not, the model has found a hole:** the last
# completions in the report show which one.

# %%
from grpo_colab.notebook import show

show(run)

# %% [markdown]
# ## Your turn
#
# - Train with `first_reward.py:first_reward`, and find out how the model exploits it.
# - Reward something else: short answers, a check at the end, your own tags. Audit the reward before you train.
# - Use your reward for a large model: `Recipe.load("gsm8k-llama31-8b", rewards={"my_reward.py:my_reward": 1.0})`, with
#   the other cells of the [main notebook]({COLAB}/colab/grpo_gsm8k.ipynb). Or use it in any TRL script, as
#   `reward_funcs=[my_reward]`.
