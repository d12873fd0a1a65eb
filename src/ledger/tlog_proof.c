/* The text form of proofs: c2sp.org/tlog-proof. */
#include "crypto/text.h"
#include "ledger/proof.h"

#include <inttypes.h>
#include <string.h>

static const char head[] = "c2sp.org/tlog-proof@v1\n";
enum { HASH_LINE = OL_BASE64_LENGTH(OL_MERKLE_BYTES) };

bool ol_proof_print(struct ol_buf *out, const struct ol_proof *proof)
{
	bool fits = true;
	for (uint32_t i = 0; i < proof->count; i++)
		fits = ol_base64_append(out, proof->hashes[i], OL_MERKLE_BYTES) &&
		       ol_buf_append_text(out, "\n") && fits;
	return fits;
}

enum ol_status ol_proof_parse(struct ol_proof *proof, const char **text, const char *end,
			      struct ol_error *err)
{
	proof->count = 0;
	while (*text < end && **text != '\n') {
		if (proof->count == OL_PROOF_HASHES_MAX - 1)
			return ol_fail(err, OL_ERR_INPUT,
				       "a proof of more than %d hashes: no tree is that high",
				       OL_PROOF_HASHES_MAX - 1);
		if (end - *text < HASH_LINE + 1 || (*text)[HASH_LINE] != '\n' ||
		    !ol_base64_parse_exact(proof->hashes[proof->count], OL_MERKLE_BYTES, *text,
					   HASH_LINE))
			return ol_fail(err, OL_ERR_INPUT,
				       "hash %" PRIu32 " of the proof is not a line of base64 of "
				       "%d bytes",
				       proof->count + 1, OL_MERKLE_BYTES);
		proof->count++;
		*text += HASH_LINE + 1;
	}
	if (*text >= end)
		return ol_fail(err, OL_ERR_INPUT, "the proof ends before its empty line");
	return OL_OK;
}

/* "word rest\n": gives the rest and steps over the line. */
static bool take_line(const char **rest, size_t *length, const char **text, const char *end,
		      const char *word)
{
	const size_t word_length = strlen(word);
	if ((size_t)(end - *text) < word_length || memcmp(*text, word, word_length) != 0)
		return false;
	const char *stop = memchr(*text, '\n', (size_t)(end - *text));
	if (!stop)
		return false;
	*rest = *text + word_length;
	*length = (size_t)(stop - *rest);
	*text = stop + 1;
	return true;
}

enum ol_status ol_tlog_proof_parse(struct ol_tlog_proof *proof, const char *text, size_t size,
				   struct ol_error *err)
{
	const char *end = text + size, *rest;
	size_t length;
	memset(proof, 0, sizeof *proof);
	if (size > OL_TLOG_PROOF_BYTES_MAX)
		return ol_fail(err, OL_ERR_INPUT,
			       "a proof of %zu bytes is larger than the limit, %d", size,
			       OL_TLOG_PROOF_BYTES_MAX);
	if (size < sizeof head - 1 || memcmp(text, head, sizeof head - 1) != 0)
		return ol_fail(err, OL_ERR_INPUT,
			       "this is no proof: its first line must be \"%.22s\"", head);
	text += sizeof head - 1;
	if (take_line(&rest, &length, &text, end, "extra ")) {
		/* The base64 is checked without keeping the bytes: four characters at a time. */
		uint8_t bytes[3];
		size_t got = 0;
		bool good = length % 4 == 0 && length <= OL_BASE64_LENGTH(OL_TLOG_PROOF_EXTRA_MAX);
		for (size_t i = 0; good && i < length; i += 4)
			good = ol_base64_parse(bytes, sizeof bytes, &got, rest + i, 4) &&
			       (got == 3 || i + 4 == length);
		if (!good)
			return ol_fail(err, OL_ERR_INPUT,
				       "the extra line of the proof is not base64 of at most %d "
				       "bytes",
				       OL_TLOG_PROOF_EXTRA_MAX);
		proof->extra = rest;
		proof->extra_length = length;
	}
	if (!take_line(&rest, &length, &text, end, "index ") ||
	    !ol_decimal_parse(&proof->index, rest, length, OL_TREE_SIZE_MAX))
		return ol_fail(err, OL_ERR_INPUT,
			       "the proof must say \"index N\", N decimal without leading zeros");
	const enum ol_status s = ol_proof_parse(&proof->inclusion, &text, end, err);
	if (s != OL_OK)
		return s;
	proof->note = text + 1;
	proof->note_size = (size_t)(end - proof->note);
	return OL_OK;
}

