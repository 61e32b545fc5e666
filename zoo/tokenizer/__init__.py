"""A checkpoint's tokenizer files, read as transformers reads them: tokenizer, named tokens, templates, end of turn."""
