// What people's programs use, against a server that was just started: clients.mjs URL ADAPTERS.
// Every check is a line of what the libraries promise; the first that does not hold ends it.
import assert from 'node:assert/strict'
import OpenAI, { toFile } from 'openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { embedMany, generateObject, generateText, streamText } from 'ai'
import { InferenceClient } from '@huggingface/inference'
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai'
import { z } from 'zod'

const [url, adapters] = process.argv.slice(2)
const baseURL = url + '/v1'
const apiKey = 'ol-not-needed-here'
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 })
const messages = [{ role: 'user', content: 'What is a ledger?' }]
const ask = { model: 'tiny', messages, max_tokens: 24, seed: 5 }
let passed = 0

async function test(name, run) {
  const start = performance.now()
  try {
    await run()
  } catch (error) {
    console.log(`FAILED: ${name}`)
    throw error
  }
  passed++
  console.log(`${name} (${Math.round(performance.now() - start)} ms)`)
}

async function collect(stream) {
  const chunks = []
  for await (const chunk of stream) chunks.push(chunk)
  return chunks
}

const textOf = (chunks, index = 0) => chunks.flatMap((c) => c.choices)
  .filter((c) => c.index === index).map((c) => c.delta?.content ?? c.text ?? '').join('')

// ---- openai ----

await test('openai: models, with parents', async () => {
  const models = await collect(await client.models.list())
  assert.deepEqual(models.map((m) => m.id), ['tiny', 'style-0', 'style-1', 'style-2'])
  assert.equal(models[1].parent, 'tiny')
  assert.equal((await client.models.retrieve('style-1')).root, 'tiny')
})

await test('openai: chat, the same again with the same seed', async () => {
  const a = await client.chat.completions.create(ask)
  const b = await client.chat.completions.create(ask)
  assert.equal(a.object, 'chat.completion')
  assert.equal(a.choices[0].message.content, b.choices[0].message.content)
  assert.equal(a.choices[0].finish_reason, 'length')
  assert.equal(a.usage.completion_tokens, 24)
  assert.equal(a.usage.total_tokens, a.usage.prompt_tokens + 24)
  assert.ok(b.usage.prompt_tokens_details.cached_tokens > 0)
  assert.equal(a.system_fingerprint, b.system_fingerprint)
  assert.equal(a.openledger.seed, 5)
  assert.ok(a._request_id.startsWith('req_'))
})

await test('openai: a chosen seed repeats the answer', async () => {
  const { seed, ...free } = ask
  const a = await client.chat.completions.create(free)
  const b = await client.chat.completions.create({ ...free, seed: a.openledger.seed })
  assert.equal(a.choices[0].message.content, b.choices[0].message.content)
})

await test('openai: a stream says what the whole answer says, and its usage', async () => {
  const whole = await client.chat.completions.create(ask)
  const chunks = await collect(await client.chat.completions.create(
    { ...ask, stream: true, stream_options: { include_usage: true } }))
  assert.equal(textOf(chunks), whole.choices[0].message.content)
  assert.equal(chunks[0].choices[0].delta.role, 'assistant')
  const last = chunks.at(-1)
  assert.deepEqual(last.choices, [])
  assert.equal(last.usage.completion_tokens, 24)
  assert.equal(chunks.at(-2).choices[0].finish_reason, 'length')
})

await test('openai: several choices, logprobs, stop, bias', async () => {
  const many = await client.chat.completions.create({ ...ask, n: 3, logprobs: true, top_logprobs: 2 })
  assert.deepEqual(many.choices.map((c) => c.index), [0, 1, 2])
  assert.equal(many.usage.completion_tokens, 72)
  for (const choice of many.choices) {
    assert.equal(choice.logprobs.content.length, 24)
    assert.equal(choice.logprobs.content[0].top_logprobs.length, 2)
    assert.ok(choice.logprobs.content[0].logprob <= 0)
  }
  const biased = await client.chat.completions.create({ ...ask, logit_bias: { 65: 100 } })
  assert.equal(biased.choices[0].message.content, 'A'.repeat(24))
  const stopped = await client.chat.completions.create({ ...ask, logit_bias: { 65: 100 }, stop: ['AAA'] })
  assert.equal(stopped.choices[0].message.content, '')
  assert.equal(stopped.choices[0].finish_reason, 'stop')
})

await test('openai: completions of texts and of tokens', async () => {
  const texts = await client.completions.create({ model: 'style-0', prompt: ['ab', 'cd'], max_tokens: 5, seed: 1 })
  const tokens = await client.completions.create(
    { model: 'style-0', prompt: [[97, 98], [99, 100]], max_tokens: 5, seed: 1 })
  assert.deepEqual(texts.choices.map((c) => c.text), tokens.choices.map((c) => c.text))
  const echoed = await client.completions.create({ model: 'tiny', prompt: 'ab', max_tokens: 2, echo: true, logit_bias: { 65: 100 } })
  assert.equal(echoed.choices[0].text, 'abAA')
  const chunks = await collect(await client.completions.create({ model: 'style-0', prompt: 'ab', max_tokens: 5, seed: 1, stream: true }))
  assert.equal(textOf(chunks), texts.choices[0].text)
})

