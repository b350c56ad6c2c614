"""Load, run, save and check the policy: a causal language model with its tokenizer and its LoRA adapter."""
