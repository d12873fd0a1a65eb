// Texts for comparing tokenizers: many scripts, code, emoji, odd white space and combinations that no
// one writes. Everything follows from the seed.
import { readFileSync, existsSync } from 'node:fs'

export function random(seed) { // xorshift32: a function giving whole numbers below n
	let x = seed | 0 || 1
	return (n) => {
		x ^= x << 13; x ^= x >>> 17; x ^= x << 5
		return (x >>> 0) % n
	}
}

const SENTENCES = [
	'The ledger keeps every transfer twice, once for each side, and nobody can move a coin in silence.',
	"It's what they've said: we'd better not, you're late, I'll wait and she can't; DON'T, I'M, WE'RE, they'LL.",
	'Die Größe der Bücher wächst über Nacht, während Äpfel süß schmecken.',
	"L'été dernier, nous avons mangé des crêpes à la crème près de la forêt.",
	'El niño comió piñas y bebió agua; ¿quién sabe cuántas más querrá mañana?',
	'Zażółć gęślą jaźń, a potem śpij spokojnie.',
	'Быстрый поезд идёт через лес, а ёжик несёт яблоко домой.',
	'Η γνώση είναι δύναμη, αλλά η σοφία είναι ελευθερία.',
	'השפה כותבת מימין לשמאל וגם עם נִקּוּד.',
	'اللغة العربية تُكتب من اليمين إلى اليسار، مع ٣٤٥ رقمًا.',
	'हिन्दी में क्षेत्र और ज्ञान के अक्षर जुड़ते हैं, १२३४।',
	'தமிழ் மொழி மிகவும் பழமையானது.',
	'ภาษาไทยไม่มีช่องว่างระหว่างคำ ๑๒๓',
	'中文没有空格,但是有标点符号。今天天气很好!',
	'日本語の文章はひらがなとカタカナと漢字で書かれます。ー々〆',
	'한국어는 띄어쓰기를 합니다. 값이 싸다고 했습니다.',
	'Tiếng Việt có nhiều dấu: ắ ằ ẳ ẵ ặ ế ề ể ễ ệ.',
	'ქართული ანბანი ლამაზია. Հայերեն այբուբեն։',
	'አማርኛ ፊደል ፩፪፫ ᠮᠣᠩᠭᠣᠯ བོད་ཡིག',
	'0 1 12 123 1234 12345 3.14159 1e-10 0xDEADBEEF 1,000,000 ½ ² Ⅻ ① 七',
	'for (int i = 0; i < n; i++) {\n\tif (a[i] != b[i] && c->next)\n\t\treturn -1; /* no */\n}\n',
	'def f(x: int, *args, **kw) -> "str":\n    """doc"""\n    return f"{x!r:>10}" if x else None\n\n\n',
	'SELECT a.id, COUNT(*) FROM t AS a WHERE name LIKE \'%x_y%\' GROUP BY 1;\r\n',
	'<a href="https://example.org/?q=1&amp;r=%20#top">x</a>\n<!-- no -->',
	'{"key": [1, 2.5e+3, null, true], "nested": {"a\\n": "\\u00e9"}}',
	'$ ls -la ~/src | grep -E "^d.*x$" > /dev/null 2>&1 || exit $?',
	'#include <stdio.h>\n#define MAX(a,b) ((a)>(b)?(a):(b))\n',
	'camelCaseWord snake_case_word SCREAMING_CASE kebab-case-word iPhone15ProMax v1.2.3-rc4',
	'👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ❤️ ☃ ✔️ 🤷🏿‍♀️ 🫠🪿 ⌘⌥ ♟︎',
	'∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α∧¬β = ¬(¬α∨β), ∑ᵢ xᵢ² ≤ ∞ → ℵ₀',
	'“Quotes” ‘single’ «guillemets» – en — em … ellipsis • bullet © ® ™ § ¶ † ‡',
	'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
	'----------------------------------------====================________',
	"''''' '' 's's 'S'T 're'RE 'll'Ll 'ſ '\u017f \u2019s it\u2019s o'clock rock'n'roll 'd'D'm'M 'ver 'tis",
	'ﬁ ﬂ ﬀ ŉ ǆ Ǆ ß ẞ İ ı ſ K Å Ω ﷺ ㍿ ㌔ ｆｕｌｌ　ｗｉｄｔｈ ｶﾀｶﾅ',
]
const SPACES = [' ', '  ', '   ', '        ', '\t', '\n', '\n\n', '\r\n', '\r', ' \n', '\n ', '\t\t', '\v', '\f',
	'\u0085', '\u00a0', '\u1680', '\u180e', '\u2000', '\u2003', '\u2028', '\u2029', '\u202f', '\u205f',
	'\u3000', '\u200b', '\u200d', '\ufeff', '\u001c', ' \u00a0 ', '\n\r\n', ' \t \n  ', '\u2581', '\u2581\u2581']
