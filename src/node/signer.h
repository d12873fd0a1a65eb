/* node/signer.h, floor 4: the node's key in a process of its own.
 *
 *     server ── request (one message) ──> signer: holds the key, nothing else
 *            <── signature or refusal ──          reads its key file, then locks itself in
 *
 * The key signs the log's checkpoints and the node's events; whoever breaks into the server must
 * not get it, and must not get it to lie. So the signer is another process (`openledger signer`,
 * started by the server over a socket pair), which the key never leaves, and which signs only
 *
 *   - a checkpoint of its own origin that continues the last one it signed: the request brings the
 *     consistency proof, and what was signed is durable before the signature is given. It cannot be
 *     made to sign two histories, by nobody, over restarts either;
 *   - an event of a kind for which a rule is registered, if that rule finds it well-formed. Events
 *     begin with "OLEV" and a version with a zero byte in it: no such bytes are a note's text, so
 * one
 *     kind of signature cannot stand for the other.
 *
 * After reading its files it gives up all system calls but reading and answering messages and
 * writing its state (seccomp), cannot be traced or dumped, and ends when the server's socket
 * closes. If it ends first, every call here says so and the server must stop signing.
 *
 *     FOLDER/node.key        PRIVATE+KEY+… (ledger/note.h), mode 0600
 *     FOLDER/node.state      two records of the last signed checkpoint, written in turn */
#ifndef OL_NODE_SIGNER_H
#define OL_NODE_SIGNER_H

#include "base/random.h"
#include "ledger/proof.h"

enum {
	OL_SIGNER_MESSAGE_MAX = 80 * 1024, /* of a request */
	OL_SIGNER_RULES_MAX = 16
};

/* What the signer signs beside checkpoints. `bytes` is an event without its signatures; `key` is
 * the signer's public key. False: it does not sign, and *why says so in words. */
struct ol_signer_rule {
	uint16_t event_kind; /* enum ol_event_kind */
	bool (*well_formed)(const uint8_t *bytes, size_t size, const char *origin,
			    const uint8_t key[OL_ED25519_PUBLIC_BYTES], const char **why);
};
/* The rules of this program: receipts and key events. Further ones are added to this table. */
extern const struct ol_signer_rule ol_signer_rules[];
extern const uint32_t ol_signer_rule_count;

/* Makes the key and its state in a folder that has none. origin: the log's name, which the key
 * bears. INPUT: there is a key already. */
OL_MUST_CHECK enum ol_status ol_signer_create(const char *folder, const char *origin,
					      const struct ol_random *random, struct ol_error *err);
/* Is there a key? */
bool ol_signer_exists(const char *folder);

/* ---- The server's side. Events may be signed from any thread, checkpoints from one. ---- */

struct ol_signer;

/* Starts the signer and waits until it has locked itself in. program: what to run as
 * `PROGRAM signer FOLDER FD`; NULL: this program again (/proc/self/exe). */
OL_MUST_CHECK enum ol_status ol_signer_start(struct ol_signer **signer_out, const char *folder,
					     const char *program, struct ol_error *err);
/* The same over a socket whose other end ol_signer_serve has; pid 0: none to wait for. Takes the
 * socket. */
OL_MUST_CHECK enum ol_status ol_signer_attach(struct ol_signer **signer_out, int socket, int pid,
					      struct ol_error *err);
/* Ends the signer and waits for it. */
void ol_signer_stop(struct ol_signer *signer);

/* The log's verifier key; its name is the origin. */
const struct ol_note_key *ol_signer_key(const struct ol_signer *signer);
/* Size and root of the last checkpoint it signed: the proof of the next one starts there. */
const struct ol_log_checkpoint *ol_signer_last(const struct ol_signer *signer);
/* Readable (hang-up) when the signer has died; for poll. */
int ol_signer_socket(const struct ol_signer *signer);

/* Signs a checkpoint and appends it as a note: text and signature line. consistency: from
 * ol_signer_last to it. INPUT: refused, with the signer's reason; IO: the signer is dead or its
 * disk failed, and nothing more can be signed. */
OL_MUST_CHECK enum ol_status ol_signer_checkpoint(struct ol_signer *signer, struct ol_buf *note,
						  const struct ol_log_checkpoint *checkpoint,
						  const struct ol_proof *consistency,
						  struct ol_error *err);
/* Signs an event's bytes. */
OL_MUST_CHECK enum ol_status ol_signer_event(struct ol_signer *signer,
					     uint8_t signature_out[OL_ED25519_SIGNATURE_BYTES],
					     const void *bytes, size_t size, struct ol_error *err);

/* ---- The signer's side ---- */

/* Reads the folder's key and state, locks itself in, answers until the socket closes. */
OL_MUST_CHECK enum ol_status ol_signer_serve(int socket, const char *folder,
					     const struct ol_signer_rule *rules,
					     uint32_t rule_count, struct ol_error *err);

#endif
