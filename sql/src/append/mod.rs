//! Rows that statements add: `INSERT` and `COPY … FROM STDIN` write records to the event log of a table, never into
//! the table itself. Here rows become records; whoever has the log writes them, behind [`Appender`].

mod record;
mod target;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use otus_engine::compiled::CompiledTable;

use crate::access::Identity;
use crate::error::{SqlError, SqlResult};
pub(crate) use record::record;
pub use target::CopyColumn;
pub(crate) use target::{SYSTEM, Target, field, find};

/// A record of a table's topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value, JSON.
    pub value: Bytes,
    /// Its headers.
    pub headers: Vec<(String, Bytes)>,
    /// Its timestamp, microseconds since 1970; none = when it is written.
    pub timestamp_us: Option<i64>,
}

impl Record {
    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        size_of::<Self>() + self.key.as_ref().map_or(0, Bytes::len) + self.value.len() + headers
    }
}

/// Writes records to the logs of tables.
#[async_trait]
pub trait Appender: fmt::Debug + Send + Sync {
    /// Refuses a table whose log takes no records.
    fn check_table(&self, table: &CompiledTable) -> SqlResult<()>;

    /// Refuses records that would not become rows, or that a user may not write: gives the number of the first one,
    /// from 0, and why.
    fn check(
        &self,
        table: &CompiledTable,
        records: &[Record],
        whose: Option<&Identity>,
    ) -> Result<(), (usize, SqlError)>;

    /// Writes records; on return they are durable, and visible if asked for. An error says in its detail what was
    /// written nevertheless.
    async fn append(
        &self,
        table: &Arc<CompiledTable>,
        records: Vec<Record>,
        until_visible: bool,
    ) -> SqlResult<()>;
}
