"""The small models that the CPU presets train, and the code that makes them: `python -m grpo_colab.tiny --help`.

corpus, tokenizer, pretrain    the word problem model: its text, its tokens, its training
drawings                       the drawing model
descent                        the training loop that both share
measure, card                  what they can do before GRPO, and their cards
"""