await test('openai: another adapter gives another answer', async () => {
  const answers = new Set()
  for (const model of ['tiny', 'style-0', 'style-1', 'style-2'])
    answers.add((await client.chat.completions.create({ ...ask, model })).choices[0].message.content)
  assert.equal(answers.size, 4)
})

await test('openai: embeddings, as floats and in base64', async () => {
  const input = ['one text', 'another']
  const base64 = await client.embeddings.create({ model: 'tiny', input })
  const floats = await client.embeddings.create({ model: 'tiny', input, encoding_format: 'float' })
  assert.equal(base64.data.length, 2)
  assert.equal(base64.data[0].embedding.length, 48)
  assert.deepEqual(base64.data[1].embedding.map(Math.fround), floats.data[1].embedding.map(Math.fround))
  const square = floats.data[0].embedding.reduce((sum, x) => sum + x * x, 0)
  assert.ok(Math.abs(square - 1) < 1e-5)
})

await test('openai: structured output', async () => {
  const schema = { type: 'object', properties: { yes: { type: 'boolean' }, n: { enum: [1, 2] } },
    required: ['yes', 'n'], additionalProperties: false }
  const made = await client.chat.completions.create({ ...ask, max_tokens: 60,
    response_format: { type: 'json_schema', json_schema: { name: 'verdict', schema, strict: true } } })
  const value = JSON.parse(made.choices[0].message.content)
  assert.equal(typeof value.yes, 'boolean')
  assert.ok([1, 2].includes(value.n))
})

await test('openai: error classes', async () => {
  const rows = [
    [{ ...ask, model: 'nobody' }, OpenAI.NotFoundError, 404, 'model_not_found', 'model'],
    [{ ...ask, temperature: 9 }, OpenAI.BadRequestError, 400, 'decimal_above_max_value', 'temperature'],
    [{ ...ask, n: 0 }, OpenAI.BadRequestError, 400, 'integer_below_min_value', 'n'],
    [{ ...ask, messages: [] }, OpenAI.BadRequestError, 400, 'invalid_type', 'messages'],
    [{ ...ask, messages: [{ role: 'user', content: 'x'.repeat(6000) }] }, OpenAI.BadRequestError, 400, 'context_length_exceeded', 'messages'],
    [{ ...ask, tools: [{ type: 'function', function: { name: 'f' } }] }, OpenAI.BadRequestError, 400, 'unsupported_parameter', 'tools'],
    [{ ...ask, stream_options: {} }, OpenAI.BadRequestError, 400, 'invalid_value', 'stream_options'],
    [{ ...ask, response_format: { type: 'json_schema', json_schema: { name: 'a', schema: { not: {} } } } }, OpenAI.BadRequestError, 400, 'unsupported_value', 'response_format']]
  for (const [body, kind, status, code, param] of rows)
    await assert.rejects(client.chat.completions.create(body), (error) => {
      assert.ok(error instanceof kind, `${code}: ${error}`)
      assert.deepEqual([error.status, error.code, error.param], [status, code, param])
      return true
    })
})

await test('openai: an aborted stream ends the generation', async () => {
  const control = new AbortController()
  const stream = await client.chat.completions.create(
    { ...ask, max_tokens: 3900, ignore_eos: true, stream: true }, { signal: control.signal })
  for await (const chunk of stream) if (chunk.choices[0].delta.content) break
  control.abort()
  for (let i = 0; ; i++) {
    const text = await (await fetch(url + '/metrics')).text()
    if (/openledger_requests_ended_total\{outcome="cancelled"\} [1-9]/.test(text)) break
    assert.ok(i < 200, 'it goes on')
    await new Promise((done) => setTimeout(done, 50))
  }
})

await test('openai: an Idempotency-Key gives the same answer, once', async () => {
  const { seed, ...free } = ask
  const options = { headers: { 'Idempotency-Key': 'clients-1' } }
  const a = await client.chat.completions.create(free, options)
  const b = await client.chat.completions.create(free, options)
  assert.equal(a.id, b.id)
  await assert.rejects(client.chat.completions.create({ ...free, max_tokens: 3 }, options),
    (error) => error.status === 422)
})

