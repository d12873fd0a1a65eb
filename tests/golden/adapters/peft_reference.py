"""A PEFT folder on one of the tiny models of tests/golden/models, in PyTorch: what a reader that
follows PEFT's naming and rules makes of it. Imported by make_adapters.py and tests/oracle/peft."""
import json
import math
import os
import re
import struct
import sys

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, '..', 'models')
sys.path.insert(0, MODELS)
import make_models  # noqa: E402

PREFIX = 'base_model.model.'


def read_safetensors(path):
    """name -> float32 array."""
    with open(path, 'rb') as f:
        raw = f.read()
    size = struct.unpack('<Q', raw[:8])[0]
    out = {}
    for name, entry in json.loads(raw[8:8 + size]).items():
        if name == '__metadata__':
            continue
        begin, end = (8 + size + x for x in entry['data_offsets'])
        if entry['dtype'] == 'BF16':
            x = (np.frombuffer(raw[begin:end], '<u2').astype('<u4') << 16).view('<f4')
        else:
            x = np.frombuffer(raw[begin:end], {'F32': '<f4', 'F16': '<f2'}[entry['dtype']])
        out[name] = x.astype('<f4').reshape(entry['shape'])
    return out


def pattern_value(patterns, module, otherwise):
    """The value of the first key that is the module's name or its end, as a regular expression."""
    for key, value in patterns.items():
        if re.match(r'(.*\.)?(%s)$' % key, module):
            return value
    return otherwise


def merged_weights(folder, values):
    """The base's tensors (name -> array) with the adapter of the folder added, in float64."""
    with open(os.path.join(folder, 'adapter_config.json')) as f:
        config = json.load(f)
    assert config['peft_type'] == 'LORA' and not config.get('use_dora')
    tensors = read_safetensors(os.path.join(folder, 'adapter_model.safetensors'))
    merged = {k: torch.tensor(np.asarray(v)).double() for k, v in values.items()}
    modules = sorted({k[len(PREFIX):].rsplit('.lora_', 1)[0] for k in tensors})
    assert len(tensors) == 2 * len(modules) > 0
    for module in modules:
        assert module.rsplit('.', 1)[-1] in config['target_modules'], module
        a, b = (torch.tensor(tensors['%s%s.lora_%s.weight' % (PREFIX, module, which)]).double()
                for which in 'AB')
        rank = pattern_value(config.get('rank_pattern') or {}, module, config['r'])
        alpha = pattern_value(config.get('alpha_pattern') or {}, module, config['lora_alpha'])
        assert a.shape[0] == b.shape[1] == rank, (module, a.shape, rank)
        scale = alpha / (math.sqrt(rank) if config.get('use_rslora') else rank)
        # A tied head has a matrix of its own as soon as something is added to it.
        name = module + '.weight'
        base = merged.get(name, merged['model.embed_tokens.weight'])
        merged[name] = base + scale * (b @ a)
    return merged


def base_values(name):
    """(config, tensors) of a tiny model, from its folder."""
    folder, values = os.path.join(MODELS, name), {}
    for file in sorted(os.listdir(folder)):
        if file.endswith('.safetensors'):
            values.update(read_safetensors(os.path.join(folder, file)))
    with open(os.path.join(folder, 'config.json')) as f:
        return json.load(f), {k: v for k, v in values.items() if not k.endswith('inv_freq')}


def base_tokens(name):
    with open(os.path.join(MODELS, name, 'golden.json')) as f:
        return json.load(f)['tokens']


def adapted_logits(folder, name):
    config, values = base_values(name)
    return make_models.forward(config, merged_weights(folder, values), base_tokens(name)).numpy()
