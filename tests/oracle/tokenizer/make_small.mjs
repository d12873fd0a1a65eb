// Trains a small tokenizer of every family on our own sentences (corpus.mjs), writes each as
// NAME.json, and beside it what the oracle makes of a few kilobytes of hard text (make_golden.mjs).
// Deterministic: the same files come out every time.
// usage: node make_small.mjs FOLDER [merges] [bytes of text]
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { makeText, random, sentences } from './corpus.mjs'

const [folder, mergesText = '150', bytesText = '2500'] = process.argv.slice(2)
const MERGES = Number(mergesText)
mkdirSync(folder, { recursive: true })

const byteChars = (() => { // GPT-2's printable stand-ins for bytes
	const list = []
	let next = 256
	for (let b = 0; b < 256; b++) {
		const printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174
		list.push(String.fromCodePoint(printable ? b : next++))
	}
	return list
})()
const spell = (text) => [...Buffer.from(text)].map((b) => byteChars[b]).join('')

const text = (() => {
	const rnd = random(42)
	let out = sentences.join('\n')
	for (let i = 0; i < 150; i++) out += '\n' + makeText(rnd, [])
	return out.toWellFormed()
})()

// Plain BPE training: words are lists of symbols with a count.
function train(words, merges) {
	const counts = new Map()
	for (const w of words) counts.set(w, (counts.get(w) ?? 0) + 1)
	let list = [...counts].map(([w, n]) => [[...w], n])
	const learnt = []
	while (learnt.length < merges) {
		const pairs = new Map()
		for (const [symbols, n] of list)
			for (let i = 0; i + 1 < symbols.length; i++) {
				const key = symbols[i] + '\0' + symbols[i + 1]
				pairs.set(key, (pairs.get(key) ?? 0) + n)
			}
		let best = null
		for (const [key, n] of pairs)
			if (best === null || n > best[1] || (n === best[1] && key < best[0])) best = [key, n]
		if (best === null || best[1] < 2) break
		const [a, b] = best[0].split('\0')
		learnt.push([a, b])
		for (const entry of list) {
			const s = entry[0], out = []
			for (let i = 0; i < s.length; i++)
				if (i + 1 < s.length && s[i] === a && s[i + 1] === b) { out.push(a + b); i++ }
				else out.push(s[i])
			entry[0] = out
		}
	}
	return learnt
}
const vocabOf = (first, merges) => {
	const vocab = {}
	let id = 0
	for (const t of [...first, ...merges.map(([a, b]) => a + b)]) if (!(t in vocab)) vocab[t] = id++
	return vocab
}
const added = (content, id, flags = {}) => ({ id, content, single_word: false, lstrip: false, rstrip: false,
	normalized: false, special: true, ...flags })
// Added tokens in order; ids of those not in the vocabulary follow on.
const addAll = (vocab, list) => {
	let next = Object.keys(vocab).length
	return list.map(([content, flags]) => added(content, content in vocab ? vocab[content] : next++, flags))
}
const template = (before, after, ids) => ({
	type: 'TemplateProcessing',
	single: [...before.map((id) => ({ SpecialToken: { id, type_id: 0 } })), { Sequence: { id: 'A', type_id: 0 } },
		...after.map((id) => ({ SpecialToken: { id, type_id: 0 } }))],
	pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
	special_tokens: Object.fromEntries([...before, ...after].map((t) => [t, { id: t, ids: [ids[t]], tokens: [t] }]))
})
const byteLevel = (o = {}) => ({ type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true, ...o })
const split = (pattern, behavior = 'Isolated', invert = false) => ({ type: 'Split', pattern, behavior, invert })
const sequence = (key, list) => ({ type: 'Sequence', [key]: list })
const BLOCK = '\u2581'
const spDecoder = (strip) => sequence('decoders', [{ type: 'Replace', pattern: { String: BLOCK }, content: ' ' },
	{ type: 'ByteFallback' }, { type: 'Fuse' },
	...(strip ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : [])])

const contractions = "'s|'t|'re|'ve|'m|'ll|'d"
const llama = (n) => `(?i:${contractions})|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${n}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`

