# The source of grpo_gsm8k.ipynb: `python colab/generate.py` writes that one, in which these lines are left out.
# ruff: noqa: E402, E501

# %% [markdown]
# # Teach a language model to reason, in one click
#
# Press **Runtime > Run all**. At the end you have a small adapter that makes a model better at word problems, its
# accuracy before and after with intervals, and a report. Nothing asks you anything on the way, unless you tick *drive*:
# then Colab asks once whether it may.
#
# - **With a GPU** (Runtime > Change runtime type: T4, L4 or A100) it trains Llama-3.1-8B on GSM8K in 4 bits, with
#   Unsloth and TRL: about five hours on a T4.
# - **Without one** it does the same job for real on a small model that comes along: about three minutes.
# - **If Colab disconnects**, run all again: it goes on where it was, and repeats nothing that is done. Tick *drive*
#   in the form, so that this holds on a fresh machine too.
#
# Keys are read from Colab's secrets (the key on the left), if you have any: `HF_TOKEN`, `WANDB_API_KEY`. None is
# needed. The code and its documentation: {REPOSITORY}

# %% cellView="form"
# @title 1. Install { display-mode: "form" }
# @markdown Two to five minutes, once; Colab's own PyTorch stays. Where the runtime must restart, this says so and does it by itself: then press **Run all** once more.
# !curl -sSfL --max-time 60 -o install.py {RAW}/colab/install.py
# %run install.py

# %% cellView="form"
# @title 2. What to train { display-mode: "form" }
# @markdown A few seconds: your wishes become a recipe. `auto` takes the one that suits this machine.
recipe = "auto"  # @param ["auto", "gsm8k-llama31-8b", "gsm8k-llama31-8b-study", "gsm8k-qwen25-1.5b", "gsm8k-tiny", "one-example-qwen25-math-1.5b", "rockets-qwen25-7b", "word-problems-tiny"] {"allow-input": true}
steps = ""  # @param {"type": "string", "placeholder": "the recipe's own, 60 to 250"}
# @markdown The hours that you have. It stops in time to evaluate and save, and Run all goes on another day:
hours = ""  # @param {"type": "string", "placeholder": "no limit"}
# @markdown Follow it on Weights & Biases; without a key it is kept here, to be sent later:
wandb = False  # @param {"type": "boolean"}
# @markdown Copy everything to your Drive every few minutes; Colab asks you whether it may:
drive = False  # @param {"type": "boolean"}
# @markdown Push the adapter to this Hugging Face repository, which is made, and private, where it is missing:
hub = ""  # @param {"type": "string", "placeholder": "user/repository"}
from grpo_colab.notebook import settings

chosen = settings(recipe, steps, hours, wandb, drive, hub)

# %% cellView="form"
# @title 3. Will it work, and will it fit? { display-mode: "form" }
# @markdown Half a minute, and before anything large is downloaded: this machine, your keys, and the memory and the hours that it will take.
from grpo_colab.notebook import check

check(chosen)

# %% cellView="form"
# @title 4. Train { display-mode: "form" }
# @markdown Three minutes on the CPU, about five hours on a T4: asks held-out problems, trains, and asks them again.
from grpo_colab.notebook import trained

run = trained(chosen)

# %% cellView="form"
# @title 5. What it has learnt { display-mode: "form" }
# @markdown At once: the accuracy before and after, the curves, and the answers that changed, to click on and read.
from grpo_colab.notebook import show

show(run)

# %% cellView="form"
# @title 6. Ask it yourself { display-mode: "form" }
# @markdown Seconds on the CPU, a minute or two on a GPU: what the model answers without your adapter, and with it.
question = "Lena has 12 shells. She finds 9 more shells at home. Then she gives 5 of them to Omar. How many shells does Lena have now?"  # @param {"type": "string"}
from grpo_colab.notebook import ask

ask(run, question)

# %% cellView="form"
# @title 7. Take it home { display-mode: "form" }
# @markdown A minute: the adapter and its report go to your browser as a zip, and to the repository that you named above.
download = True  # @param {"type": "boolean"}
from grpo_colab.notebook import take_home

take_home(run, hub, download)

# %% [markdown]
# **What you have now.** `PeftModel.from_pretrained(base_model, "the unzipped folder")` puts the adapter on the base
# model. The folder `runs/` (under Files, on the left) has all the rest: each step's numbers, everything that the
# model wrote in training with what it was paid for it, and the recipe, which repeats the run. To teach a reward of
# your own, go on with the [reward workshop]({COLAB}/colab/reward_workshop.ipynb).
