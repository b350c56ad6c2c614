# The source of reward_workshop.ipynb: `python colab/generate.py` writes that one, in which these lines are left out.
# ruff: noqa: E402, E501, B905

# %% [markdown]
# # The reward workshop
#
# A model that learns by reinforcement learns what you **pay** for, which is not always what you meant. Here you write
# a reward, let an adversary look for its holes, mend it, see what it pays for real completions, and train a model
# with it. All of it on the CPU and in about five minutes, with a small model that comes along. Press **Runtime > Run
# all**, and read.

# %% cellView="form"
# @title Install { display-mode: "form" }
# @markdown Two minutes, once. Where the runtime must restart, this says so and does it by itself: then press **Run all** once more.
# !curl -sSfL --max-time 60 -o install.py {RAW}/colab/install.py
# %run install.py

# %% [markdown]
# ## 1. Read what the model writes
#
# Never write a reward before you have read some completions. This model solves word problems of one to three steps;
# it is to think in `<reasoning>` and to answer in `<answer>`. Here it is asked 64 of them, in about twenty seconds,
# and you see the first four.

# %%
from grpo_colab.notebook import samples

samples("word-problems-tiny", n=64, shown=4, out="samples.jsonl")

# %% [markdown]
# It knows the form, and which numbers to use. Its bad habit is to put the whole calculation into one line, as in `((7
# + 13) - 6) + 15 =`, which is more than it can do in its head. A step at a time it would get it right, and now and
# then, when it samples, that is how it writes. **This is all that GRPO needs:** something good that happens
# sometimes, and a reward that notices.
#
# ## 2. A first reward
#
# A reward is a function. It gets the completions of a batch, and every column of the data set that it names (here
# `answer`, the right one), and returns one number for each completion. This one looks harmless: the right number must
# stand in the text.


# %%
# %%writefile first_reward.py
def first_reward(completions, answer, **kwargs):
    texts = [completion[0]["content"] for completion in completions]
    return [1.0 if gold in text else 0.0 for text, gold in zip(texts, answer)]


# %% [markdown]
# ## 3. What could a model exploit in it?
#
# Thousands of samples will try every way to be paid, so try them first. The audit is the adversary: completions that
# say nothing true or try to cheat, and right answers in the ways in which people write them. It takes a second; here
# is the beginning of what it finds.

# %%
# !grpo-colab audit first_reward.py:first_reward | head -25

# %% [markdown]
# `pays, and should not` is the list to read. Echo the question, leave the answer empty, answer 17 after some
# reasoning that ends in 18: each is paid in full, and there are more than a hundred. A model that is trained with this
# reward need not answer at all, and sooner or later it finds that out. `does not pay, and should` shows the other
# side: it refuses `1450` where the data set says `1,450`.
#
# ## 4. Mend it
#
# Grade the one number in the one answer block, with a parser that knows how people write numbers. To that comes a
# wish of our own: 0.1 more for each of the first two equations, for we want it to work in steps. That is paid **only
# on top of a right answer**: what can be had without being right is what will be learnt.

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
# The audit again. `--kind scaled` says that right answers may be paid differently, as ours are; the last line should
# be `ok`.

# %%
# !grpo-colab audit my_reward.py:my_reward --kind scaled

# %% [markdown]
# ## 5. What does it pay for real completions?
#
# The 64 from above, scored by both rewards and by `correctness`, which is the package's own. Where two of them
# disagree, read those lines of `samples.jsonl`: one of the two rewards is wrong there. It takes a second, and no
# model.

# %%
# !grpo-colab score samples.jsonl --rewards correctness,first_reward.py:first_reward,my_reward.py:my_reward

# %% [markdown]
# Two things to look at. `my_reward` should never pay where `correctness` does not. And its `std` must not be 0: GRPO
# compares the answers to one problem with each other, so a reward that pays all of them the same teaches nothing.
#
# ## 6. Train with it
#
# Twenty steps, in about a minute. In each, the model writes eight answers to each of four problems; those that were
# paid more than the mean of their eight become likelier, the others less. Before and after it is asked 128 problems
# that it never trains on, and there the right answers are counted, **whatever your reward pays**, so that a reward
# cannot praise itself.

# %%
from grpo_colab import Recipe, train

recipe = Recipe.load(
    "word-problems-tiny",
    rewards={"my_reward.py:my_reward": 1.0, "correctness": False, "integer": False},  # beside those for the form
    grpo={"learning_rate": 1e-3},
    budget={"max_steps": 20, "prompts_per_step": 4},
    evaluation={"n": 128},
)
run = train(recipe, resume=False)  # a new run, whatever was trained before

# %% [markdown]
# ## 7. What has it learnt?
#
# The reward should rise, and the accuracy with it. Open one of the answers that changed: the long line has become
# short ones. **If ever your reward rises and the accuracy does not, the model has found a hole:** the last
# completions in the report show which.

# %%
from grpo_colab.notebook import show

show(run)

# %% [markdown]
# ## Your turn
#
# - Train with `first_reward.py:first_reward`, and find out what the model makes of it.
# - Pay for something else: short answers, a check at the end, your own tags. Audit it before you train.
# - Take it to a large model: `Recipe.load("gsm8k-llama31-8b", rewards={"my_reward.py:my_reward": 1.0})`, with the
#   rest of the [main notebook]({COLAB}/colab/grpo_gsm8k.ipynb); or to any TRL script, as `reward_funcs=[my_reward]`.
