//! Every bound of the wire, with unit and reason.

use std::time::Duration;

/// Bytes of a message before authentication is over (as Postgres: a few parameters fit easily).
pub(super) const STARTUP_BYTES_MAX: usize = 10_000;
/// Bytes of one message of a client; longer ones end the connection.
pub(super) const FRAME_BYTES_MAX: usize = 64 << 20;
/// Bytes read ahead while a statement runs, to notice that the client has gone.
pub(super) const LOOKAHEAD_BYTES: usize = 1 << 20;
/// Bytes of answers collected before they are written to the socket.
pub(super) const FLUSH_BYTES: usize = 64 << 10;
/// Time from the first byte to the end of the startup dialogue, and of each of its steps.
pub(super) const STARTUP_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for the last message to a client that does not read.
pub(super) const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements of one connection.
pub(super) const STATEMENTS_MAX: usize = 10_000;
/// Bytes of names and texts of the prepared statements of one connection: parsed they take a multiple.
pub(super) const STATEMENTS_BYTES_MAX: usize = 8 << 20;
/// Bytes of the names and parameters of the portals of one connection: one message of the longest.
pub(super) const PORTALS_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// Open portals of one connection; each may hold a snapshot and a running query.
pub(super) const PORTALS_MAX: usize = 256;
/// Connections that may be in their startup dialogue; one more ends the one that has been there longest.
pub(super) const PENDING_MAX: usize = 256;
/// Connections beyond the sessions: those in their startup dialogue, and as many that are being refused.
pub(super) const EXTRA_CONNECTIONS: usize = 2 * PENDING_MAX;

const _: () = assert!(FLUSH_BYTES < LOOKAHEAD_BYTES && LOOKAHEAD_BYTES < FRAME_BYTES_MAX);
