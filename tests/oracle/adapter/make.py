"""Random models whose tokens are single characters, and PEFT adapters over them.

    make.py FOLDER      FOLDER/{llama,qwen3} (models), FOLDER/{llama,qwen3}-{plain,patterns} (adapters)
                        and, where ../shared/models has a trained model, FOLDER/trained-plain
"""
import json
import math
import os
import random
import struct
import sys

HIDDEN, FFN, HEADS, KV, DIM, LAYERS = 64, 160, 4, 2, 16, 3
SPACE = "\u2581"


def tokenizer():
    special = ["<unk>", "<s>", "</s>"]
    vocab = {t: i for i, t in enumerate(special + [SPACE] + [chr(c) for c in range(33, 127)])}
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i, t in enumerate(special)]
    return {
        "version": "1.0", "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": SPACE},
            {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
                  "merges": [], "vocab": vocab}}


def shapes(config):
    """(outputs, inputs) of every linear of a layer."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    dim = config.get("head_dim") or hidden // heads
    kv = config.get("num_key_value_heads", heads) * dim
    ffn = config["intermediate_size"]
    return {"self_attn.q_proj": (heads * dim, hidden), "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden), "self_attn.o_proj": (hidden, heads * dim),
            "mlp.gate_proj": (ffn, hidden), "mlp.up_proj": (ffn, hidden),
            "mlp.down_proj": (hidden, ffn)}


def write_safetensors(path, tensors):
    header, body = {"__metadata__": {"format": "pt"}}, []
    at = 0
    for name, (shape, values) in tensors.items():
        data = struct.pack("<%df" % len(values), *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
        body.append(data)
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(body))


def uniform(rng, rows, cols, width):
    return ([rows, cols], [rng.uniform(-width, width) for _ in range(rows * cols)])


def write_model(folder, kind):
    rng = random.Random(kind)
    words = tokenizer()
    vocab = len(words["model"]["vocab"])
    config = {"architectures": [{"llama": "Llama", "qwen3": "Qwen3"}[kind] + "ForCausalLM"],
              "model_type": kind, "vocab_size": vocab, "hidden_size": HIDDEN,
              "intermediate_size": FFN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
              "num_key_value_heads": KV, "head_dim": DIM, "max_position_embeddings": 256,
              "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
              "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2}

    def norm(count):
        return ([count], [1 + rng.uniform(-0.1, 0.1) for _ in range(count)])
    width = math.sqrt(3 / HIDDEN)
    tensors = {"model.embed_tokens.weight": uniform(rng, vocab, HIDDEN, width),
               "lm_head.weight": uniform(rng, vocab, HIDDEN, 4 * width),
               "model.norm.weight": norm(HIDDEN)}
    for i in range(LAYERS):
        p = "model.layers.%d." % i
        tensors[p + "input_layernorm.weight"] = norm(HIDDEN)
        tensors[p + "post_attention_layernorm.weight"] = norm(HIDDEN)
        for name, (rows, cols) in shapes(config).items():
            tensors[p + name + ".weight"] = uniform(rng, rows, cols, math.sqrt(3 / cols))
        if kind == "qwen3":
            tensors[p + "self_attn.q_norm.weight"] = norm(DIM)
            tensors[p + "self_attn.k_norm.weight"] = norm(DIM)
    os.makedirs(folder)
    write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
    for name, value in (("config.json", config), ("tokenizer.json", words)):
        with open(os.path.join(folder, name), "w") as f:
            json.dump(value, f)
    return config


def write_adapter(folder, config, name, patterns, head, strength):
    """`patterns`: rsLoRA, another rank and other alphas for some modules."""
    rng = random.Random(name + str(patterns))
    rank, special = 4, {"layers.1.self_attn.q_proj": 7, "gate_proj": 2} if patterns else {}
    tensors = {}

    def add(module, outputs, inputs):
        r = next((v for k, v in special.items() if module.endswith("." + k)), rank)
        p = "base_model.model." + module
        tensors[p + ".lora_A.weight"] = uniform(rng, r, inputs, strength * math.sqrt(3 / inputs))
        tensors[p + ".lora_B.weight"] = uniform(rng, outputs, r, strength)
    for i in range(config["num_hidden_layers"]):
        for module, (outputs, inputs) in shapes(config).items():
            add("model.layers.%d.%s" % (i, module), outputs, inputs)
    targets = [m.split(".")[1] for m in shapes(config)]
    if head:
        add("lm_head", config["vocab_size"], config["hidden_size"])
        targets.append("lm_head")
    os.makedirs(folder)
    write_safetensors(os.path.join(folder, "adapter_model.safetensors"), tensors)
    with open(os.path.join(folder, "adapter_config.json"), "w") as f:
        json.dump({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 6,
                   "target_modules": targets, "base_model_name_or_path": name, "bias": "none",
                   "lora_dropout": 0.0, "use_rslora": patterns, "rank_pattern": special,
                   "alpha_pattern": {"down_proj": 3, "layers.0.self_attn.v_proj": 9.5}
                   if patterns else {}}, f)


def main():
    folder = sys.argv[1]
    for kind in ("llama", "qwen3"):
        config = write_model(os.path.join(folder, kind), kind)
        for patterns in (False, True):
            write_adapter(os.path.join(folder, kind + ("-patterns" if patterns else "-plain")),
                          config, kind, patterns, not patterns, 0.8)
    trained = os.path.join(os.environ["OL_ROOT"], "..", "shared", "models", "tinystories-656k")
    if os.path.exists(os.path.join(trained, "config.json")):
        with open(os.path.join(trained, "config.json")) as f:
            config = json.load(f)
        write_adapter(os.path.join(folder, "trained-plain"), config, "trained", False, False, 0.25)


main()
