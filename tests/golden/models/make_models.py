#!/usr/bin/env python3
"""Tiny random models of every architecture, with reference logits.

    make_models.py            write each model folder beside this script
    make_models.py --check    recompute and compare with what is there
    make_models.py --reference DIR
                              run the reference on a trained Llama folder that has a reference.json

Needs PyTorch and numpy (Debian: python3-torch), nothing else. The transformer below is written from
the published definitions of the architectures, in plain tensor operations and in no way like the
engine: whole sequences, a dense mask, no cache. It runs in float64 (the reference) and in float32
(to know how large honest rounding is).

A folder holds config.json and model.safetensors as a published model has them, and golden.json:
the token ids and the float64 logits of every position, rounded once to float32 (base64, little
endian, positions x vocabulary). Every feature is switched off once to show that it moves the
logits: a model that cannot tell a feature from its absence proves nothing.
"""
import argparse
import base64
import json
import math
import os
import struct
import sys

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
TOKENS = 41
TOLERANCE = 2e-5  # of max|logit| in a row; what tests/test_logits.c asks of the engine


# ---- The architectures' differences, one function each ------------------------------------------


def rms_norm(x, w, eps, one_plus):
    """x / sqrt(mean(x^2) + eps) * w; Gemma stores w - 1."""
    y = x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)
    return y * (1 + w) if one_plus else y * w


