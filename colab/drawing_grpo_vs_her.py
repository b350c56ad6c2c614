# The source of drawing_grpo_vs_her.ipynb: `python colab/generate.py` writes that one, in which these lines are left out.
# ruff: noqa: E402, E501

# %% [markdown]
# # Can a model learn to draw what it was never shown? GRPO against hindsight
#
# A small model has been trained to look at an image and to write a short program that draws it. All the images that
# it was trained on were made of one to five objects. Now it gets **one image that needs more**, no example of how
# to do it, and a few minutes. Can it learn this one image, from nothing but its own attempts? That is called learning
# at test time, and there are two ways that have little in common:
#
# - **GRPO** pays each attempt by the share of its pixels that are right. Attempts that were paid more than the mean
#   of their group become likelier, the others less. It learns about the image that was asked for, and only as much
#   as the rewards tell it.
# - **Hindsight** (HER, hindsight experience replay) takes each attempt for what it is: a program that failed to draw
#   this image, and is at the same time a perfect answer for the image that it *did* draw. So it learns from that
#   pair. It needs no reward, and every attempt teaches it something.
# - **Both** does one and the other in every iteration, with the same attempts.
#
# The question and the images come from Guillermo Barbadillo's (ironbar's) notes on the ARC prize of 2025, where GRPO
# got to 12 squares and never to 16, hindsight got to 25, and both together were left as the best guess. There it took
# a model of half a billion parameters and a good graphics card. Here the model is hundreds of times smaller, comes
# along with the package, and **all of it runs on the CPU, in minutes**. Press **Runtime > Run all**, and read.

# %% cellView="form"
# @title Install { display-mode: "form" }
# @markdown Two minutes, once. Where the runtime must restart, this says so and does it by itself: then press **Run all** once more.
# !curl -sSfL --max-time 60 -o install.py {RAW}/colab/install.py
# %run install.py

# %% [markdown]
# ## 1. The images
#
# Each pixel has one of ten colours, and the canvas is black at first. The squares are two by two, nine full lines
# make the first image, and the chick is a real drawing, the hardest of them. The model's language has a statement for
# a line, a rectangle, a square and a pixel, so that `12-squares` takes twelve of them, all right at the same time,
# where it has never written more than five.

# %%
from grpo_colab.tasks.drawing.images import NAMED, load_image
from grpo_colab.tasks.drawing.rendering import picture

picture([load_image(name) for name in NAMED], NAMED)

# %% cellView="form"
# @title 2. What to draw { display-mode: "form" }
# @markdown Any of the images above, or squares in another number; `12-squares` takes some minutes for all three methods.
image = "12-squares"  # @param ["9-vertical-lines", "12-squares", "16-squares", "20-squares", "25-squares", "chick"] {"allow-input": true}
# @markdown One run says little, for luck has a part in it: with three seeds or five, each method is tried as often.
seeds = 1  # @param {"type": "integer"}
# @markdown A method that has not drawn it after so many iterations has failed. Each takes some seconds.
iterations = 60  # @param {"type": "integer"}

# %% [markdown]
# ## 3. Hindsight
#
# In each iteration the model writes some dozens of programs for the image. The drawings that are new are sorted, those that are
# least like the image first, and it learns to write each program for *its own* drawing. Then it tries again. It ends
# with the first drawing that is right in every pixel.
#
# **What to see:** the animation has the best drawing of each iteration on its right. The first have a few large
# blocks where there should be many squares, as in all that the model has been taught. What it then learns from its own
# drawings is how to draw more and smaller things, and within some iterations all are in their places.

# %%
from grpo_colab import draw
from grpo_colab.notebook import animate

her = draw(image, "her", seeds=seeds, budget={"max_steps": iterations})
animate(*her)

# %% [markdown]
# ## 4. GRPO
#
# The same model from its beginning, with about as many attempts in an iteration, and TRL's trainer for GRPO.
#
# **What to see:** the table has the mean reward of each step, which rises slowly, while the drawings creep towards the
# image a square at a time. It may end with one that is nearly right, and stay there: when all attempts draw the
# same, no one is better than the mean, and there is nothing to learn from.

# %%
grpo = draw(image, "grpo", seeds=seeds, budget={"max_steps": iterations})
animate(*grpo)

# %% [markdown]
# ## 5. Both
#
# From the attempts of an iteration it first takes GRPO's step, which is about the real image, and then learns from
# them in hindsight, about those that they drew. So it goes on finding new things to draw, and is drawn to the image.

# %%
both = draw(image, "both", seeds=seeds, budget={"max_steps": iterations})
animate(*both)

# %% [markdown]
# ## 6. Beside each other
#
# The reward of the best attempt of each iteration, and of the worst. Look at the distance between the two: while it is
# wide, the model is still trying different things. Under GRPO all attempts move towards what was paid best so far, so
# that the two can meet; that is fine where the way there is straight, and a dead end where it is not. (Each panel has
# its own number of iterations; where a program cannot be run, its reward is 0.)
#
# The table counts what it took. `samples` is the fair measure, the number of programs that were tried; with several
# seeds you see the median, and in brackets the least and the most.

# %%
from grpo_colab.notebook import compare

compare(hindsight=her, grpo=grpo, both=both)

# %% [markdown]
# ## 7. Draw your own
#
# Change the digits, each of which is a colour, and run the cell: it shows your image. Three to ten rows and columns
# are what this model knows, and all rows must have the same length. Then run the cell below it.

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
# @markdown A minute or a few, by a method of your choice:
method = "both"  # @param ["her", "grpo", "both"]
tries = 1  # @param {"type": "integer"}
mine = draw(rows, method, seeds=tries, budget={"max_steps": iterations})
animate(*mine)

# %% [markdown]
# **Did it get there?** An image with few objects should be drawn in a handful of iterations; large areas of one colour
# are cheap, single pixels are dear. Where it fails, look at what it gets right: that is what its language makes easy.
#
# ## 8. The same with a real model
#
# On a GPU the recipe `drawing-qwen25-coder-0.5b` repeats the study: Qwen2.5-Coder-0.5B writes Python, is first trained
# on random drawings of up to five objects, and then learns your image by any of the three methods. The first part
# takes hours on a small card, is done once, and is kept under `runs/`; a run that was cut goes on where it was. The
# programs that it writes run in a sandbox, an interpreter that has no files, no network and little time. On the CPU
# this cell does nothing.

# %%
from grpo_colab.notebook import draw_on_gpu

real = draw_on_gpu(image, "both")
animate(*real)

# %% [markdown]
# ## Your turn
#
# - Set the image to `16-squares`, which the study's GRPO never drew, with three seeds and 150 iterations. Which method
#   draws it, and how often?
# - Hindsight needs no reward. Then why does **both** use one? Compare their `samples` on `25-squares`.
# - The command line does the same: `grpo-colab draw 12-squares --method both --seeds 5`. Every run leaves a folder
#   under `runs/` with all that was drawn, the curves and a report.
# - Rewards of your own for other tasks are in the [reward workshop]({COLAB}/colab/reward_workshop.ipynb); a large model
#   on word problems in the [main notebook]({COLAB}/colab/grpo_gsm8k.ipynb).
