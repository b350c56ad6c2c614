# The source of drawing_grpo_vs_her.ipynb: `python colab/generate.py` writes it, without these two lines.
# ruff: noqa: E402, E501

# %% [markdown]
# # Can a model learn to draw what it was never shown? GRPO against hindsight
#
# A small model has been trained to look at an image and to write a short program that draws it. All the images that
# it was trained on consist of one to five objects. Now it gets **one image that needs more**, no example of how to draw
# it, and a few minutes. Can it learn this one image from nothing but its own attempts? That is called learning at test
# time. Two methods, which have little in common, can do it:
#
# - **GRPO** rewards each attempt with its share of right pixels. Attempts with a reward above the mean of their group
#   become more likely, the others less likely. The model learns about the image that was asked for, and only what the
#   rewards tell it.
# - **Hindsight** (HER, hindsight experience replay) uses a different fact: a program that fails to draw this image is a
#   perfect answer for the image that it *did* draw. The model learns from that pair. This needs no reward, and every
#   attempt teaches it something.
# - **Both** applies the two methods in every iteration, to the same attempts.
#
# The question and the images come from Guillermo Barbadillo's (ironbar's) notes on the ARC prize of 2025. There GRPO
# drew 12 squares and never 16, hindsight drew 25, and the combination was left as the best guess. That took a model of
# half a billion parameters and a good graphics card. The model here is hundreds of times smaller, comes with the
# package, and **runs on the CPU in minutes**. Press **Runtime > Run all**, and read along.

# %% cellView="form"
# @title Install { display-mode: "form" }
# @markdown Two minutes, once. If the runtime must restart, it says so and restarts by itself: then press **Run all** again.
# !curl -sSfL --max-time 60 -o install.py {RAW}/colab/install.py
# %run install.py

# %% [markdown]
# ## 1. The images
#
# Each pixel has one of ten colours, and the canvas is black at first. The first image has nine full lines. The squares
# are two pixels wide and high. The chick is a real drawing, and the hardest image. The model's language has a statement
# each for a line, a rectangle, a square and a pixel. `12-squares` takes twelve statements, all of them right at the
# same time, and the model has never written more than five.

# %%
from grpo_colab.tasks.drawing.images import NAMED, load_image
from grpo_colab.tasks.drawing.rendering import picture

picture([load_image(name) for name in NAMED], NAMED)

# %% cellView="form"
# @title 2. What to draw { display-mode: "form" }
# @markdown Any of the images above, or another number of squares. `12-squares` takes some minutes for all three methods.
image = "12-squares"  # @param ["9-vertical-lines", "12-squares", "16-squares", "20-squares", "25-squares", "chick"] {"allow-input": true}
# @markdown How often each method is tried. One run says little, because luck plays a part; three or five say more.
seeds = 1  # @param {"type": "integer"}
# @markdown A method that has not drawn the image after this many iterations has failed. Each iteration takes some seconds.
iterations = 60  # @param {"type": "integer"}

# %% [markdown]
# ## 3. Hindsight
#
# In each iteration the model writes some dozens of programs for the image. The new drawings are sorted, those that are
# least like the image first, and the model learns to write each program for *its own* drawing. So it does with programs
# that nobody wrote: those of its nearest drawings, with a statement or two put in or left out at random. Then it tries
# again. The run ends when the model draws every pixel right.
#
# **What to look for:** the animation shows the best drawing of each iteration on the right. The first drawings have a
# few large blocks instead of many squares, like everything that the model was trained on. From its own drawings it
# learns to draw more and smaller things, and after some iterations every square is in its place.

# %%
from grpo_colab import draw
from grpo_colab.notebook import animate

her = draw(image, "her", seeds=seeds, budget={"max_steps": iterations})
animate(*her)

# %% [markdown]
# ## 4. GRPO
#
# The same model, which has not seen the image yet, with about as many attempts per iteration, and TRL's GRPO trainer.
#
# **What to look for:** the mean reward of each step, in the table, rises slowly, and the drawings approach the image one
# square at a time. The run may get stuck at a drawing that is nearly right: when all attempts draw the same, none is
# better than the mean, and there is nothing to learn.

# %%
grpo = draw(image, "grpo", seeds=seeds, budget={"max_steps": iterations})
animate(*grpo)

# %% [markdown]
# ## 5. Both
#
# Each iteration first takes a GRPO step with its attempts, towards the image that was asked for, and then a hindsight
# step with the same attempts. So the model keeps finding new things to draw, and GRPO pulls it towards the image.

# %%
both = draw(image, "both", seeds=seeds, budget={"max_steps": iterations})
animate(*both)

# %% [markdown]
# ## 6. The methods compared
#
# The curves show the best and the worst reward of each iteration. Look at the distance between them: while it is large,
# the model is still trying different things. Under GRPO all attempts move towards the best one so far, so the two curves
# can meet. That is fine if this direction leads to the image, and a dead end if it does not. (Each panel has its own
# number of iterations. A program that cannot be run has reward 0.)
#
# The table shows the cost. The fair measure is `samples`, the number of programs that were tried. For several seeds you
# see the median, and in brackets the least and the most.

# %%
from grpo_colab.notebook import compare

compare(hindsight=her, grpo=grpo, both=both)

# %% [markdown]
# ## 7. Draw your own
#
# Change the digits, each of which is a colour, and run the cell: it shows your image. This model knows images of three
# to ten rows and columns, and all rows must have the same length. Then run the cell below.

# %%
rows = """
02200220
22222222
26622222
22222222
02222220
00222200
00022000
"""
picture([load_image(rows), (tuple(range(10)),)], ["yours", "the colours 0 to 9"])

# %% cellView="form"
# @title Learn to draw it { display-mode: "form" }
# @markdown A few minutes, by a method of your choice:
method = "both"  # @param ["her", "grpo", "both"]
tries = 1  # @param {"type": "integer"}
mine = draw(rows, method, seeds=tries, budget={"max_steps": iterations})
animate(*mine)

# %% [markdown]
# **Did it succeed?** An image with few objects should take a handful of iterations. Large areas of one colour take one
# statement, single pixels one statement each. If it fails, look at what it gets right: that is what its language makes
# easy.
#
# ## 8. The same with a real model
#
# On a GPU the recipe `drawing-qwen25-coder-0.5b` repeats the study. Qwen2.5-Coder-0.5B writes Python. It is first trained
# on random drawings of up to five objects, and then learns your image by any of the three methods. The first part takes
# hours on a small card. It is done once and kept under `runs/`, and a run that was interrupted continues where it was.
# The programs that the model writes run in a sandbox: an interpreter without files and network, and with little time.
# On the CPU this cell does nothing.

# %%
from grpo_colab.notebook import draw_on_gpu

real = draw_on_gpu(image, "both")
animate(*real)

# %% [markdown]
# ## Your turn
#
# - Set the image to `16-squares`, which GRPO never drew in the study, with three seeds and 150 iterations. Which method
#   draws it, and how often?
# - Hindsight needs no reward. So why does **both** use one? Compare their `samples` on `25-squares`.
# - Take the random changes away, with `hindsight={"variations": 0}` in `draw`. How many samples do `20-squares` take then?
# - The command line does the same: `grpo-colab draw 12-squares --method both --seeds 5`. Every run has a folder under
#   `runs/` with all drawings, the curves and a report.
# - Write a reward for another task in the [reward workshop]({COLAB}/colab/reward_workshop.ipynb), or train a large model
#   on word problems in the [main notebook]({COLAB}/colab/grpo_gsm8k.ipynb).
