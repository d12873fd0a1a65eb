"""A Llama of random weights small enough for tests, with a tokenizer of bytes and a chat template."""
import json
import os
import random
import struct


def byte_characters():
    """GPT-2's printable stand-ins for bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {}, 0
    for byte in range(256):
        if byte in plain:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(256 + extra)
            extra += 1
    return table


CHAT = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


def write_model(folder):
    """A Llama of 2 layers over 300 tokens: bytes, a few merges, three special tokens."""
    table = byte_characters()
    vocab = {table[b]: b for b in range(256)}
    merges = [("t", "h"), ("th", "e"), ("\u0120", "the"), ("a", "n"), ("\u0120", "a")]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    added = [{"id": 261 + i, "content": s, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i, s in enumerate(special)]
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                          "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "vocab": vocab,
                  "merges": ["%s %s" % m for m in merges]},
    }
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 300,
              "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
              "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
              "hidden_act": "silu", "bos_token_id": 261, "eos_token_id": 263}
    rng = random.Random(7)
    tensors = {"model.embed_tokens.weight": (300, 48), "model.norm.weight": (48,)}
    for i in range(2):
        p = "model.layers.%d." % i
        tensors.update({p + "input_layernorm.weight": (48,),
                        p + "post_attention_layernorm.weight": (48,),
                        p + "self_attn.q_proj.weight": (48, 48),
                        p + "self_attn.k_proj.weight": (24, 48),
                        p + "self_attn.v_proj.weight": (24, 48),
                        p + "self_attn.o_proj.weight": (48, 48),
                        p + "mlp.gate_proj.weight": (80, 48),
                        p + "mlp.up_proj.weight": (80, 48),
                        p + "mlp.down_proj.weight": (48, 80)})
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, shape in sorted(tensors.items()):
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = [1.0 if len(shape) == 1 else rng.gauss(0, 0.25) for _ in range(count)]
        data = struct.pack("<%df" % count, *values)
        header[name] = {"dtype": "F32", "shape": list(shape),
                        "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(folder)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)
    for name, value in (("config.json", config), ("tokenizer.json", tokenizer),
                        ("tokenizer_config.json", {"chat_template": CHAT,
                                                   "bos_token": "<|endoftext|>",
                                                   "eos_token": "<|im_end|>"})):
        with open(os.path.join(folder, name), "w") as f:
            json.dump(value, f)


def write_adapter(folder, rank=4, base="tiny", seed=3):
    """A PEFT folder over q and down of the model above, in f32, by what PEFT's documents say."""
    rng = random.Random(seed)
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for layer in range(2):
        for module, outputs, inputs in (("self_attn.q_proj", 48, 48), ("mlp.down_proj", 48, 80)):
            for side, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
                count = shape[0] * shape[1]
                data = struct.pack("<%df" % count, *(rng.gauss(0, 0.2) for _ in range(count)))
                header["base_model.model.model.layers.%d.%s.lora_%s.weight"
                       % (layer, module, side)] = {
                    "dtype": "F32", "shape": list(shape),
                    "data_offsets": [len(body), len(body) + len(data)]}
                body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(folder)
    with open(os.path.join(folder, "adapter_model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)
    with open(os.path.join(folder, "adapter_config.json"), "w") as f:
        json.dump({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 16,
                   "target_modules": ["q_proj", "down_proj"], "base_model_name_or_path": base,
                   "bias": "none", "lora_dropout": 0.1}, f)
