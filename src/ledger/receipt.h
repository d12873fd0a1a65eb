/* ledger/receipt.h, floor 2: the receipt of one inference.
 *
 *     request ──┐                                        ┌─> leaf of the public log
 *     response ─┼─ commitments ─> receipt ─ node signs ──┤
 *     models, settings, price, split ─────┘              └─> to the caller, with the opening
 *
 * A receipt says what was answered, by which weights, under which arithmetic, what it cost and who
 * earns: enough for anyone who holds the opening to compute every number on it again. It holds no
 * prompt and no answer, only salted commitments to them. Its id is its leaf hash; the node signs
 * all bytes before the signature.
 *
 * Bytes (docs/FORMATS.md, "Receipts"): struct ol_receipt, then `parts` times struct
 * ol_receipt_part in the order of their parties, then the signature. Version 1 is 0-draft like the
 * arithmetic until that is frozen. */
#ifndef OL_LEDGER_RECEIPT_H
#define OL_LEDGER_RECEIPT_H

#include "base/buf.h"
#include "ledger/event.h"
#include "ledger/price.h"

enum { OL_SALT_BYTES = 32, OL_SIGNATURE_BYTES = 64, OL_RECEIPT_CHOICES_MAX = 1024 };

enum ol_seed_rule {
	OL_SEED_CLIENT = 0,    /* as the request said                                        */
	OL_SEED_CHECKPOINT = 1 /* ol_receipt_seed: the node could not choose it              */
};

/* What was done; append-only. */
enum ol_receipt_work {
	OL_WORK_ANSWERS = 0,
	OL_WORK_EMBEDDINGS =
		1 /* each choice's "tokens" are the numbers of its vector, as f32 bits */
};

/* How the tokens were drawn (model/sampler.h). All of it stands on the receipt. */
struct ol_receipt_sampling {
	uint64_t seed;
	float temperature, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
	int32_t top_k;
	uint32_t max_tokens; /* 0: as many as there is room for     */
	uint32_t room;       /* positions of prompt and answer together */
	uint32_t choices;    /* n, to each prompt */
	uint8_t seed_rule, ignore_eos, strip_lead_space, zero[5];
};
_Static_assert(sizeof(struct ol_receipt_sampling) == 56, "receipt v1");

struct ol_receipt {
	struct ol_event_head head;
	uint8_t node[32]; /* Ed25519 public key of the signer */
	/* What was asked and what came (ol_receipt_commit_*). */
	uint8_t request[32], response[32];
	/* What answered. Zero: none. base: the model's id, which holds config and tokenizer. */
	uint8_t base[32], adapter[32], tokenizer[32];
	uint8_t snapshot[32], index[32]; /* the adapter's data, and its attribution index */
	char arithmetic[16];             /* NUL-padded                                      */
	uint32_t kv_type;                /* what the cache holds: 0 f32, 1 bf16 */
	uint16_t work;                   /* enum ol_receipt_work                            */
	uint16_t prompts;                /* of the request, 1 or more                       */
	/* The newest checkpoint when the request came: the seed may depend on it. */
	uint64_t checkpoint_size;
	uint8_t checkpoint_root[32];
	struct ol_receipt_sampling sampling;
	uint32_t prompt_tokens, completion_tokens; /* the latter over all choices */
	/* What it cost. */
	uint8_t listing[32];      /* id of the price in force                              */
	uint8_t payer[32];        /* pseudonym within the epoch (ol_receipt_pseudonym)      */
	struct ol_id reservation; /* the transfer whose money this is                     */
	uint64_t epoch;           /* hours since 1970                                     */
	struct ol_amount price;
	uint32_t currency; /* enum ol_currency                                          */
	uint32_t parts;    /* at most OL_PARTIES                                          */
	/* Who shaped it: root of the share table; zero: all of the data's part is the Datanet's. */
	uint8_t shares[32];
};
_Static_assert(sizeof(struct ol_receipt) == 536, "receipt v1");

struct ol_receipt_part {
	struct ol_account_key account;
	struct ol_id transfer;
	struct ol_amount amount;
	uint32_t party; /* enum ol_party, ascending */
	uint32_t ppm;
};
_Static_assert(sizeof(struct ol_receipt_part) == 64, "receipt v1");

enum {
	OL_RECEIPT_MAX = sizeof(struct ol_receipt) + OL_PARTIES * sizeof(struct ol_receipt_part) +
			 OL_SIGNATURE_BYTES
};

