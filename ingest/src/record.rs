//! Records as they come from an event log: many of one partition in one arena, so that reading a record
//! allocates nothing.

use std::ops::Range;

use otus_engine::position::TopicPartition;

/// One record, borrowed from a [`Slice`].
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Topic it came from.
    pub topic: &'a str,
    /// Partition it came from.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its timestamp in the log, microseconds since the epoch, if the log has one.
    pub timestamp_us: Option<i64>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers, in order.
    pub headers: Headers<'a>,
}

/// The headers of a record.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a> {
    entries: &'a [HeaderSpan],
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// The value of the last header of this name; the inner none is a header without value.
    pub fn last(&self, name: &str) -> Option<Option<&'a [u8]>> {
        let found = self.entries.iter().rev().find(|h| {
            self.bytes.get(h.name.clone()).is_some_and(|bytes| bytes == name.as_bytes())
        })?;
        Some(found.value.clone().and_then(|range| self.bytes.get(range)))
    }
    /// All headers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let bytes = self.bytes;
        self.entries.iter().map(move |h| {
            let name = bytes.get(h.name.clone()).unwrap_or_default();
            (name, h.value.clone().and_then(|range| bytes.get(range)))
        })
    }
}

/// Where a header stands in the arena.
#[derive(Debug, Clone)]
struct HeaderSpan {
    name: Range<usize>,
    value: Option<Range<usize>>,
}

/// Where a record stands in the arena.
#[derive(Debug, Clone)]
struct RecordSpan {
    offset: i64,
    timestamp_us: Option<i64>,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
}

/// Consecutive records of one partition. Covers offsets `[from, next)`; offsets need not be dense.
#[derive(Debug, Clone)]
pub struct Slice {
    /// The partition.
    pub tp: TopicPartition,
    /// First offset that this slice covers, whether or not there is a record.
    pub from: i64,
    /// Offset after the last one that this slice covers.
    pub next: i64,
    /// Leader epoch of the last record, if the log has one.
    pub leader_epoch: Option<i32>,
    bytes: Vec<u8>,
    records: Vec<RecordSpan>,
    headers: Vec<HeaderSpan>,
}

impl Slice {
    /// An empty slice that stands at `from`.
    pub fn new(tp: TopicPartition, from: i64) -> Self {
        Self {
            tp,
            from,
            next: from,
            leader_epoch: None,
            bytes: Vec::new(),
            records: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// Adds a record; `next` moves behind it.
    pub fn push(
        &mut self,
        offset: i64,
        timestamp_us: Option<i64>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) {
        let key = key.map(|bytes| self.put(bytes));
        let value = value.map(|bytes| self.put(bytes));
        let headers = self.headers.len()..self.headers.len();
        self.records.push(RecordSpan { offset, timestamp_us, key, value, headers });
        self.next = self.next.max(offset.saturating_add(1));
    }

    /// Adds a header to the record pushed last.
    pub fn push_header(&mut self, name: &[u8], value: Option<&[u8]>) {
        let span = HeaderSpan { name: self.put(name), value: value.map(|bytes| self.put(bytes)) };
        if let Some(record) = self.records.last_mut() {
            self.headers.push(span);
            record.headers.end = self.headers.len();
        }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }
    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
    /// Bytes of keys, values and headers.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// The records in order of offset.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.records.iter().map(|span| self.borrow(span))
    }

    /// The record at a place, from 0.
    pub fn get(&self, at: usize) -> Option<Record<'_>> {
        self.records.get(at).map(|span| self.borrow(span))
    }

    fn borrow(&self, span: &RecordSpan) -> Record<'_> {
        Record {
            topic: &self.tp.topic,
            partition: self.tp.partition,
            offset: span.offset,
            timestamp_us: span.timestamp_us,
            key: span.key.clone().and_then(|range| self.bytes.get(range)),
            value: span.value.clone().and_then(|range| self.bytes.get(range)),
            headers: Headers {
                entries: self.headers.get(span.headers.clone()).unwrap_or_default(),
                bytes: &self.bytes,
            },
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_pushed() {
        let mut slice = Slice::new(TopicPartition::new("t", 3), 10);
        slice.push(12, Some(5), Some(b"k"), Some(b"v"));
        slice.push_header(b"h", Some(b"1"));
        slice.push_header(b"h", None);
        slice.push(20, None, None, None);
        let records: Vec<_> = slice.iter().collect();
        assert_eq!((slice.next, records.len()), (21, 2));
        assert_eq!((records[0].key, records[0].value), (Some(&b"k"[..]), Some(&b"v"[..])));
        assert_eq!(records[0].headers.last("h"), Some(None));
        assert_eq!(records[0].headers.iter().count(), 2);
        assert_eq!((records[1].value, records[1].headers.last("h")), (None, None));
    }
}
