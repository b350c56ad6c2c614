# The source of your_own_data.ipynb: `python colab/generate.py` writes it, without these two lines.
# ruff: noqa: E402, E501, B905

# %% [markdown]
# # Your own data, from a file to a trained model
#
# You have a table of questions with right answers. In this notebook you look at it as the training sees it, write a
# reward, train a model, and measure what it has learnt on rows that it was not trained on. Press **Runtime > Run all**:
# without a file of yours, a sample of word problems is used, and a small model that comes with the package learns them
# on the CPU in about five minutes.
#
# **For your own rows, choose a GPU** (Runtime > Change runtime type). The small model answers word problems such as the
# sample's, and nothing else; with your rows on a CPU it only shows that everything works. With a GPU the notebook
# trains Llama-3.1-8B, or Qwen2.5-1.5B where the GPU is small, which takes hours.

# %% cellView="form"
# @title Install { display-mode: "form" }
# @markdown Two minutes, once. If the runtime must restart, it says so and restarts by itself: then press **Run all** again.
# !curl -sSfL --max-time 60 -o install.py {RAW}/colab/install.py
# %run install.py

# %% [markdown]
# ## 1. The file
#
# A `.csv`, `.tsv`, `.json`, `.jsonl` or `.parquet` with a row per problem, some hundreds for a start. Tick *upload* to
# choose it on your computer. Or write where it is: its name under Files on the left, a path in your Drive, or a data
# set of the hub, as in `hf://openai/gsm8k/main`. With both left as they are, this is the sample.

# %% cellView="form"
# @title Where the rows are { display-mode: "form" }
from grpo_colab.starter.own_data import own_file

upload = False  # @param {"type": "boolean"}
path = ""  # @param {"type": "string", "placeholder": "the sample"}
path = own_file(path, upload)

# %% [markdown]
# ## 2. What is in it?
#
# Say what a right answer is, and where it stands. Columns of usual names, such as `question` and `answer`, are found by
# themselves. A prompt may be made of several columns, as in `{title}: {text}`. The next cell reads every row, and trains
# nothing.
#
# | kind | a right answer |
# |---|---|
# | `number` | the number, however it is written: `18`, `$18.00`, `18 eggs` |
# | `text` | the same text, such as a name |
# | `choice` | one of *choices*, such as `billing, delivery, account` |
# | `json` | an equal value |
# | `math` | equal mathematics in LaTeX |
# | `code` | a program that passes the tests in the column of the answers |

# %% cellView="form"
# @title What the rows are { display-mode: "form" }
kind = "number"  # @param ["number", "text", "choice", "json", "math", "code"]
prompt = ""  # @param {"type": "string", "placeholder": "a column, or a template; empty: found by its name"}
answer = ""  # @param {"type": "string", "placeholder": "a column; empty: found by its name"}
choices = ""  # @param {"type": "string", "placeholder": "billing, delivery, account"}
held_out = "50"  # @param {"type": "string", "placeholder": "empty where the data have a test split of their own"}
steps = ""  # @param {"type": "string", "placeholder": "the recipe's own, 60 to 250"}
hours = ""  # @param {"type": "string", "placeholder": "no limit"}
from grpo_colab.starter.own_data import own_recipe

recipe = own_recipe(path, kind, prompt, answer, choices, held_out, steps, hours)

# %% [markdown]
# Read the three prompts at the end, as the model gets them. Is everything there that a person would need for the
# answer? Rows that cannot be used are refused with their lines. Rows that are held out measure the accuracy, and of
# fewer than 50 it is a guess.
#
# ## 3. A reward
#
# `correctness` pays for a right answer, and a few rewards pay for the format. What else do you want? Here: short
# answers. It is paid **only for a right answer**; otherwise the shortest way to it would be to write nothing.

# %%
is_right = recipe.own_reward_functions()["correctness"]


def brevity_reward(completions, answer, **kwargs):
    """Pay a right answer 1.0 if it has up to 400 characters, and the less, the longer it is."""
    paid = is_right(completions=completions, answer=answer, **kwargs)
    lengths = [len(completion[0]["content"]) for completion in completions]
    return [right and right * min(1.0, 400 / max(1, length)) for right, length in zip(paid, lengths)]


# %% [markdown]
# What could a model exploit in it? The audit tries completions that cheat, and right answers in all the ways in which
# people write them. The last line should be `ok`.

# %%
from grpo_colab.starter.own_data import look_for_holes

look_for_holes(brevity_reward, recipe)

# %% [markdown]
# ## 4. Train
#
# The model answers the held-out rows, is trained, and answers them again. For the sample this takes about three minutes
# on the CPU. If Colab disconnects, run all cells again: the training continues where it was.

# %%
from grpo_colab.notebook import trained

run = trained(recipe.with_rewards({brevity_reward: 0.5}))

# %% [markdown]
# ## 5. What has it learnt?
#
# The accuracy before and after with its interval, the curve of every reward, and each answer that changed. **If the
# reward rises and the accuracy does not, the model has found a hole:** read the last completions.

# %%
from grpo_colab.notebook import show

show(run)

# %% cellView="form"
# @title Ask it yourself { display-mode: "form" }
# @markdown Without your adapter, and with it:
question = "Lena has 12 shells. She finds 9 more shells at home. Then she gives 5 of them to Omar. How many shells does Lena have now?"  # @param {"type": "string"}
from grpo_colab.notebook import ask

ask(run, question)

# %% cellView="form"
# @title Take it home { display-mode: "form" }
# @markdown Your browser downloads the adapter and the report as a zip. A repository on the Hugging Face hub gets them, too; it needs `HF_TOKEN` in Colab's secrets.
hub = ""  # @param {"type": "string", "placeholder": "user/repository"}
download = True  # @param {"type": "boolean"}
from grpo_colab.notebook import take_home

take_home(run, hub, download)

# %% [markdown]
# ## The same on your own machine
#
# `grpo-colab init my-task --kind choice` writes a folder with a recipe, data, a reward and a test, which trains as it
# is. There is one for every kind of answers.
#
# - Look for more holes in a reward: the [reward workshop]({COLAB}/colab/reward_workshop.ipynb).
# - See your rows as a map: `from grpo_colab.notebook import explore`, and then `explore("dataset", path=path)`.
# - All that the rows may be: [tasks]({REPOSITORY}/blob/main/grpo_colab/tasks/README.md).