/* Everything that shapes an answer and may be private stands in the opening. */
struct ol_opening_bias {
	int32_t token;
	float bias;
};
struct ol_opening_text {
	const char *bytes;
	size_t size;
};
struct ol_opening_prompt {
	const int32_t *tokens;
	size_t count;
};
struct ol_opening_choice {
	const int32_t *tokens; /* without the token that ended it */
	size_t count;
	uint32_t finish; /* 0 stop, 1 length, 2 cancelled */
};
/* Borrowed arrays. */
struct ol_opening {
	uint8_t salt[OL_SALT_BYTES];
	const struct ol_opening_prompt *prompts;
	size_t prompt_count;
	const struct ol_opening_text *stops;
	size_t stop_count;
	const struct ol_opening_bias *bias; /* ascending by token */
	size_t bias_count;
	struct ol_opening_text grammar;          /* the schema as it was compiled; size 0: none */
	const struct ol_opening_choice *choices; /* those to the first prompt, to the second, … */
	size_t choice_count;
};
/* False: out of memory. */
OL_MUST_CHECK bool ol_receipt_commit_request(uint8_t out[32], const struct ol_opening *opening);
OL_MUST_CHECK bool ol_receipt_commit_response(uint8_t out[32], const struct ol_opening *opening);
/* Of a request that brings no seed: H(checkpoint, request), so that nobody can try seeds until he
 * likes the answer. Below 2^53, so that every reader of JSON can hold it. */
uint64_t ol_receipt_seed(uint64_t checkpoint_size, const uint8_t checkpoint_root[32],
			 const uint8_t request[32]);
/* Who paid, to those who hold `secret`; to others a number that changes every epoch. */
void ol_receipt_pseudonym(uint8_t out[32], const uint8_t secret[32], uint64_t epoch,
			  const struct ol_account_key *account);
uint64_t ol_receipt_epoch(uint64_t time_ms);

/* What the signature is over: everything before it. parts: receipt->parts of them. */
void ol_receipt_write(struct ol_buf *bytes, const struct ol_receipt *receipt,
		      const struct ol_receipt_part *parts);

/* Every way in which bytes may fail to be a receipt; one test row each. */
enum ol_receipt_fault {
	OL_RECEIPT_WELL,
	OL_RECEIPT_SIZE,       /* too short, too long, or not what `parts` says     */
	OL_RECEIPT_KIND,       /* not a receipt, or of another version              */
	OL_RECEIPT_ARITHMETIC, /* it names none, or an unknown cache                */
	OL_RECEIPT_WORK,       /* unknown work, no prompt, or too many answers          */
	OL_RECEIPT_SAMPLING,   /* a setting out of its range, or not a number        */
	OL_RECEIPT_EPOCH,      /* not the epoch of its time                          */
	OL_RECEIPT_CURRENCY,   /* none that there is                                */
	OL_RECEIPT_ORDER,      /* parts not ascending by party, or of no known party   */
	OL_RECEIPT_ACCOUNTS,   /* an account that is none, of another currency, or not the pot  */
	OL_RECEIPT_PPM,        /* parts that are not a million together             */
	OL_RECEIPT_SPLIT,      /* amounts that are not the split of the price        */
	OL_RECEIPT_FREE,       /* without parts, but with a price or a listing        */
	OL_RECEIPT_SEED        /* said to follow from the checkpoint, but does not   */
};
const char *ol_receipt_fault_text(enum ol_receipt_fault fault);

/* Reads and checks all that the bytes alone can tell; not the signature. parts: OL_PARTIES
 * places. */
enum ol_receipt_fault ol_receipt_read(struct ol_receipt *receipt, struct ol_receipt_part *parts,
				      const uint8_t *bytes, size_t size);
/* The arithmetic of the split: fills in the amounts of parts that hold account and ppm (together
 * OL_PPM). Ties go by hash(request commitment, account): nobody gains by choosing an address. */
void ol_receipt_split(const struct ol_receipt *receipt, struct ol_receipt_part *parts);
/* The parts that a listing asks for, without amounts and transfers, into parts (OL_PARTIES places):
 * a party with no share is left out, and while nobody stakes the stakers' share is the data's. The
 * receipt's base, adapter, epoch and currency say which pot that is. Sets receipt->parts. */
void ol_receipt_parts(struct ol_receipt *receipt, struct ol_receipt_part *parts,
		      const struct ol_listing *listing, bool staked);
/* Where the data's part waits for the end of the epoch. */
void ol_receipt_pot(struct ol_account_key *pot, const struct ol_receipt *receipt);

#endif
