"""Writes what a server of language models wants to know of one of a single small layer; its weights the server makes up."""

import json
import pathlib
import sys

WORDS = 256
to = pathlib.Path(sys.argv[1])
to.mkdir()
for name, text in {
    "config.json": {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32", "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "hidden_size": 64, "head_dim": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1,
        "max_position_embeddings": 1 << 17, "vocab_size": WORDS, "bos_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": False,
    },
    "tokenizer.json": {
        "version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": {f"w{n}": n for n in range(WORDS)}, "unk_token": "w2"},
    },
    "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "w0", "eos_token": "w1", "unk_token": "w2"},
}.items():
    (to / name).write_text(json.dumps(text))
