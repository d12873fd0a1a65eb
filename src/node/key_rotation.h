/* node/key_rotation.h, floor 4: the node's key gives way to a new one, with the node stopped.
 *
 *     HOME/signer.next    the new key, signed for by the old one    event in the log
 *                         both sign the checkpoint that covers it   published
 *     HOME/signer.ready   (renamed: from here on it cannot fail)
 *     HOME/signer         the new key; the old one stays beside it as node.key.ID
 *
 * Broken off anywhere, it is done again by the same call: before `ready` the log still goes by the
 * old key, after it by the new one. */
#ifndef OL_NODE_KEY_ROTATION_H
#define OL_NODE_KEY_ROTATION_H

#include "node/ledger_home.h"

/* How signers are started: ol_signer_start, or a test's way. */
typedef enum ol_status ol_signer_starter(struct ol_signer **signer_out, const char *folder,
					 const char *program, struct ol_error *err);

/* NOT_FOUND: there is no key yet. IO: among others, the node is running. */
OL_MUST_CHECK enum ol_status ol_key_rotate(struct ol_note_key *new_key, const struct ol_home *home,
					   ol_signer_starter *start, struct ol_error *err);

#endif
