// Package store keeps on disk what durable channels must not forget: docs/durable-channels.md says what that is and why. It is
// one bbolt file per node, in its identity directory, and knows no network.
//
// What it guarantees
//   - A change whose done function was called without an error is on disk, all of it, and survives kill -9 and power loss as far as
//     the disk keeps what fdatasync wrote. One whose done function got an error changed nothing.
//   - Changes are written in the order in which they were given. Those that come while one transaction is being synced share the
//     next one.
//   - Names and payloads are encrypted and bound to their place: a value that was altered, moved, or written with another identity
//     is an error, never a message.
//   - A file that is damaged, foreign or in use makes Open fail with an error that says so. It is never replaced.
package store
