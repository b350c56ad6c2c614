# The source of grpo_gsm8k.ipynb: `python colab/generate.py` writes it, without these two lines.
# ruff: noqa: E402, E501

# %% [markdown]
# # Teach a language model to reason, in one click
#
# Press **Runtime > Run all**, and once more if the runtime restarts after the installation. At the end you have a small adapter that makes a model better at word problems, its
# accuracy before and after training with confidence intervals, and a report. You are asked nothing on the way, unless
# you tick *drive*: then Colab asks once for access to your Drive.
#
# - **With a GPU** (Runtime > Change runtime type: T4, L4 or A100) this trains Llama-3.1-8B on GSM8K in 4 bits, with
#   Unsloth and TRL. It takes about five hours on a T4.
# - **Without a GPU** it trains a small model that comes with the package. That is real training, too, and takes about
#   three minutes.
# - **If Colab disconnects**, run all cells again: the training continues where it was, and nothing that is done is
#   repeated. To keep your work on a new machine too, tick *drive* in the form.
#
# Keys are read from Colab's secrets (the key symbol on the left) if you have any: `HF_TOKEN`, `WANDB_API_KEY`. You need
# none. The code and its documentation: {REPOSITORY}

# %% cellView="form"
# @title 1. Install { display-mode: "form" }
# @markdown Two to five minutes, once. Colab's own PyTorch is kept. If the runtime must restart, it says so and restarts by itself: then press **Run all** again.
# !curl -sSfL --max-time 60 -o install.py {RAW}/colab/install.py
# %run install.py

# %% cellView="form"
# @title 2. What to train { display-mode: "form" }
# @markdown A few seconds: this form becomes a recipe. `auto` chooses the recipe that suits this machine.
recipe = "auto"  # @param ["auto", "gsm8k-llama31-8b", "gsm8k-llama31-8b-study", "gsm8k-qwen25-0.5b", "gsm8k-qwen25-1.5b", "gsm8k-tiny", "one-example-qwen25-math-1.5b", "rockets-qwen25-7b", "word-problems-tiny"] {"allow-input": true}
steps = ""  # @param {"type": "string", "placeholder": "the recipe's own, 60 to 250"}
# @markdown How many hours you have. The training stops in time to evaluate and save, and Run all continues it another day. `auto` is what a free session on a T4 allows, and no limit on other GPUs:
hours = "auto"  # @param {"type": "string", "placeholder": "no limit"}
# @markdown Log to Weights & Biases. Without a key the log stays on this machine and can be uploaded later:
wandb = False  # @param {"type": "boolean"}
# @markdown Copy the run to your Drive every half hour and at the end. Colab asks for access to it:
drive = False  # @param {"type": "boolean"}
# @markdown Push the adapter to this Hugging Face repository. If it does not exist, a private one is created:
hub = ""  # @param {"type": "string", "placeholder": "user/repository"}
from grpo_colab.notebook import settings

chosen = settings(recipe, steps, hours, wandb, drive, hub)

# %% cellView="form"
# @title 3. Will it work, and will it fit? { display-mode: "form" }
# @markdown Half a minute, before any large download: checks this machine and your keys, and estimates the memory and the hours that the training needs.
from grpo_colab.notebook import check

check(chosen)

# %% cellView="form"
# @title 4. Train { display-mode: "form" }
# @markdown Three minutes on the CPU, about five hours on a T4: evaluates the model on held-out problems, trains it, and evaluates it again.
from grpo_colab.notebook import trained

run = trained(chosen)

# %% cellView="form"
# @title 5. What has it learnt? { display-mode: "form" }
# @markdown A second: the accuracy before and after, the curves, and the answers that changed. Click on one to read it.
from grpo_colab.notebook import show

show(run)

# %% cellView="form"
# @title 6. Ask it yourself { display-mode: "form" }
# @markdown Seconds on the CPU, a minute or two on a GPU: shows the model's answer without your adapter, and with it.
question = "Lena has 12 shells. She finds 9 more shells at home. Then she gives 5 of them to Omar. How many shells does Lena have now?"  # @param {"type": "string"}
from grpo_colab.notebook import ask

ask(run, question)

# %% cellView="form"
# @title 7. Take it home { display-mode: "form" }
# @markdown A minute: your browser downloads the adapter and its report as a zip. If you named a repository above, they are pushed there, too.
download = True  # @param {"type": "boolean"}
from grpo_colab.notebook import take_home

take_home(run, hub, download)

# %% [markdown]
# **What you have now.** `PeftModel.from_pretrained(base_model, "the unzipped folder")` adds the adapter to the base
# model. The folder `runs/` (under Files, on the left) has everything else: the metrics of each step, every completion
# that the model wrote in training with its rewards, and the recipe, with which you can repeat the run. To train with a
# reward of your own, continue with the [reward workshop]({COLAB}/colab/reward_workshop.ipynb).
