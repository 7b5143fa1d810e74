//! Conditions of writes to keyed tables. They travel as a header of the record, and the reader judges them in
//! the order of the log: of two writes that expect the same row, the one that stands first counts.

use otus_engine::keyed::ABSENT;

use crate::decode::reason::Reason;
use crate::record::Record;

/// Header that holds a condition: `none`, or `<partition>:<offset>` of the row that is to be replaced.
pub const HEADER: &str = "otus-if-match";

/// What a write expects of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// There is no row.
    Absent,
    /// The row is that of this record.
    At {
        /// Partition of the record.
        partition: i32,
        /// Its offset.
        offset: i64,
    },
}

impl Condition {
    /// The header's value.
    pub fn header(&self) -> String {
        match self {
            Self::Absent => "none".to_string(),
            Self::At { partition, offset } => format!("{partition}:{offset}"),
        }
    }

    /// From a header's value, or from an entity tag without its quotes.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::Absent);
        }
        let (partition, offset) = text.split_once(':')?;
        let (partition, offset) = (partition.parse().ok()?, offset.parse().ok()?);
        (partition >= 0 && offset >= 0).then_some(Self::At { partition, offset })
    }
}

/// The condition of a record as rows of keyed tables carry it, or why it cannot be read.
pub(crate) fn of(record: &Record<'_>) -> Result<Option<i64>, Reason> {
    let Some(value) = record.headers.last(HEADER) else { return Ok(None) };
    let text = value.and_then(|bytes| std::str::from_utf8(bytes).ok());
    let Some(condition) = text.and_then(Condition::parse) else {
        return Err(Reason::new(format!("header {HEADER:?} holds no condition")));
    };
    Ok(Some(match condition {
        Condition::Absent => ABSENT,
        Condition::At { partition, offset } if partition == record.partition => offset,
        // The key has moved to this partition since: nobody may have written it here.
        Condition::At { .. } => -1,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Slice;
    use otus_engine::position::TopicPartition;

    #[test]
    fn conditions_are_read_back() {
        for (header, expected) in [
            (None, Ok(None)),
            (Some("none"), Ok(Some(ABSENT))),
            (Some("3:17"), Ok(Some(17))),
            (Some("2:17"), Ok(Some(-1))),
            (Some("3:-1"), Err(())),
            (Some("always"), Err(())),
        ] {
            let mut slice = Slice::new(TopicPartition::new("t", 3), 0);
            slice.push(20, None, Some(b"k"), None);
            if let Some(header) = header {
                slice.push_header(HEADER.as_bytes(), Some(header.as_bytes()));
                if let Some(condition) = Condition::parse(header) {
                    assert_eq!(condition.header(), header);
                }
            }
            let record = slice.get(0).unwrap();
            assert_eq!(of(&record).map_err(drop), expected, "{header:?}");
        }
    }
}
