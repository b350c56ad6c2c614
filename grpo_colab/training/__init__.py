"""Train a recipe: the order of a run, the two learners, the trainer, and what watches over them."""
