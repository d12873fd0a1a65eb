// Writes src/model/unicode_table.c: the character classes and canonical compositions that the Hugging
// Face tokenizers library works with. They are read off the library itself (through its patterns,
// added tokens and normalizers), so that ours follow the same Unicode versions as the oracle:
// its pattern engine and its normalizer do not use the same one.
// usage: node make_unicode.mjs OUTPUT.c   (after npm ci in the folder given by OL_ORACLE_DIR)
import { createRequire } from 'node:module'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
const require = createRequire((process.env.OL_ORACLE_DIR ?? import.meta.dirname) + '/')
const { Tokenizer, nfcNormalizer, nfdNormalizer } = require('@anush008/tokenizers')

const SPACE = 1, LETTER = 2, NUMBER = 4, WORD = 8, NFC_LOOK = 16
const all = []
for (let c = 1; c < 0x110000; c++)
	if (c < 0xd800 || c > 0xdfff)
		all.push(c)
const flags = new Uint8Array(0x110000)

const base = (extra) => JSON.stringify({
	version: '1.0', truncation: null, padding: null, added_tokens: [], normalizer: null,
	pre_tokenizer: null, post_processor: null, decoder: null,
	model: { type: 'BPE', vocab: {}, merges: [] }, ...extra
})

// Every code point in which `pattern` matches, asked in blocks separated by nothing: the pieces of an
// isolating split that the pattern itself matches consist of matching characters only.
function matching(pattern, list = all) {
	const tok = Tokenizer.fromString(base({
		pre_tokenizer: { type: 'Split', pattern: { Regex: pattern }, behavior: 'Removed', invert: false }
	}))
	const pre = tok.getPreTokenizer()
	const found = new Set(list)
	for (let i = 0; i < list.length; i += 4096) {
		const text = String.fromCodePoint(...list.slice(i, i + 4096))
		for (const [piece] of pre.preTokenizeString(text))
			for (const ch of piece)
				found.delete(ch.codePointAt(0))
	}
	return found
}
for (const c of matching('\\p{L}')) flags[c] |= LETTER
for (const c of matching('\\p{N}')) flags[c] |= NUMBER
for (const c of matching('\\s')) flags[c] |= SPACE

// A single_word added token is not matched beside a word character.
{
	const tok = Tokenizer.fromString(base({
		added_tokens: [{ id: 0, content: '\u0001', single_word: true, lstrip: false, rstrip: false,
			normalized: false, special: false }]
	}))
	for (let i = 0; i < all.length; i += 4096) {
		const block = all.slice(i, i + 4096)
		const text = block.map((c) => String.fromCodePoint(c) + '\u0001').join(' ')
		const enc = await tok.encode(text, null, { addSpecialTokens: false })
		const seen = new Set(enc.getOffsets().map(([b]) => Math.floor(b / 3)))
		block.forEach((c, k) => { if (!seen.has(k)) flags[c] |= WORD })
	}
}

// Canonical decompositions, classes and compositions.
const nfd = nfdNormalizer(), nfc = nfcNormalizer()
const lines = (normalizer, texts) => {
	const out = []
	for (let i = 0; i < texts.length; i += 4096)
		out.push(...normalizer.normalizeString(texts.slice(i, i + 4096).join('\n')).split('\n'))
	return out
}
const chars = all.filter((c) => c !== 10)
const D = lines(nfd, chars.map((c) => String.fromCodePoint(c)))
const C = lines(nfc, chars.map((c) => String.fromCodePoint(c)))
const hangul = (c) => c >= 0xac00 && c < 0xac00 + 11172
const decompositions = new Map()
chars.forEach((c, i) => {
	if (!hangul(c) && D[i] !== String.fromCodePoint(c))
		decompositions.set(c, [...D[i]].map((x) => x.codePointAt(0)))
})
// Canonical combining classes only up to order: characters that move in front of a known mark, or
// behind one. 230 (U+0301) and 1 (U+0334) bound almost all classes from both sides.
const moves = (a, b) => { // pairs "x a_i b_i": true where the two marks change places
	const texts = a.map((x, i) => 'x' + String.fromCodePoint(x) + String.fromCodePoint(b[i]))
	return lines(nfd, texts).map((t, i) => t !== texts[i])
}
const plain = chars.filter((c) => !hangul(c) && !decompositions.has(c))
const repeat = (c, n) => new Array(n).fill(c)
const m1 = moves(plain, repeat(0x0334, plain.length)) // moved in front of class 1: class > 1
const m2 = moves(repeat(0x0345, plain.length), plain) // moved in front of class 240: 0 < class < 240
const marks = plain.filter((c, i) => m1[i] || m2[i])
// Among marks the relation "a b changes places" is class(a) > class(b): rank by insertion.
const classes = [] // ascending lists of characters of one class
for (const c of marks) {
	let placed = false
	for (let k = 0; k < classes.length && !placed; k++) {
		const r = classes[k][0]
		const [after] = moves([c], [r]), [before] = moves([r], [c])
		if (!after && !before) { classes[k].push(c); placed = true }
		else if (before) { classes.splice(k, 0, [c]); placed = true }
	}
	if (!placed) classes.push([c])
}
const rank = new Map()
classes.forEach((list, k) => list.forEach((c) => rank.set(c, k + 1)))

