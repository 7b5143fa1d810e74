//! Writing to an event log: what an HTTP append or a generator hands in, and what it gets back.

use std::fmt;

use bytes::Bytes;
use otus_engine::{Error, ErrorKind};

/// One record to append.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppendRecord {
    /// Key.
    pub key: Option<Bytes>,
    /// Value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Headers, in order.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Timestamp, microseconds since the epoch (Kafka keeps milliseconds); now if none.
    pub timestamp_us: Option<i64>,
    /// Partition; by key, else in turn, if none.
    pub partition: Option<i32>,
}

impl AppendRecord {
    /// A record with a value and nothing else.
    pub fn value(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// Bytes of key, value and headers.
    pub fn bytes(&self) -> usize {
        let header = |h: &(String, Option<Bytes>)| h.0.len() + h.1.as_ref().map_or(0, Bytes::len);
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + self.headers.iter().map(header).sum::<usize>()
    }
}

/// Where a record went: partition and offset.
pub type Appended = (i32, i64);

/// How the append of one record ended.
pub type AppendResult = Result<Appended, AppendError>;

/// What became of a record that is not known to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AppendFault {
    /// Not written: the topic does not exist, or takes no appends.
    NotFound,
    /// Not written: the record is wrong.
    Invalid,
    /// Not written: the record is larger than the topic takes.
    TooLarge,
    /// Not written: the log refuses access.
    Forbidden,
    /// Not written: too much waits already.
    Busy,
    /// Not written: the disk is full.
    Full,
    /// Not written: the log did not answer.
    Unavailable,
    /// Written or not: nobody knows. Simply repeating it may write it twice.
    Unknown,
}

/// Why a record is not known to be durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendError {
    /// What became of it.
    pub fault: AppendFault,
    /// Why, naming the topic or the log.
    pub message: String,
    /// What to do about it, if known.
    pub hint: Option<String>,
}

impl AppendError {
    /// A failure with its reason.
    pub fn new(fault: AppendFault, message: impl Into<String>) -> Self {
        Self { fault, message: message.into(), hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for AppendError {}

/// An error met before anything was written.
impl From<Error> for AppendError {
    fn from(error: Error) -> Self {
        let fault = match error.kind() {
            ErrorKind::Invalid => AppendFault::Invalid,
            ErrorKind::NotFound => AppendFault::NotFound,
            ErrorKind::Busy => AppendFault::Busy,
            ErrorKind::Full => AppendFault::Full,
            ErrorKind::Unavailable | ErrorKind::Corrupt | ErrorKind::Internal => {
                AppendFault::Unavailable
            }
        };
        let hint = error.hint().map(str::to_string);
        Self { fault, message: error.to_string(), hint }
    }
}

impl From<AppendError> for Error {
    fn from(error: AppendError) -> Self {
        let kind = match error.fault {
            AppendFault::NotFound => ErrorKind::NotFound,
            AppendFault::Invalid | AppendFault::TooLarge | AppendFault::Forbidden => {
                ErrorKind::Invalid
            }
            AppendFault::Busy => ErrorKind::Busy,
            AppendFault::Full => ErrorKind::Full,
            AppendFault::Unavailable | AppendFault::Unknown => ErrorKind::Unavailable,
        };
        let converted = Self::new(kind, error.message);
        match error.hint {
            Some(hint) => converted.with_hint(hint),
            None => converted,
        }
    }
}

/// The partition of a keyed record among `partitions`, as Kafka's default partitioner chooses it.
pub fn partition_of_key(key: &[u8], partitions: i32) -> i32 {
    let positive = murmur2(key) & 0x7FFF_FFFF;
    i32::try_from(positive).unwrap_or(0) % partitions.max(1)
}

/// MurmurHash2, 32 bits, with the seed that Kafka uses.
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut hash: u32 = 0x9747_b28c ^ length;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    for (shift, byte) in rest.iter().enumerate().rev() {
        hash ^= u32::from(*byte) << (8 * shift);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_as_in_kafka() {
        // Values from Kafka's own test of its hash.
        for (key, expected) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), expected.cast_unsigned(), "{key}");
        }
        assert!((0..4).contains(&partition_of_key(b"21", 4)));
    }
}