const RANGES = [[0x20, 0x7f], [0xa0, 0x250], [0x250, 0x370], [0x300, 0x370], [0x370, 0x530], [0x590, 0x800],
	[0x800, 0x1100], [0x1100, 0x1200], [0x1200, 0x2000], [0x2000, 0x2c00], [0x2c00, 0x3100],
	[0x3100, 0xa000], [0xa000, 0xd800], [0xac00, 0xd7a4], [0xe000, 0xf900], [0xf900, 0x10000],
	[0x10000, 0x12000], [0x12000, 0x1f000], [0x1f000, 0x1fb00], [0x1fb00, 0x33480], [0xe0000, 0x110000],
	[0x1, 0x20]]
const MARKS = ['\u0301', '\u0300', '\u0323', '\u0308', '\u0327', '\u0345', '\u0334', '\u05b0', '\u064b', '\u3099',
	'\u0e38', '\u093c', '\u20d2', '\u1ab0', '\ufe00', '\u0344', '\u0f71', '\u11a8', '\u1161']
const STARTERS = ['a', 'e', 'o', 'A', 'E', 'ä', 'ộ', 'ㅏ', '\u1100', '\u1112', '가', '각', 'か', 'ハ', 'ק', 'क', '\u0308',
	'\u212b', '\u1e9b', '\u0f72', 'c', 's', 'ş']

const DOCS = ['/usr/share/common-licenses/GPL-3', '/usr/share/common-licenses/Artistic',
	'/usr/share/perl/5.36.0/perl5db.pl', '/usr/lib/python3.11/argparse.py', '/usr/lib/python3.11/pydoc_data/topics.py',
	'/usr/include/stdio.h', '/usr/include/math.h', '/usr/share/i18n/locales/translit_combining',
	'/usr/share/i18n/locales/ja_JP', '/usr/share/i18n/locales/hi_IN']

export function makeText(rnd, specials) {
	const pick = (list) => list[rnd(list.length)]
	let out = ''
	for (let n = 1 + rnd(12); n > 0; n--) {
		switch (rnd(11)) {
		case 0: case 1: case 2: out += pick(SENTENCES); break
		case 3: { // a part of a sentence, cut anywhere between characters
			const s = [...pick(SENTENCES)], from = rnd(s.length)
			out += s.slice(from, from + 1 + rnd(20)).join('')
			break
		}
		case 4: for (let k = rnd(4); k >= 0; k--) out += pick(SPACES); break
		case 5: { // characters of one range
			const [a, b] = pick(RANGES)
			for (let k = rnd(12); k >= 0; k--) {
				const c = a + rnd(b - a)
				if (c < 0xd800 || c > 0xdfff) out += String.fromCodePoint(c)
			}
			break
		}
		case 6: for (let k = rnd(6); k >= 0; k--) out += pick(STARTERS) + (rnd(3) ? pick(MARKS) : '') +
			(rnd(3) ? '' : pick(MARKS)); break
		case 7: { // characters of any range
			for (let k = rnd(10); k >= 0; k--) {
				const [a, b] = pick(RANGES), c = a + rnd(b - a)
				if (c < 0xd800 || c > 0xdfff) out += String.fromCodePoint(c)
			}
			break
		}
		case 8: out += pick(SPACES) + String(rnd(1000000000)).slice(0, 1 + rnd(9)) + pick(SPACES); break
		case 9: out += rnd(2) ? ' ' : pick(SPACES); break
		case 10:
			if (specials.length && !rnd(3)) {
				if (!rnd(3)) out += pick(SPACES)
				out += pick(specials)
				if (!rnd(3)) out += pick(SPACES)
			} else out += pick(["'", "'s", '<', '<|', '|>', '</s', '##', '::', '\\n', '%s', '0x', '...'])
		}
	}
	return out
}

export function* documents(bytes) { // pieces of about 2,000 characters of texts of the system
	for (const path of DOCS) {
		if (!existsSync(path)) continue
		const text = readFileSync(path, 'utf8').replaceAll('\ufffd', '?')
		for (let i = 0; i < text.length && bytes > 0; i += 2000) {
			const piece = text.slice(i, i + 2000).toWellFormed?.() ?? text.slice(i, i + 2000)
			bytes -= Buffer.byteLength(piece)
			yield piece
		}
		if (bytes <= 0) return
	}
}
export const sentences = SENTENCES
