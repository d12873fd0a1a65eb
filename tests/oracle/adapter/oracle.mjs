// llama.cpp goes on with our greedy tokens: base, base with the GGUF adapter, and the merged model.
import { loadModel } from '@fugood/llama.node'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'

const env = { ...process.env, OPENLEDGER_HOME: `${process.cwd()}/work/home` }
const openledger = (...args) => execFileSync(process.env.OL_PROGRAM, args, { encoding: 'utf8', env })
const COUNT = 60
let failures = 0

function check(name, ok, detail) {
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${name}${ok ? '' : `: ${detail}`}`)
  if (!ok) failures++
}

async function theirs(model, lora, prompts) {
  const context = await loadModel({
    model, ...(lora ? { lora_list: [{ path: lora, scaled: 1.0 }] } : {}), n_ctx: 256,
    n_gpu_layers: 0, n_threads: 1, use_mmap: false, flash_attn_type: 'off', cache_type_k: 'f32',
    cache_type_v: 'f32',
  })
  const texts = []
  for (const prompt of prompts) {
    const result = await context.completion({
      prompt, n_predict: COUNT, temperature: 0, top_k: 1, ignore_eos: false, seed: 1, stop: [],
      penalty_repeat: 1.0,
    })
    texts.push(result.text.trimStart())
  }
  await context.release()
  return texts
}

// llama.cpp spells special tokens out in its text: so do we, where tokens are single characters.
const pieces = ['<unk>', '<s>', '</s>', ' ']
for (let c = 33; c < 127; c++) pieces.push(String.fromCharCode(c))

const ours = (characters, prompts, ...args) => prompts.map((prompt) => {
  const answer = JSON.parse(
    openledger('generate', '--json', '-t', '0', '-n', String(COUNT), '-p', prompt, ...args))
  return (characters ? answer.tokens.map((id) => pieces[id]).join('') : answer.text).trimStart()
})

function same(name, a, b) {
  check(`${name}: ${JSON.stringify(a[0].slice(0, 30))}…`,
    a.every((text, i) => text.length > 0 && text === b[i]), `${JSON.stringify(b)} / ours ${JSON.stringify(a)}`)
}

async function family(name, folder, characters, adapters, prompts) {
  openledger('import', folder, '--weights', 'f32', '--name', name)
  openledger('export', name, '--format', 'gguf', '-o', `work/${name}.gguf`)
  const base = ours(characters, prompts, '-m', name)
  same(`${name}`, base, await theirs(`work/${name}.gguf`, null, prompts))
  for (const adapter of adapters) {
    const full = `${name}-${adapter}`
    openledger('import-adapter', `work/${full}`, '-m', name)
    openledger('export', full, '--format', 'gguf', '-o', `work/${full}.gguf`)
    openledger('export', full, '--format', 'merged-gguf', '-o', `work/${full}-merged.gguf`)
    const adapted = ours(characters, prompts, '-m', full)
    check(`${full} is not its base`, adapted.every((text, i) => text !== base[i]), adapted[0])
    same(full, adapted, await theirs(`work/${name}.gguf`, `work/${full}.gguf`, prompts))
    same(`${full}, merged`, adapted, await theirs(`work/${full}-merged.gguf`, null, prompts))
  }
}

for (const kind of ['llama', 'qwen3'])
  await family(kind, `work/${kind}`, true, ['plain', 'patterns'], ['Hello', 'a b c', '12 + 30 ='])
if (existsSync('work/trained-plain'))
  await family('trained', `${process.env.OL_ROOT}/../shared/models/tinystories-656k`, false, ['plain'],
    ['Once upon a time', 'Lily went to the park. She', 'The dog was big and'])
else
  console.log('skipped: ../shared/models is not there')
process.exit(failures ? 1 : 0)
