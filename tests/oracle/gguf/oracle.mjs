// llama.cpp loads the GGUF files that we write, and goes on with the same greedy tokens in f32.
import { loadModel } from '@fugood/llama.node'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'

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

async function same(name, file, source, prompts) {
  const context = await open(file)
  for (const prompt of prompts) {
    const ours = JSON.parse(tool('greedy', source, prompt, String(COUNT)))
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

const trained = `${process.env.OL_ROOT}/../shared/models/tinystories-656k`
if (existsSync(trained)) {
  tool('export', trained, 'trained.gguf', 'f32')
  const prompts = ['Once upon a time', 'Lily went to the park. She', 'The dog was big and']
  await same('trained, from its folder', 'trained.gguf', trained, prompts)
  await same('trained, from our GGUF', 'trained.gguf', 'trained.gguf', prompts)
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
process.exit(failures ? 1 : 0)
