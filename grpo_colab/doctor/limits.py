"""The time limits of the doctor's checks, in seconds."""

ANSWER_S = 5.0  # for an answer from the network or another process
LIMIT_S = 20.0  # for a whole check, including what it imports
TEMPLATE_S = 60.0  # for the reading of a tokenizer, which imports transformers
VLLM_S = 90.0  # for the import of vLLM, which reads gigabytes