const byteWords = (text.match(/ ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+/gu) ?? []).map(spell)
const byteMerges = train(byteWords, MERGES)
const blockWords = (text.replaceAll(' ', BLOCK).match(/\u2581*[^\u2581]+|\u2581+/gu) ?? [])
const blockMerges = train(blockWords.filter((w) => w.length < 30), MERGES)
const bytes = Array.from({ length: 256 }, (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`)
const chars = [...new Set(blockMerges.flatMap(([a, b]) => [...a, ...b]).concat([BLOCK, ...'abcdefghijklmnop ,.\n']))]

function write(name, parts, model) {
	const json = { version: '1.0', truncation: null, padding: null, added_tokens: [], normalizer: null,
		pre_tokenizer: null, post_processor: null, decoder: null, ...parts,
		model: { type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null,
			end_of_word_suffix: null, fuse_unk: false, byte_fallback: false, ignore_merges: false, ...model } }
	const path = join(folder, name + '.json')
	writeFileSync(path, JSON.stringify(json) + '\n')
	execFileSync(process.execPath, [join(import.meta.dirname, 'make_golden.mjs'), name + '.json', name + '.jsonl',
		bytesText, String(11 + name.length)], { stdio: 'inherit', cwd: folder })
}
const strings = (merges) => merges.map(([a, b]) => a + ' ' + b)

{
	const vocab = vocabOf(byteChars, byteMerges)
	const model = { vocab, merges: strings(byteMerges) }
	write('gpt2', { added_tokens: addAll(vocab, [['<|endoftext|>', {}]]), pre_tokenizer: byteLevel(),
		post_processor: byteLevel({ trim_offsets: false }), decoder: byteLevel() }, model)
	write('gpt2-prefix', { added_tokens: addAll(vocab, [['<s>', { lstrip: true }], ['</s>', { rstrip: true }],
		['sky', { single_word: true, special: false }], ['<é>', { special: false, normalized: true }]]),
		pre_tokenizer: byteLevel({ add_prefix_space: true }), decoder: byteLevel() }, model)
	write('smollm', { added_tokens: addAll(vocab, [['<|im_start|>', {}], ['<|im_end|>', {}]]),
		pre_tokenizer: sequence('pretokenizers', [{ type: 'Digits', individual_digits: true }, byteLevel()]),
		decoder: byteLevel() }, model)
	// One entry that no merge makes: only ignore_merges finds it.
	const vocab3 = { ...vocab, [spell(' ledger')]: Object.keys(vocab).length }
	const l3 = addAll(vocab3, [['<|begin_of_text|>', {}], ['<|eot_id|>', {}], ['<|eom|>', { lstrip: true, rstrip: true }]])
	write('llama3', { added_tokens: l3,
		pre_tokenizer: sequence('pretokenizers', [split({ Regex: llama('\\p{N}{1,3}') }), byteLevel({ use_regex: false })]),
		post_processor: sequence('processors', [byteLevel(),
			template(['<|begin_of_text|>'], ['<|eot_id|>'], Object.fromEntries(l3.map((t) => [t.content, t.id])))]),
		decoder: byteLevel() }, { ...model, vocab: vocab3, ignore_merges: true })
	write('qwen2', { added_tokens: addAll(vocab, [['<|im_start|>', {}], ['<|im_end|>', {}],
		['<tool_call>', { special: false }], ['é!', { special: false, normalized: true }]]),
		normalizer: { type: 'NFC' },
		pre_tokenizer: sequence('pretokenizers', [split({ Regex: llama('\\p{N}') }), byteLevel({ use_regex: false })]),
		post_processor: byteLevel({ use_regex: false }), decoder: byteLevel() },
	{ vocab, merges: byteMerges, continuing_subword_prefix: '', end_of_word_suffix: '' })
	write('odd-bytes', { added_tokens: addAll(vocab, [['<x>', { normalized: true, special: false }]]),
		normalizer: sequence('normalizers', [{ type: 'NFC' }, { type: 'Replace', pattern: { Regex: '\\d{2,}' }, content: '#' },
			{ type: 'Replace', pattern: { String: 'ab' }, content: '' }]),
		pre_tokenizer: sequence('pretokenizers', [split({ Regex: '\\p{N}{1,3}' }),
			split({ Regex: '[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+' }, 'Contiguous'),
			split({ String: '--' }, 'MergedWithPrevious'), split({ Regex: '[,;]\\s*' }, 'MergedWithNext'),
			split({ Regex: '[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+' }),
			split({ Regex: '~+' }, 'Removed'), split({ Regex: '[^*]+' }, 'Removed', true), { type: 'Digits', individual_digits: false },
			byteLevel({ use_regex: false })]),
		decoder: byteLevel() }, model)
}
{
	const vocab = vocabOf(['<unk>', '<s>', '</s>', ...bytes, ...chars], blockMerges)
	const model = { vocab, merges: strings(blockMerges), unk_token: '<unk>', fuse_unk: true, byte_fallback: true }
	const three = addAll(vocab, [['<unk>', {}], ['<s>', {}], ['</s>', {}]])
	const prepend = sequence('normalizers', [{ type: 'Prepend', prepend: BLOCK },
		{ type: 'Replace', pattern: { String: ' ' }, content: BLOCK }])
	write('llama2', { added_tokens: three, normalizer: prepend, post_processor: template(['<s>'], [], vocab),
		decoder: spDecoder(true) }, model)
	write('tiny', { added_tokens: addAll(vocab, [['<s>', { normalized: true }], ['</s>', { normalized: true, rstrip: true }]]),
		normalizer: prepend, post_processor: template(['<s>'], ['</s>'], vocab), decoder: spDecoder(true) },
	{ ...model, merges: blockMerges })
	write('mistral', { added_tokens: [...three, ...addAll({ ...vocab }, [['[INST]', {}], ['[/INST]', { special: false }]])],
		pre_tokenizer: { type: 'Metaspace', replacement: BLOCK, prepend_scheme: 'first', split: false },
		decoder: spDecoder(true) }, model)
	write('metaspace', { pre_tokenizer: { type: 'Metaspace', replacement: BLOCK, add_prefix_space: true },
		decoder: { type: 'Metaspace', replacement: BLOCK, add_prefix_space: true } }, model)
	write('gemma', { added_tokens: [...three, ...addAll(vocab, [['<end_of_turn>', {}], ['<h1>', { special: false }], ['\n\n', { special: false }]])],
		normalizer: { type: 'Replace', pattern: { String: ' ' }, content: BLOCK },
		pre_tokenizer: split({ String: ' ' }, 'MergedWithPrevious'),
		post_processor: template(['<s>'], [], vocab), decoder: spDecoder(false) }, { ...model, merges: blockMerges })
	write('unknown', { added_tokens: three, normalizer: prepend }, { ...model, byte_fallback: false, fuse_unk: false })
	write('unknown-fused', { added_tokens: three, normalizer: prepend, decoder: { type: 'Fuse' } },
		{ ...model, byte_fallback: false })
}
