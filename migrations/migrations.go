// Package migrations holds the schema of both stores as numbered files, embedded in
// the binary. A number that both have has one name; 0007 and 0008 are PostgreSQL's alone.
//
// Migrations expand first and contract in a later release, because two
// versions of the server run side by side during a rollout. Each file ends by
// setting schema_info.compatible_from to the oldest migration whose binary can
// still work on the new schema.
package migrations

import "embed"

// Postgres and SQLite hold the files under postgres/ and sqlite/.
//
//go:embed postgres/*.sql
var Postgres embed.FS

// SQLite holds the files under sqlite/.
//
//go:embed sqlite/*.sql
var SQLite embed.FS
