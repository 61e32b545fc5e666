"""GGUF files: their tokenizers as the files that a checkpoint brings."""

ZOO_API = 1