await test('adapters are loaded and unloaded', async () => {
  const post = (path, body) => fetch(baseURL + path, { method: 'POST',
    headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
  assert.equal((await post('/load_lora_adapter', { lora_name: 'again', lora_path: adapters + '/style-1' })).status, 200)
  assert.equal((await post('/load_lora_adapter', { lora_name: 'again', lora_path: adapters + '/style-1' })).status, 400)
  const again = await client.chat.completions.create({ ...ask, model: 'again' })
  const first = await client.chat.completions.create({ ...ask, model: 'style-1' })
  assert.equal(again.choices[0].message.content, first.choices[0].message.content)
  assert.equal(again.openledger.adapter_sha256, first.openledger.adapter_sha256)
  assert.equal((await post('/unload_lora_adapter', { lora_name: 'again' })).status, 200)
  await assert.rejects(client.chat.completions.create({ ...ask, model: 'again' }), OpenAI.NotFoundError)
})

// ---- ai + @ai-sdk/openai-compatible ----

const provider = createOpenAICompatible({ name: 'openledger', baseURL, apiKey, includeUsage: true,
  supportsStructuredOutputs: true })
const reference = (await client.chat.completions.create(ask)).choices[0].message.content

await test('ai: text, stream, object, embeddings', async () => {
  const options = { model: provider('tiny'), messages, maxOutputTokens: 24, seed: 5, maxRetries: 0 }
  const whole = await generateText(options)
  assert.equal(whole.text, reference)
  assert.equal(whole.usage.outputTokens, 24)
  assert.equal(whole.finishReason, 'length')
  const stream = streamText(options)
  let text = ''
  for await (const piece of stream.textStream) text += piece
  assert.equal(text, reference)
  assert.equal((await stream.usage).outputTokens, 24)
  const { object } = await generateObject({ ...options, maxOutputTokens: 60,
    schema: z.object({ yes: z.boolean() }) })
  assert.equal(typeof object.yes, 'boolean')
  const { embeddings } = await embedMany({ model: provider.textEmbeddingModel('tiny'), values: ['a', 'b'] })
  assert.equal(embeddings.length, 2)
  await assert.rejects(generateText({ ...options, model: provider('nobody') }), (e) => e.statusCode === 404)
})

// ---- @huggingface/inference ----

await test('huggingface: chat and stream', async () => {
  const hf = new InferenceClient(apiKey, { endpointUrl: baseURL })
  const whole = await hf.chatCompletion(ask)
  assert.equal(whole.choices[0].message.content, reference)
  assert.equal(textOf(await collect(hf.chatCompletionStream(ask))), reference)
})

// ---- @langchain/openai ----

await test('langchain: invoke, stream, embeddings', async () => {
  const configuration = { baseURL, apiKey }
  const model = new ChatOpenAI({ model: 'tiny', maxTokens: 24, modelKwargs: { seed: 5 }, configuration, apiKey, maxRetries: 0, temperature: 1 })
  assert.equal((await model.invoke('What is a ledger?')).content, reference)
  let text = ''
  for await (const piece of await model.stream('What is a ledger?')) text += piece.content
  assert.equal(text, reference)
  const vectors = await new OpenAIEmbeddings({ model: 'tiny', configuration, apiKey }).embedDocuments(['a', 'b', 'c'])
  assert.equal(vectors.length, 3)
})

// ---- files and fine-tuning, with events ----

await test('openai: files', async () => {
  const text = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'
  const file = await client.files.create({ purpose: 'fine-tune', file: await toFile(Buffer.from(text), 'one.jsonl') })
  assert.equal(file.bytes, text.length)
  assert.equal(await (await client.files.content(file.id)).text(), text)
  assert.ok((await collect(await client.files.list())).some((f) => f.id === file.id))
  assert.equal((await client.files.delete(file.id)).deleted, true)
  await assert.rejects(client.files.retrieve(file.id), OpenAI.NotFoundError)
})

await test('openai: a fine-tuning job, its events, and its model', async () => {
  const lines = Array.from({ length: 12 }, (_, i) => JSON.stringify({ messages: [
    { role: 'user', content: `number ${i}` }, { role: 'assistant', content: `it is ${i}` }] }))
  const file = await client.files.create({ purpose: 'fine-tune',
    file: await toFile(Buffer.from(lines.join('\n') + '\n'), 'numbers.jsonl') })
  let job = await client.fineTuning.jobs.create({ model: 'tiny', training_file: file.id, suffix: 'numbers',
    method: { type: 'supervised', supervised: { hyperparameters: { n_epochs: 1, batch_size: 4 } } } })
  assert.equal(job.object, 'fine_tuning.job')
  for (const end = Date.now() + 180000; !['succeeded', 'failed', 'cancelled'].includes(job.status);) {
    assert.ok(Date.now() < end, `the job is still ${job.status}`)
    await new Promise((done) => setTimeout(done, 200))
    job = await client.fineTuning.jobs.retrieve(job.id)
  }
  const events = await collect(await client.fineTuning.jobs.listEvents(job.id))
  assert.equal(job.status, 'succeeded', JSON.stringify([job.error, events]))
  assert.ok(events.length > 1 && events.every((e) => e.object === 'fine_tuning.job.event'))
  const answer = await client.chat.completions.create({ ...ask, model: job.fine_tuned_model })
  assert.equal(answer.model, job.fine_tuned_model)
  assert.ok(answer.openledger.adapter_sha256)
})

console.log(`${passed} passed`)
