"""Writes a language model of one small layer with random weights: what it says is nonsense, and how the server counts is the same."""

import sys

import gguf
import numpy

WIDTH, HIDDEN, CONTEXT = 32, 64, 1 << 18
tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + [gguf.TokenType.BYTE] * 256

model = gguf.GGUFWriter(sys.argv[1], "llama")
model.add_context_length(CONTEXT)
model.add_embedding_length(WIDTH)
model.add_block_count(1)
model.add_feed_forward_length(HIDDEN)
model.add_head_count(1)
model.add_head_count_kv(1)
model.add_layer_norm_rms_eps(1e-5)
model.add_rope_dimension_count(WIDTH)
model.add_vocab_size(len(tokens))
model.add_tokenizer_model("llama")
model.add_token_list(tokens)
model.add_token_scores([0.0] * len(tokens))
model.add_token_types(kinds)
model.add_bos_token_id(1)
model.add_eos_token_id(2)

random = numpy.random.default_rng(1)
shapes = {
    "token_embd": (len(tokens), WIDTH), "output_norm": (WIDTH,), "output": (len(tokens), WIDTH),
    "blk.0.attn_norm": (WIDTH,), "blk.0.attn_q": (WIDTH, WIDTH), "blk.0.attn_k": (WIDTH, WIDTH), "blk.0.attn_v": (WIDTH, WIDTH),
    "blk.0.attn_output": (WIDTH, WIDTH), "blk.0.ffn_norm": (WIDTH,), "blk.0.ffn_gate": (HIDDEN, WIDTH),
    "blk.0.ffn_up": (HIDDEN, WIDTH), "blk.0.ffn_down": (WIDTH, HIDDEN),
}
for name, shape in shapes.items():
    weights = random.standard_normal(shape, dtype=numpy.float32)
    if name == "output":  # letters only: the server refuses to answer with bytes that are no text
        weights[: 3 + ord("a")] = weights[3 + ord("z") + 1 :] = 0
    model.add_tensor(name + ".weight", weights)
model.write_header_to_file()
model.write_kv_data_to_file()
model.write_tensors_to_file()
model.close()