def inverse_frequencies(head_dim, theta):
    return np.array([1.0 / theta ** (2 * i / head_dim) for i in range(head_dim // 2)])


def scale_linear(freqs, scaling):
    return freqs / scaling['factor']


def scale_llama3(freqs, scaling):
    """Llama 3.1: long waves are slowed down by the factor, short ones kept, a ramp in between."""
    out = []
    context = scaling['original_max_position_embeddings']
    low, high = scaling['low_freq_factor'], scaling['high_freq_factor']
    for f in freqs:
        wave = 2 * math.pi / f
        if wave < context / high:
            out.append(f)
        elif wave > context / low:
            out.append(f / scaling['factor'])
        else:
            ramp = (context / wave - low) / (high - low)
            out.append((1 - ramp) * f / scaling['factor'] + ramp * f)
    return np.array(out)


def rope_frequencies(config, windowed):
    """Gemma 3 turns its windowed layers at a local base frequency and does not scale them."""
    theta, scaling = config.get('rope_theta', 10000.0), config.get('rope_scaling')
    if windowed and 'rope_local_base_freq' in config:
        theta, scaling = config['rope_local_base_freq'], None
    freqs = inverse_frequencies(head_dim(config), theta)
    if scaling is None:
        return freqs
    kind = scaling.get('rope_type', scaling.get('type'))
    return {'linear': scale_linear, 'llama3': scale_llama3}[kind](freqs, scaling)


def rope(x, freqs):
    """Rotates the pairs (i, i + half) of each head. x: (positions, heads, head_dim)."""
    angle = np.arange(x.shape[0])[:, None] * freqs[None]
    cos = torch.tensor(np.cos(angle), dtype=x.dtype)[:, None]
    sin = torch.tensor(np.sin(angle), dtype=x.dtype)[:, None]
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def is_gemma(config):
    return config['model_type'].startswith('gemma')


def head_dim(config):
    return config.get('head_dim') or config['hidden_size'] // config['num_attention_heads']


def kv_heads(config):
    return config.get('num_key_value_heads') or config['num_attention_heads']


def layer_window(config, layer):
    """0, or how many positions (its own included) a query of this layer sees."""
    kind = config['model_type']
    window = config.get('sliding_window') or 0
    if kind == 'mistral':
        return window
    if kind == 'gemma2':  # windowed, full, windowed, …
        return window if layer % 2 == 0 else 0
    if kind == 'gemma3_text':  # every pattern-th layer is full
        return window if (layer + 1) % config['sliding_window_pattern'] else 0
    return 0  # Qwen carries a sliding_window with use_sliding_window false


def attention_scale(config):
    return config.get('query_pre_attn_scalar', head_dim(config)) ** -0.5


def embed_scale(config):
    """Gemma: sqrt(hidden), rounded to bfloat16 as in the original, which computes in bfloat16."""
    if not is_gemma(config):
        return 1.0
    return float(torch.tensor(config['hidden_size'] ** 0.5, dtype=torch.float64).to(torch.bfloat16))


def softcap(x, cap):
    return torch.tanh(x / cap) * cap if cap else x


def activation(config, x):
    name = config.get('hidden_activation', config.get('hidden_act'))
    if name == 'silu':
        return x / (1 + torch.exp(-x))
    assert name == 'gelu_pytorch_tanh'
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def attention(config, t, layer, x):
    n, d = x.shape[0], head_dim(config)
    heads, kv = config['num_attention_heads'], kv_heads(config)

    def project(which, count):
        y = x @ t[which + '_proj.weight'].T
        if which + '_proj.bias' in t:
            y = y + t[which + '_proj.bias']
        return y.reshape(n, count, d)

    q, k, v = project('q', heads), project('k', kv), project('v', kv)
    if 'q_norm.weight' in t:
        q = rms_norm(q, t['q_norm.weight'], config['rms_norm_eps'], is_gemma(config))
        k = rms_norm(k, t['k_norm.weight'], config['rms_norm_eps'], is_gemma(config))
    window = layer_window(config, layer)
    freqs = rope_frequencies(config, window > 0)
    q, k = rope(q, freqs), rope(k, freqs)
    k, v = (y.repeat_interleave(heads // kv, dim=1) for y in (k, v))
    s = torch.einsum('qhd,khd->hqk', q, k) * attention_scale(config)
    s = softcap(s, config.get('attn_logit_softcapping'))
    age = torch.arange(n)[:, None] - torch.arange(n)[None]
    hidden = (age < 0) | (age >= window) if window else age < 0
    p = torch.softmax(s.masked_fill(hidden, -math.inf), -1)
    return torch.einsum('hqk,khd->qhd', p, v).reshape(n, heads * d) @ t['o_proj.weight'].T


def feed_forward(config, t, x):
    gate, up = x @ t['gate_proj.weight'].T, x @ t['up_proj.weight'].T
    return (activation(config, gate) * up) @ t['down_proj.weight'].T


def forward(config, t, tokens):
    """Logits of every position; t holds a tensor for each weight name. Differentiable in each."""
    eps, gemma = config['rms_norm_eps'], is_gemma(config)

    def norm(x, name):
        return rms_norm(x, t[name + '.weight'], eps, gemma)

    embed = t.get('model.embed_tokens.weight', t.get('lm_head.weight'))
    x = embed[torch.tensor(tokens)] * embed_scale(config)
    for layer in range(config['num_hidden_layers']):
        prefix = 'model.layers.%d.' % layer

        def part(name):
            start = prefix + name + '.'
            return {k[len(start):]: v for k, v in t.items() if k.startswith(start)}

        y = attention(config, part('self_attn'), layer, norm(x, prefix + 'input_layernorm'))
        if gemma:  # norms around both sides of each half
            x = x + norm(y, prefix + 'post_attention_layernorm')
            y = norm(x, prefix + 'pre_feedforward_layernorm')
            y = feed_forward(config, part('mlp'), y)
            x = x + norm(y, prefix + 'post_feedforward_layernorm')
        else:
            x = x + y
            x = x + feed_forward(config, part('mlp'), norm(x, prefix + 'post_attention_layernorm'))
    y = norm(x, 'model.norm') @ t.get('lm_head.weight', embed).T
    return softcap(y, config.get('final_logit_softcapping'))


def logits(config, tensors, tokens, dtype):
    return forward(config, {k: torch.tensor(v).to(dtype) for k, v in tensors.items()}, tokens)


# ---- The models -----------------------------------------------------------------------------------


def base_config(model_type, **keys):
    names = {'llama': 'LlamaForCausalLM', 'mistral': 'MistralForCausalLM',
             'qwen2': 'Qwen2ForCausalLM', 'qwen3': 'Qwen3ForCausalLM',
             'gemma2': 'Gemma2ForCausalLM', 'gemma3_text': 'Gemma3ForCausalLM'}
    config = {
        'architectures': [names[model_type]], 'model_type': model_type, 'attention_dropout': 0.0,
        'bos_token_id': 1, 'eos_token_id': 2, 'hidden_size': 40, 'initializer_range': 0.02,
        'intermediate_size': 88, 'max_position_embeddings': 128, 'num_attention_heads': 4,
        'num_hidden_layers': 2, 'num_key_value_heads': 2, 'rms_norm_eps': 1e-5,
        'torch_dtype': 'bfloat16', 'use_cache': True, 'vocab_size': 101}
    if model_type.startswith('gemma'):
        config['hidden_activation'] = 'gelu_pytorch_tanh'
        config['pad_token_id'] = 0
    else:
        config['hidden_act'] = 'silu'
    config.update(keys)
    return {k: v for k, v in config.items() if v is not OMIT}


OMIT = object()
LLAMA3_SCALING = {'factor': 8.0, 'high_freq_factor': 4.0, 'low_freq_factor': 1.0,
                  'original_max_position_embeddings': 64, 'rope_type': 'llama3'}

# name: (config, stored dtype, shards, features to switch off one by one)
MODELS = {
    # As the older files are: no head counts for k and v, no rope_theta, inverse frequencies stored.
    'llama2': (base_config('llama', num_key_value_heads=OMIT, hidden_size=40, head_dim=OMIT,
                           rope_scaling=None, tie_word_embeddings=False, pretraining_tp=1,
                           torch_dtype='float16'), 'F16', 1, {}),
    'llama3': (base_config('llama', hidden_size=72, num_attention_heads=6, num_key_value_heads=2,
                           rope_theta=1000.0, rope_scaling=LLAMA3_SCALING, attention_bias=False,
                           mlp_bias=False, tie_word_embeddings=False, eos_token_id=[2, 3, 4]),
               'BF16', 1, {'rope_scaling': None, 'rope_theta': 10000.0}),
    'llama3-tied': (base_config('llama', hidden_size=40, head_dim=16, num_attention_heads=4,
                                num_key_value_heads=1, rope_theta=500000.0, num_hidden_layers=3,
                                rope_scaling=dict(LLAMA3_SCALING, factor=32.0,
                                                  original_max_position_embeddings=8192),
                                tie_word_embeddings=True, attention_bias=False, mlp_bias=False),
                    'BF16', 1, {'rope_scaling': None}),
    'smollm': (base_config('llama', hidden_size=54, num_attention_heads=3, num_key_value_heads=1,
                           is_llama_config=True, rope_interleaved=False, rope_theta=10000.0,
                           rope_scaling=None, tie_word_embeddings=True, torch_dtype='float32'),
               'F32', 1, {}),
    'mistral': (base_config('mistral', hidden_size=48, sliding_window=8, rope_theta=10000.0,
                            num_hidden_layers=3, tie_word_embeddings=False), 'BF16', 3,
                {'sliding_window': None}),
    'qwen2': (base_config('qwen2', hidden_size=56, sliding_window=8, use_sliding_window=False,
                          max_window_layers=2, rope_theta=1000000.0, tie_word_embeddings=True,
                          rms_norm_eps=1e-6), 'BF16', 1, {'model_type': 'mistral'}),
    'qwen3': (base_config('qwen3', hidden_size=40, head_dim=18, rope_theta=1000000.0,
                          attention_bias=False, rope_scaling=None, sliding_window=None,
                          use_sliding_window=False, max_window_layers=2, rms_norm_eps=1e-6,
                          tie_word_embeddings=False), 'BF16', 1, {}),
    # sqrt(36) is exact in every type.
    'gemma2': (base_config('gemma2', hidden_size=36, head_dim=12,
                           query_pre_attn_scalar=10, attn_logit_softcapping=3.0,
                           final_logit_softcapping=6.0, sliding_window=8, sliding_window_size=8,
                           rope_theta=10000.0, attention_bias=False, rms_norm_eps=1e-6,
                           cache_implementation='hybrid', torch_dtype='float32'), 'F32', 1,
               {'sliding_window': None, 'attn_logit_softcapping': None,
                'final_logit_softcapping': None, 'query_pre_attn_scalar': 12}),
    # sqrt(40) is not: 6.3125 in bfloat16.
    'gemma3': (base_config('gemma3_text', hidden_size=40, head_dim=14, num_hidden_layers=4,
                           num_key_value_heads=1, query_pre_attn_scalar=14,
                           attn_logit_softcapping=None, final_logit_softcapping=None,
                           sliding_window=8, sliding_window_pattern=3, rope_theta=1000000.0,
                           rope_local_base_freq=10000.0, attention_bias=False, rms_norm_eps=1e-6,
                           rope_scaling={'factor': 8.0, 'rope_type': 'linear'},
                           cache_implementation='hybrid', eos_token_id=[1, 106]), 'BF16', 1,
               {'sliding_window': None, 'rope_scaling': None, 'rope_local_base_freq': 1000000.0,
                'sliding_window_pattern': 2}),
}


def tensor_shapes(config):
    """name -> (shape, standard deviation, mean), in the order the random numbers are drawn."""
    hidden, ffn, d = config['hidden_size'], config['intermediate_size'], head_dim(config)
    heads, kv = config['num_attention_heads'], kv_heads(config)
    gemma, kind = is_gemma(config), config['model_type']
    norm = (0.2, 0.0 if gemma else 1.0)
    # Queries and keys are drawn large enough that attention picks a few positions.
    sharp, plain = 1.5 / math.sqrt(hidden), 1.0 / math.sqrt(hidden)
    out = {'model.embed_tokens.weight': ((config['vocab_size'], hidden), 0.5, 0)}
    for layer in range(config['num_hidden_layers']):
        p = 'model.layers.%d.' % layer
        out[p + 'input_layernorm.weight'] = ((hidden,), *norm)
        for which, count, std in (('q', heads, sharp), ('k', kv, sharp), ('v', kv, plain)):
            out[p + 'self_attn.%s_proj.weight' % which] = ((count * d, hidden), std, 0)
            if kind == 'qwen2':
                out[p + 'self_attn.%s_proj.bias' % which] = ((count * d,), 0.7, 0)
        out[p + 'self_attn.o_proj.weight'] = ((hidden, heads * d), 1 / math.sqrt(heads * d), 0)
        if kind in ('qwen3', 'gemma3_text'):
            out[p + 'self_attn.q_norm.weight'] = ((d,), 0.3, norm[1] + 0.4)
            out[p + 'self_attn.k_norm.weight'] = ((d,), 0.3, norm[1] + 0.4)
        out[p + 'post_attention_layernorm.weight'] = ((hidden,), *norm)
        if gemma:
            out[p + 'pre_feedforward_layernorm.weight'] = ((hidden,), *norm)
            out[p + 'post_feedforward_layernorm.weight'] = ((hidden,), *norm)
        out[p + 'mlp.gate_proj.weight'] = ((ffn, hidden), plain, 0)
        out[p + 'mlp.up_proj.weight'] = ((ffn, hidden), plain, 0)
        out[p + 'mlp.down_proj.weight'] = ((hidden, ffn), 1 / math.sqrt(ffn), 0)
    out['model.norm.weight'] = ((hidden,), *norm)
    if not config.get('tie_word_embeddings', gemma):
        out['lm_head.weight'] = ((config['vocab_size'], hidden), 0.5, 0)
    return out


def to_stored(x, dtype):
    """The bytes in the file, and the float32 values that they mean."""
    x = np.asarray(x, '<f4')
    if dtype == 'F32':
        return x.tobytes(), x
    if dtype == 'F16':
        h = x.astype('<f2')
        return h.tobytes(), h.astype('<f4')
    bits = x.view('<u4').astype(np.uint64)
    h = ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype('<u2')
    return h.tobytes(), (h.astype('<u4') << 16).view('<f4')


def draw_tensors(config, dtype, seed):
    rng = np.random.RandomState(seed)
    stored, values = {}, {}
    for name, (shape, std, mean) in tensor_shapes(config).items():
        raw, x = to_stored(mean + std * rng.standard_normal(shape), dtype)
        stored[name] = (dtype, shape, raw)
        values[name] = x.reshape(shape)
    return stored, values


def safetensors_bytes(stored):
    header, data = {'__metadata__': {'format': 'pt'}}, b''
    for name, (dtype, shape, raw) in sorted(stored.items()):
        header[name] = {'dtype': dtype, 'shape': list(shape),
                        'data_offsets': [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    return struct.pack('<Q', len(text)) + text + data


def weight_files(stored, shards):
    if shards == 1:
        return {'model.safetensors': safetensors_bytes(stored)}
    names = sorted(stored)
    files, index = {}, {}
    for i in range(shards):
        part = names[i * len(names) // shards:(i + 1) * len(names) // shards]
        file_name = 'model-%05d-of-%05d.safetensors' % (i + 1, shards)
        files[file_name] = safetensors_bytes({n: stored[n] for n in part})
        index.update({n: file_name for n in part})
    total = sum(len(raw) for _, _, raw in stored.values())
    files['model.safetensors.index.json'] = (json.dumps(
        {'metadata': {'total_size': total}, 'weight_map': index}, indent=1) + '\n').encode()
    return files


def row_error(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return (np.abs(a - b).max(-1) / np.abs(b).max(-1)).max()


def make_model(name, seed):
    config, dtype, shards, features = MODELS[name]
    stored, values = draw_tensors(config, dtype, seed)
    if name == 'llama2':  # published Llama 2 files carry these; they mean nothing to a reader
        freqs = inverse_frequencies(head_dim(config), 10000.0).astype('<f4')
        for layer in range(config['num_hidden_layers']):
            stored['model.layers.%d.self_attn.rotary_emb.inv_freq' % layer] = (
                'F32', freqs.shape, freqs.tobytes())
    rng = np.random.RandomState(seed + 1000)
    tokens = [config['bos_token_id']] + rng.randint(3, config['vocab_size'], TOKENS - 1).tolist()
    exact = logits(config, values, tokens, torch.float64).numpy()
    single = logits(config, values, tokens, torch.float32).numpy()
    honest = row_error(single, exact)
    report = '%-12s f32 vs f64 %.1e, |logit| %.1f' % (name, honest, np.abs(exact).max())
    assert honest < TOLERANCE / 4, report
    for key, value in features.items():
        moved = row_error(logits(dict(config, **{key: value}), values, tokens, torch.float64), exact)
        report += ', %s %.0e' % (key, moved)
        assert moved > 100 * TOLERANCE, report
    for tensor in values:  # every tensor matters
        if not tensor.endswith(('norm.weight', 'bias')):
            continue
        changed = dict(values, **{tensor: values[tensor] * 0.99})
        moved = row_error(logits(config, changed, tokens, torch.float64), exact)
        # A constant factor on a key's bias or on a normed vector may all but cancel, never fully.
        assert moved > TOLERANCE, (name, tensor, moved)
    files = weight_files(stored, shards)
    files['config.json'] = (json.dumps(config, indent=2, sort_keys=True) + '\n').encode()
    golden = {'tokens': tokens, 'vocab_size': config['vocab_size'],
              'logits': base64.b64encode(exact.astype('<f4').tobytes()).decode()}
    files['golden.json'] = (json.dumps(golden) + '\n').encode()
    return files, report


def check_files(name, files):
    """Weights to the byte; logits within an ulp, as another machine's libm may differ in the last bit."""
    folder = os.path.join(HERE, name)
    assert sorted(os.listdir(folder)) == sorted(files), 'files of ' + name
    for file_name, content in files.items():
        kept = open(os.path.join(folder, file_name), 'rb').read()
        if file_name != 'golden.json':
            assert kept == content, (name, file_name)
            continue
        a, b = json.loads(kept), json.loads(content)
        x, y = (np.frombuffer(base64.b64decode(g.pop('logits')), '<f4') for g in (a, b))
        assert a == b and np.allclose(x, y, rtol=3e-7, atol=1e-7), (name, file_name)


def run_reference(folder):
    """Compares this transformer with someone else's numbers for a trained model."""
    config = json.load(open(os.path.join(folder, 'config.json')))
    expected = json.load(open(os.path.join(folder, 'reference.json')))
    raw = open(os.path.join(folder, 'model.safetensors'), 'rb').read()
    size = struct.unpack('<Q', raw[:8])[0]
    tensors = {}
    for name, entry in json.loads(raw[8:8 + size]).items():
        if name != '__metadata__':
            assert entry['dtype'] == 'F32'
            begin, end = entry['data_offsets']
            tensors[name] = np.frombuffer(raw[8 + size + begin:8 + size + end], '<f4').reshape(
                entry['shape'])
    ids = expected['prompt_ids']
    y = logits(config, tensors, ids, torch.float64)
    nats = [-float(torch.log_softmax(y[i], -1)[ids[i + 1]]) for i in range(len(ids) - 1)]
    first = np.abs(y[-1][:8].numpy() - expected['last_prompt_logits_head']).max()
    worst = np.abs(np.array(nats) - expected['prompt_nats']).max()
    greedy = list(ids)
    for _ in expected['greedy_ids']:
        greedy.append(int(logits(config, tensors, greedy, torch.float64)[-1].argmax()))
    same = greedy[len(ids):] == expected['greedy_ids']
    print('nats within %.1e, logits within %.1e, greedy tokens %s'
          % (worst, first, 'equal' if same else 'DIFFER'))
    assert worst < 2e-6 and first < 2e-6 and same


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true', help='compare with the committed files')
    parser.add_argument('--reference', metavar='DIR', help='a Llama folder with a reference.json')
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.reference:
        return run_reference(args.reference)
    for seed, name in enumerate(MODELS, start=1):
        files, report = make_model(name, seed)
        if args.check:
            check_files(name, files)
        else:
            os.makedirs(os.path.join(HERE, name), exist_ok=True)
            for file_name, content in files.items():
                with open(os.path.join(HERE, name, file_name), 'wb') as f:
                    f.write(content)
        print(report)


if __name__ == '__main__':
    sys.exit(main())
