"""Write what a checkpoint answers to chat prompts, and its logits at every position: transformers in float32.

    logits_reference.py CHECKPOINT TOKENS.npy LOGITS.npy [PROMPTS.json ANSWERS.json NEW]

TOKENS is [windows, length]; LOGITS becomes float32 [windows, length, vocab].  With PROMPTS, a list of questions, each
is answered first: greedily, by at most NEW tokens, in the checkpoint's own chat template.  ANSWERS becomes [[ids of the
prompt], [ids of the answer]] of each.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

checkpoint, tokens, out, *chat = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
with torch.inference_mode():
    if chat:
        tokenizer, answers = AutoTokenizer.from_pretrained(checkpoint), []
        for question in json.loads(Path(chat[0]).read_text()):
            said = [{"role": "user", "content": question}]
            ids = tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=False)
            made = model.generate(torch.tensor([ids]), max_new_tokens=int(chat[2]), do_sample=False)
            answers.append([ids, made[0, len(ids) :].tolist()])
        Path(chat[1]).write_text(json.dumps(answers))
    else:
        windows = np.load(tokens).astype(np.int64)
        made = np.lib.format.open_memmap(out, "w+", np.float32, (*windows.shape, model.config.vocab_size))
        for number, ids in enumerate(windows):
            made[number] = model(torch.from_numpy(ids)[None]).logits[0].float().numpy()