bool ol_tlog_proof_print(struct ol_buf *out, const void *extra, size_t extra_size, uint64_t index,
			 const struct ol_proof *inclusion, const char *note, size_t note_size)
{
	OL_ASSERT(extra_size <= OL_TLOG_PROOF_EXTRA_MAX);
	bool fits = ol_buf_append_text(out, head);
	if (extra)
		fits = ol_buf_append_text(out, "extra ") &&
		       ol_base64_append(out, extra, extra_size) && ol_buf_append_text(out, "\n") &&
		       fits;
	return ol_buf_printf(out, "index %" PRIu64 "\n", index) && ol_proof_print(out, inclusion) &&
	       ol_buf_append_text(out, "\n") && ol_buf_append(out, note, note_size) && fits;
}

enum ol_status ol_log_policy_check(const struct ol_log_policy *policy,
				   struct ol_tlog_proof_result *result, const char *note_bytes,
				   size_t note_size, struct ol_error *err)
{
	struct ol_note note;
	memset(result, 0, sizeof *result);
	const enum ol_status s = ol_log_checkpoint_open(&result->checkpoint, &note, note_bytes,
							note_size, policy->log, err);
	if (s != OL_OK)
		return s;
	for (uint32_t i = 0; i < policy->witness_count; i++) {
		uint64_t time;
		switch (ol_note_check(&note, &policy->witnesses[i], &time)) {
		case OL_NOTE_SIGNED:
			result->cosigned++;
			result->latest_cosigned = OL_MAX(result->latest_cosigned, time);
			break;
		case OL_NOTE_UNSIGNED: break;
		case OL_NOTE_FORGED:
			return ol_fail(err, OL_ERR_INPUT,
				       "the cosignature of the witness \"%s\" under the checkpoint "
				       "is wrong",
				       policy->witnesses[i].name);
		}
	}
	if (result->cosigned < policy->quorum)
		return ol_fail(err, OL_ERR_INPUT,
			       "%" PRIu32
			       " of the known witnesses cosigned the checkpoint, %" PRIu32
			       " are asked for",
			       result->cosigned, policy->quorum);
	return OL_OK;
}

enum ol_status ol_tlog_proof_verify(const struct ol_tlog_proof *proof,
				    const uint8_t leaf[OL_MERKLE_BYTES],
				    const struct ol_log_policy *policy,
				    struct ol_tlog_proof_result *result, struct ol_error *err)
{
	struct ol_tlog_proof_result own;
	if (!result)
		result = &own;
	const enum ol_status s =
		ol_log_policy_check(policy, result, proof->note, proof->note_size, err);
	if (s != OL_OK)
		return s;
	if (proof->index >= result->checkpoint.size)
		return ol_fail(err, OL_ERR_INPUT,
			       "the proof is for entry %" PRIu64 ", the checkpoint covers %" PRIu64
			       " entries",
			       proof->index, result->checkpoint.size);
	if (!ol_inclusion_verify(&proof->inclusion, leaf, proof->index, result->checkpoint.size,
				 result->checkpoint.root))
		return ol_fail(err, OL_ERR_INPUT,
			       "the entry is not the one with index %" PRIu64
			       " in the log, or the proof was changed: hashing upwards does not "
			       "lead to the root of the checkpoint",
			       proof->index);
	return OL_OK;
}
