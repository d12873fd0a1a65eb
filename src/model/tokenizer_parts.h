/* model/tokenizer_parts.h, floor 2: what a tokenizer is made of. Private to tokenizer*.c.
 *
 *   text -> added tokens cut out -> normalizers -> added tokens again -> pre-tokenizers -> BPE
 *        -> post-processor -> ids -> entries -> decoders -> text
 *
 * Every stage is a short list of steps, each a closed kind; an unknown kind refuses the
 * file. */
#ifndef OL_MODEL_TOKENIZER_PARTS_H
#define OL_MODEL_TOKENIZER_PARTS_H

#include "model/bpe.h"
#include "model/split.h"

enum {
	OL_TOKENIZER_FILE_MAX = 256 << 20,
	OL_TOKENIZER_TEXT_MAX = 256 << 20, /* bytes of one text                              */
	OL_TOKENIZER_GROWTH_MAX = 64,      /* how many times normalizers may grow a text      */
	OL_TOKENIZER_STEPS_MAX = 16,       /* of one stage                                     */
	OL_TOKENIZER_ADDED_MAX = 1 << 16,  /* added tokens                                     */
	OL_TOKENIZER_ADDED_SIZE_MAX = 1024,
	OL_TOKENIZER_TEMPLATE_MAX = 64 /* ids around a text                                  */
};

struct ol_bytes {
	char *data;
	size_t size;
};

enum ol_normalizer_kind {
	OL_NORMALIZER_NFC,
	OL_NORMALIZER_PREPEND,
	OL_NORMALIZER_PREPEND_FIRST, /* SentencePiece: only where the text begins */
	OL_NORMALIZER_REPLACE
};
struct ol_normalizer {
	enum ol_normalizer_kind kind;
	struct ol_bytes content;  /* all but NFC      */
	struct ol_split *pattern; /* REPLACE          */
};

enum ol_pretokenizer_kind {
	OL_PRETOKENIZER_SPLIT,
	OL_PRETOKENIZER_METASPACE,
	OL_PRETOKENIZER_PREFIX_SPACE /* ByteLevel with add_prefix_space, before its split */
};
enum ol_split_behavior {
	OL_SPLIT_REMOVED,
	OL_SPLIT_ISOLATED,
	OL_SPLIT_MERGED_WITH_PREVIOUS,
	OL_SPLIT_MERGED_WITH_NEXT,
	OL_SPLIT_CONTIGUOUS
};
enum ol_prepend_scheme { OL_PREPEND_NEVER, OL_PREPEND_FIRST, OL_PREPEND_ALWAYS };
struct ol_pretokenizer {
	enum ol_pretokenizer_kind kind;
	struct ol_split *pattern; /* SPLIT; METASPACE with a split: its replacement */
	enum ol_split_behavior behavior;
	bool invert;
	struct ol_bytes replacement; /* METASPACE */
	enum ol_prepend_scheme prepend;
};

enum ol_decoder_kind {
	OL_DECODER_BYTE_LEVEL,
	OL_DECODER_REPLACE,
	OL_DECODER_BYTE_FALLBACK,
	OL_DECODER_FUSE,
	OL_DECODER_STRIP,
	OL_DECODER_METASPACE
};
struct ol_decoder {
	enum ol_decoder_kind kind;
	struct ol_split *pattern; /* REPLACE */
	struct ol_bytes content;  /* REPLACE; STRIP and METASPACE: the character */
	int32_t start, stop;      /* STRIP */
	bool drop_first;          /* METASPACE: not where it opens the text */
};

/* Added tokens. Several may share an id (the last one's options count, as in the library). */
struct ol_added {
	struct ol_bytes content;
	int32_t id;
	bool single_word, lstrip, rstrip, normalized, special;
	bool blank; /* white space and nothing special: found in what users wrote, too */
};
/* Texts to find in a text, the longest at each place: a tree of bytes, siblings chained. */
struct ol_trie_node {
	int32_t child, sibling; /* -1: none */
	int32_t token;          /* index into added; -1: no text ends here */
	uint8_t byte;
};
struct ol_trie {
	struct ol_trie_node *nodes;
	size_t count, room;
	bool first[256]; /* may a text begin with this byte? */
	bool has_blank;  /* is any of its tokens blank?       */
};

struct ol_tokenizer {
	struct ol_bpe bpe;
	struct ol_normalizer normalizers[OL_TOKENIZER_STEPS_MAX];
	struct ol_pretokenizer pretokenizers[OL_TOKENIZER_STEPS_MAX];
	struct ol_decoder decoders[OL_TOKENIZER_STEPS_MAX];
	int normalizer_count, pretokenizer_count, decoder_count;
	bool byte_level;     /* ByteLevel is among the pre-tokenizers */
	bool no_decoder;     /* entries are joined with spaces        */
	bool has_regex;      /* some step needs an ol_split_work      */
	int32_t before[OL_TOKENIZER_TEMPLATE_MAX], after[OL_TOKENIZER_TEMPLATE_MAX];
	int before_count, after_count;

	struct ol_added *added; /* in the order of the file */
	size_t added_count;
	struct ol_trie raw, normalized; /* matched before and after the normalizers */

	int32_t vocab_size;         /* highest id of all + 1                              */
	struct ol_bytes *names;     /* by id: the entry, added tokens first               */
	struct ol_bytes *pieces;    /* by id: the bytes it stands for in a text            */
	uint8_t *special;           /* by id: left out by skip_special                     */
	int32_t *added_of;          /* by id: index into added, whose options count; or -1 */
	struct ol_text_table added_ids; /* content -> id                                   */
	char *piece_pool, *added_pool;
};

/* Both read a file into a tokenizer whose memory is zero. */
enum ol_status ol_tokenizer_read_json(struct ol_tokenizer *t, const char *bytes, size_t size,
				      const char *path, struct ol_error *err);
enum ol_status ol_tokenizer_read_sentencepiece(struct ol_tokenizer *t, const char *bytes,
					       size_t size, const char *path, struct ol_error *err);
/* Once everything is read: numbers the added tokens, builds tries, names and pieces. */
enum ol_status ol_tokenizer_finish(struct ol_tokenizer *t, const char *path, struct ol_error *err);

/* Copies bytes the tokenizer will own. */
bool ol_bytes_set(struct ol_bytes *bytes, const char *data, size_t size);

/* Runs the normalizers over a stretch of text. Marks as in ol_unicode_nfc. */
struct ol_stretch {
	const char *text, *marks; /* marks NULL: none */
	size_t size;
	bool opens_text;
};
enum ol_status ol_tokenizer_normalize(const struct ol_tokenizer *t, struct ol_buf *out,
				      struct ol_buf *marks_out, const struct ol_stretch *stretch,
				      struct ol_split_work *work, struct ol_error *err);
/* Runs the decoders over one entry alone, as in the middle of a text. work: where has_regex. */
bool ol_tokenizer_decode_entry(const struct ol_tokenizer *t, struct ol_split_work *work,
			       struct ol_buf *out, const char *entry, size_t size);

#endif