const compositions = []
chars.forEach((c, i) => {
	const d = decompositions.get(c)
	if (!d || C[i] !== String.fromCodePoint(c) || d.length < 2)
		return
	const head = [...nfc.normalizeString(String.fromCodePoint(...d.slice(0, -1)))]
	if (head.length !== 1)
		throw new Error('no pair composes to ' + c.toString(16))
	compositions.push([head[0].codePointAt(0), d[d.length - 1], c])
})
compositions.sort((a, b) => a[0] - b[0] || a[1] - b[1])
chars.forEach((c, i) => { if (C[i] !== String.fromCodePoint(c)) flags[c] |= NFC_LOOK })
for (const c of rank.keys()) flags[c] |= NFC_LOOK
for (const [, second] of compositions) flags[second] |= NFC_LOOK
for (let c = 0x1161; c <= 0x1175; c++) flags[c] |= NFC_LOOK
for (let c = 0x11a8; c <= 0x11c2; c++) flags[c] |= NFC_LOOK

// PCRE2 10.42 follows Unicode 14 (as does Debian 12's Python, which is asked here). What has become a
// character since then is listed with its general category, for patterns that PCRE2 runs.
const newer = []
{
	const known = execFileSync('/usr/bin/python3', ['-c',
		'import sys, unicodedata as u\nassert u.unidata_version == "14.0.0"\n' +
		'sys.stdout.write("".join("01"[u.category(chr(c)) != "Cn"] for c in range(0x110000)))'],
	{ maxBuffer: 1 << 24 }).toString()
	const category = new Map(), candidates = all.filter((c) => c < 0x40000 && known[c] === '0')
	for (const name of ['Lu', 'Ll', 'Lt', 'Lm', 'Lo', 'Mn', 'Mc', 'Me', 'Nd', 'Nl', 'No', 'Pc', 'Pd', 'Ps',
		'Pe', 'Pi', 'Pf', 'Po', 'Sm', 'Sc', 'Sk', 'So', 'Zs', 'Cf'])
		for (const c of matching(`\\p{${name}}`, candidates))
			category.set(c, name)
	for (const [c, name] of [...category].sort((a, b) => a[0] - b[0])) {
		const last = newer[newer.length - 1]
		if (last && last[1] === c - 1 && last[2] === name) last[1] = c
		else newer.push([c, c, name])
	}
}

// Output.
const blocks = new Map(), index = []
for (let b = 0; b < 0x110000; b += 128) {
	const key = flags.slice(b, b + 128).join(',')
	if (!blocks.has(key)) blocks.set(key, blocks.size)
	index.push(blocks.get(key))
}
// A run of equal blocks at the end is left out: beyond the index everything has no flag.
while (index.length && [...blocks.keys()][index[index.length - 1]].match(/^[0,]+$/)) index.pop()
if (blocks.size > 255) throw new Error('the index needs 16 bits')
const wrap = (items) => {
	let out = '', line = '\t'
	for (const item of items) {
		const add = item + ','
		if (line.length + add.length > 92) { out += line.trimEnd() + '\n'; line = '\t' }
		line += add
	}
	return out + line.trimEnd() + '\n'
}
const hex = (c) => '0x' + c.toString(16)
let out = `/* model/unicode_table.c: written by tests/oracle/tokenizer/make_unicode.mjs; do not edit. */
#include "model/unicode.h"

const uint16_t ol_unicode_blocks = ${index.length};
const uint8_t ol_unicode_index[${index.length}] = {\n${wrap(index.map(String))}};

/* Bits 0-4 of a character are the flags of a code point. */
const char ol_unicode_flags[${blocks.size}][129] = {\n`
const letters = (values) => '"' + values.map((f) => String.fromCharCode(64 | f)).join('')
	.replaceAll('\\', '\\\\') + '"'
out += [...blocks.keys()].map((k) => k.split(',').map(Number)).map((v) =>
	'\t' + letters(v.slice(0, 64)) + '\n\t' + letters(v.slice(64)) + ',\n').join('')
out += '};\n\n'
const pool = []
const dec = [...decompositions.entries()].sort((a, b) => a[0] - b[0]).map(([c, d]) => {
	const entry = `{${hex(c)},${pool.length},${d.length}}`
	pool.push(...d)
	return entry
})
out += `const uint16_t ol_unicode_decomposition_count = ${dec.length};\n`
out += `const struct ol_unicode_decomposition ol_unicode_decompositions[${dec.length}] = {\n${wrap(dec)}};\n\n`
out += `const uint32_t ol_unicode_decomposed[${pool.length}] = {\n${wrap(pool.map(hex))}};\n\n`
const ranks = [...rank.entries()].sort((a, b) => a[0] - b[0])
const ranges = []
for (const [c, r] of ranks) {
	const last = ranges[ranges.length - 1]
	if (last && last[1] === c - 1 && last[2] === r) last[1] = c
	else ranges.push([c, c, r])
}
out += `const uint16_t ol_unicode_mark_count = ${ranges.length};\n`
out += `const struct ol_unicode_mark ol_unicode_marks[${ranges.length}] = {\n`
out += wrap(ranges.map(([a, b, r]) => `{${hex(a)},${hex(b)},${r}}`)) + '};\n\n'
out += `const uint16_t ol_unicode_composition_count = ${compositions.length};\n`
out += `const struct ol_unicode_composition ol_unicode_compositions[${compositions.length}] = {\n`
out += wrap(compositions.map((t) => '{' + t.map(hex).join(',') + '}')) + '};\n'
out += `\nconst uint16_t ol_unicode_newer_count = ${newer.length};\n`
out += `const struct ol_unicode_newer ol_unicode_newer[${newer.length}] = {\n`
out += wrap(newer.map(([a, b, name]) => `{${hex(a)},${hex(b)},"${name}"}`)) + '};\n'
writeFileSync(process.argv[2], out)
console.log(`${index.length} blocks of which ${blocks.size} differ, ${dec.length} decompositions, ` +
	`${classes.length} classes of ${marks.length} marks, ${compositions.length} compositions`)
