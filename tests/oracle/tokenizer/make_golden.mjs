// Writes what the oracle makes of a tokenizer.json and the corpus, one JSON array a line:
//   [text, with template?, ids, decoded with specials, decoded without]   (decoded null: the text)
//   [null, false, ids, decoded, decoded]                                   (ids drawn at random)
// usage: node make_golden.mjs TOKENIZER.json OUT.jsonl BYTES SEED [documents]
import { createRequire } from 'node:module'
import { readFileSync, writeFileSync } from 'node:fs'
import { documents, makeText, random } from './corpus.mjs'
const require = createRequire((process.env.OL_ORACLE_DIR ?? import.meta.dirname) + '/')
const { Tokenizer } = require('@anush008/tokenizers')

const [path, out, bytesText, seedText, docs] = process.argv.slice(2)
const json = JSON.parse(readFileSync(path, 'utf8'))
json.truncation = json.padding = null
const tok = Tokenizer.fromString(JSON.stringify(json))
const rnd = random(Number(seedText))
let specials = (json.added_tokens ?? []).map((t) => t.content)
if (specials.length > 400) specials = specials.filter((_, i) => i % 37 === 0 || i < 60)
const idMax = tok.getVocabSize(true)
const lines = []
const same = (a, b) => (a === b ? null : a)

async function addText(text) {
	const withTemplate = rnd(4) === 0
	const enc = await tok.encode(text, null, { addSpecialTokens: withTemplate })
	const ids = enc.getIds()
	lines.push(JSON.stringify([text, withTemplate, ids, same(await tok.decode(ids, false), text),
		same(await tok.decode(ids, true), text)]))
}
let total = 0
for (const edge of ['', ' ', '  ', 'a', '\n', ' a', 'a ', "'", '\u0301', '\u2581', ...specials.slice(0, 3)])
	await addText(edge)
while (total < Number(bytesText)) {
	const text = makeText(rnd, specials)
	total += Buffer.byteLength(text)
	await addText(text)
	if (rnd(4) === 0) {
		const ids = []
		for (let n = 1 + rnd(12); n > 0; n--) ids.push(rnd(rnd(2) ? Math.min(idMax, 600) : idMax + 3))
		lines.push(JSON.stringify([null, false, ids, await tok.decode(ids, false), await tok.decode(ids, true)]))
	}
}
if (docs)
	for (const text of documents(Number(docs))) {
		total += Buffer.byteLength(text)
		await addText(text)
	}
writeFileSync(out, JSON.stringify({ tokenizer: path }) + '\n' + lines.join('\n') + '\n')
console.log(`${out}: ${lines.length} records, ${total} bytes of text`)
