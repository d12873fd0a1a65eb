#!/usr/bin/python3
"""Adapters as PEFT writes them, on tiny models of tests/golden/models, with reference logits.

    make_adapters.py            write each folder beside this script
    make_adapters.py --check    recompute and compare with what is there

Needs PyTorch and numpy (Debian: python3-torch). A folder holds adapter_config.json and
adapter_model.safetensors under PEFT's names, and golden.json: the base's name, its tokens, and the
float64 logits of base plus adapter, rounded once to float32 (base64, positions x vocabulary). All
values are exact in bfloat16, whatever the file's type, as that is what the engine keeps.
"""
import argparse
import base64
import json
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import peft_reference as peft  # noqa: E402
from peft_reference import make_models  # noqa: E402

ALL = ('q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj')

# name: (base, stored type, keys of adapter_config.json)
ADAPTERS = {
    'every-linear': ('llama3', 'BF16', {'r': 4, 'lora_alpha': 8, 'target_modules': ALL}),
    'rslora-tied-head': ('llama3-tied', 'F32', {
        'r': 3, 'lora_alpha': 5, 'use_rslora': True,
        'target_modules': ('q_proj', 'v_proj', 'lm_head')}),
    'patterns': ('qwen3', 'F16', {
        'r': 4, 'lora_alpha': 16, 'target_modules': ('q_proj', 'k_proj', 'gate_proj', 'down_proj'),
        'rank_pattern': {'down_proj': 7}, 'alpha_pattern': {'layers.1.self_attn.q_proj': 3}}),
    'gemma': ('gemma3', 'BF16', {'r': 20, 'lora_alpha': 20, 'target_modules': ALL}),
}


def adapter_config(keys):
    config = {
        'alpha_pattern': {}, 'auto_mapping': None, 'base_model_name_or_path': 'a tiny model',
        'bias': 'none', 'fan_in_fan_out': False, 'inference_mode': True, 'init_lora_weights': True,
        'layers_pattern': None, 'layers_to_transform': None, 'lora_dropout': 0.05,
        'modules_to_save': None, 'peft_type': 'LORA', 'rank_pattern': {}, 'revision': None,
        'task_type': 'CAUSAL_LM', 'use_dora': False, 'use_rslora': False}
    config.update({k: list(v) if isinstance(v, tuple) else v for k, v in keys.items()})
    return config


def draw(rng, shape, std):
    """Normal numbers that bfloat16 and float16 hold: seven bits behind the leading one."""
    x = rng.standard_normal(shape) * std
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.round(mantissa * 256) / 256, np.maximum(exponent, -6)).astype('<f4')


def adapter_tensors(base, config, seed):
    _, values = peft.base_values(base)
    rng, out = np.random.RandomState(seed), {}
    if 'lm_head' in config['target_modules'] and 'lm_head.weight' not in values:
        values['lm_head.weight'] = values['model.embed_tokens.weight']
    for name in sorted(values):
        module = name[:-len('.weight')]
        if module.rsplit('.', 1)[-1] not in config['target_modules']:
            continue
        rank = peft.pattern_value(config['rank_pattern'], module, config['r'])
        rows, cols = values[name].shape
        out['%s%s.lora_A.weight' % (peft.PREFIX, module)] = draw(rng, (rank, cols), cols ** -0.5)
        out['%s%s.lora_B.weight' % (peft.PREFIX, module)] = draw(rng, (rows, rank), 0.1)
    return out


def make(name, seed):
    base, dtype, keys = ADAPTERS[name]
    config = adapter_config(keys)
    stored = {}
    for k, x in adapter_tensors(base, config, seed).items():
        raw, kept = make_models.to_stored(x, dtype)
        assert np.array_equal(kept.reshape(x.shape), x) and np.array_equal(
            make_models.to_stored(x, 'BF16')[1].reshape(x.shape), x), k
        stored[k] = (dtype, x.shape, raw)
    files = {'adapter_config.json': (json.dumps(config, indent=2) + '\n').encode(),
             'adapter_model.safetensors': make_models.safetensors_bytes(stored)}
    return base, files


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true', help='compare with the committed files')
    args = parser.parse_args()
    for seed, name in enumerate(ADAPTERS, start=41):
        base, files = make(name, seed)
        folder = os.path.join(HERE, name)
        os.makedirs(folder, exist_ok=True)
        for file, content in files.items():
            path = os.path.join(folder, file)
            if args.check:
                assert open(path, 'rb').read() == content, path
            else:
                open(path, 'wb').write(content)
        logits = peft.adapted_logits(folder, base)
        config, values = peft.base_values(base)
        tokens = peft.base_tokens(base)
        alone = make_models.logits(config, values, tokens, make_models.torch.float64).numpy()
        moved = make_models.row_error(alone, logits)
        assert moved > 0.1, (name, moved)
        golden = {'base': base, 'tokens': tokens, 'vocab_size': config['vocab_size'],
                  'logits': base64.b64encode(logits.astype('<f4').tobytes()).decode()}
        path = os.path.join(folder, 'golden.json')
        if args.check:
            kept = json.load(open(path))
            x, y = (np.frombuffer(base64.b64decode(g.pop('logits')), '<f4') for g in (kept, golden))
            assert kept == golden and np.allclose(x, y, rtol=3e-7, atol=1e-7), name
        else:
            open(path, 'w').write(json.dumps(golden) + '\n')
        print('%-18s moves the logits by %.1f of the largest' % (name, moved))


if __name__ == '__main__':
    sys.exit(main())
