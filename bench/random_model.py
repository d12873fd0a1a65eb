#!/usr/bin/python3
"""A Hugging Face folder of random bf16 weights, to measure importing: random_model.py FOLDER

The shape of Llama 3.2 1B: hidden 2048, 16 layers, FFN 8192, 32 heads, 8 KV heads, vocabulary
128,256, tied; 2.5 GB. Normal, standard deviation 0.02. Needs numpy."""
import json
import os
import struct
import sys

import numpy as np

HIDDEN, LAYERS, FFN, HEADS, KV_HEADS, VOCAB = 2048, 16, 8192, 32, 8, 128256
CONFIG = {
    'architectures': ['LlamaForCausalLM'], 'model_type': 'llama', 'hidden_size': HIDDEN,
    'intermediate_size': FFN, 'num_hidden_layers': LAYERS, 'num_attention_heads': HEADS,
    'num_key_value_heads': KV_HEADS, 'head_dim': HIDDEN // HEADS, 'vocab_size': VOCAB,
    'max_position_embeddings': 131072, 'rms_norm_eps': 1e-5, 'rope_theta': 500000.0,
    'rope_scaling': {'factor': 32.0, 'high_freq_factor': 4.0, 'low_freq_factor': 1.0,
                     'original_max_position_embeddings': 8192, 'rope_type': 'llama3'},
    'tie_word_embeddings': True, 'hidden_act': 'silu', 'attention_bias': False, 'mlp_bias': False,
    'bos_token_id': 128000, 'eos_token_id': 128001, 'torch_dtype': 'bfloat16'}


def shapes():
    kv = KV_HEADS * HIDDEN // HEADS
    out = {'model.embed_tokens.weight': (VOCAB, HIDDEN), 'model.norm.weight': (HIDDEN,)}
    for layer in range(LAYERS):
        p = 'model.layers.%d.' % layer
        out[p + 'input_layernorm.weight'] = out[p + 'post_attention_layernorm.weight'] = (HIDDEN,)
        for name, rows in (('q', HIDDEN), ('k', kv), ('v', kv), ('o', HIDDEN)):
            out[p + 'self_attn.%s_proj.weight' % name] = (rows, HIDDEN)
        out[p + 'mlp.gate_proj.weight'] = out[p + 'mlp.up_proj.weight'] = (FFN, HIDDEN)
        out[p + 'mlp.down_proj.weight'] = (HIDDEN, FFN)
    return out


def main(folder):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, 'config.json'), 'w') as f:
        json.dump(CONFIG, f, indent=1)
    header, end = {}, 0
    for name, shape in shapes().items():
        size = 2 * int(np.prod(shape))
        header[name] = {'dtype': 'BF16', 'shape': shape, 'data_offsets': [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    rng = np.random.default_rng(1)
    with open(os.path.join(folder, 'model.safetensors'), 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text)
        for shape in shapes().values():
            left = int(np.prod(shape))
            while left > 0:
                x = rng.standard_normal(min(left, 1 << 22), dtype=np.float32) * np.float32(0.02)
                x = x if len(shape) == 2 else np.ones_like(x)
                f.write((x.view(np.uint32) >> 16).astype('<u2').tobytes())
                left -= len(x)


if __name__ == '__main__':
    main(sys.argv[1])
