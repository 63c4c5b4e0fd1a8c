// Package password owns what is done with passwords: hashing them, verifying
// them against our own and imported hashes, bounding how much of the machine
// that may take, and the rules a new password must pass. It does not own who
// has which hash (account), how often somebody may try (login), nor where a
// hash is stored.
//
// New hashes are argon2id in PHC string form,
//
//	$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH
//
// with 16 bytes of salt and 32 of hash, both unpadded standard base64.
//
// Hashes of other systems are verified as they are and reported as stale, so
// that a login can replace them. These spellings are understood:
//
//	$argon2id$v=19$m=KIB,t=N,p=N$SALT$HASH          also $argon2i$
//	$2a$COST$...  $2b$COST$...  $2y$COST$...        bcrypt
//	$scrypt$ln=N,r=N,p=N$SALT$HASH                  ln is log2 of N
//	$fbscrypt$v=1,n=MEM_COST,r=ROUNDS,p=1,ss=SALT_SEPARATOR,sk=SIGNER_KEY$SALT$HASH
//	$firebase-scrypt$...                            the same under another name
//	$pbkdf2$i=N$SALT$HASH                           SHA-1; also $pbkdf2-sha1$
//	$pbkdf2-sha256$i=N$SALT$HASH                    also $pbkdf2-sha512$; "i=" may be left out
//	pbkdf2_sha256$N$SALT$HASH                       Django; also pbkdf2_sha1; its salt is plain text
//
// Base64 may be padded, of the URL alphabet, or with "." for "+" (passlib).
// In the Firebase form, mem_cost, rounds, base64_salt_separator and
// base64_signer_key are the project's password hash parameters; salt and
// passwordHash come from the exported user.
//
// Passwords are bytes: nothing is trimmed, normalised or cut, with one
// exception. bcrypt has only ever looked at the first 72 bytes, so that is
// what an imported bcrypt hash is checked against.
package password
