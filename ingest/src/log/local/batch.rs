//! A batch of records of one partition as one value: framed, compressed, checksummed. This is a disk format:
//! a change that an older reader would misread gets another [`FORMAT`].
//!
//! ```text
//!  format u8 │ crc32 u32 │ records u32 │ last delta u32 │ first time i64 │ greatest time i64 │ raw length u32 │ zstd(body)
//!  body = per record: delta, time - first time (zigzag), key, value, headers; lengths are varints,
//!         0 = none, n + 1 = n bytes
//! ```
//! The checksum covers everything behind it.

use bytes::Bytes;
use otus_engine::{Error, Result};

use crate::log::append::AppendRecord;
use crate::record::Slice;

/// See the module.
const FORMAT: u8 = 1;
/// Bytes before the compressed body.
const HEADER_BYTES: usize = 1 + 4 + 4 + 4 + 8 + 8 + 4;
/// zstd level: about as fast as the rest of the path.
const LEVEL: i32 = 1;
/// Largest body that is believed, bytes.
const RAW_BYTES_MAX: u32 = 1 << 30;

/// What the head of a batch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) records: u32,
    pub(super) last_delta: u32,
    pub(super) greatest_us: i64,
    first_us: i64,
    raw_bytes: u32,
}

/// One record of a batch, with its distance from the batch's base offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) delta: u32,
    pub(super) timestamp_us: i64,
    pub(super) record: AppendRecord,
}

/// Frames entries, which stand in order of their deltas. `last_delta` may be past the last entry: offsets up to
/// it belong to the batch, even where compaction has left holes.
pub(super) fn encode(entries: &[Entry], last_delta: u32) -> Result<Vec<u8>> {
    let first_us = entries.first().map_or(0, |e| e.timestamp_us);
    let greatest_us = entries.iter().map(|e| e.timestamp_us).max().unwrap_or(i64::MIN);
    let mut body = Vec::new();
    for entry in entries {
        put_varint(&mut body, u64::from(entry.delta));
        put_varint(&mut body, zigzag(entry.timestamp_us.wrapping_sub(first_us)));
        put_bytes(&mut body, entry.record.key.as_deref());
        put_bytes(&mut body, entry.record.value.as_deref());
        put_varint(&mut body, entry.record.headers.len() as u64);
        for (name, value) in &entry.record.headers {
            put_bytes(&mut body, Some(name.as_bytes()));
            put_bytes(&mut body, value.as_deref());
        }
    }
    let too_large = || Error::invalid("a batch of records is too large for the local log");
    let raw_bytes = u32::try_from(body.len()).map_err(|_| too_large())?;
    let records = u32::try_from(entries.len()).map_err(|_| too_large())?;
    let packed = zstd::bulk::compress(&body, LEVEL)
        .map_err(|e| Error::internal("records cannot be compressed").with_source(e))?;
    let mut out = Vec::with_capacity(HEADER_BYTES + packed.len());
    out.push(FORMAT);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&records.to_le_bytes());
    out.extend_from_slice(&last_delta.to_le_bytes());
    out.extend_from_slice(&first_us.to_le_bytes());
    out.extend_from_slice(&greatest_us.to_le_bytes());
    out.extend_from_slice(&raw_bytes.to_le_bytes());
    out.extend_from_slice(&packed);
    let crc = crc32fast::hash(out.get(5..).unwrap_or_default());
    if let Some(place) = out.get_mut(1..5) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
    Ok(out)
}

/// Reads the head alone.
pub(super) fn head(value: &[u8]) -> Result<Head> {
    let mut at = Reader { bytes: value };
    let format = at.take(1).and_then(|b| b.first().copied()).ok_or_else(damaged)?;
    if format > FORMAT {
        return Err(Error::corrupt(format!("local log has batches of the newer format {format}")));
    }
    let _crc = at.u32()?;
    Ok(Head {
        records: at.u32()?,
        last_delta: at.u32()?,
        first_us: at.i64()?,
        greatest_us: at.i64()?,
        raw_bytes: at.u32()?,
    })
}

fn body(value: &[u8]) -> Result<(Head, Vec<u8>)> {
    let head = head(value)?;
    let stored = value.get(1..5).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let rest = value.get(5..).ok_or_else(damaged)?;
    if stored != Some(crc32fast::hash(rest)) || head.raw_bytes > RAW_BYTES_MAX {
        return Err(damaged());
    }
    let packed = value.get(HEADER_BYTES..).ok_or_else(damaged)?;
    let raw = zstd::bulk::decompress(packed, head.raw_bytes as usize).map_err(|_| damaged())?;
    Ok((head, raw))
}

/// Appends the records from `slice.next` on to `slice` and moves it behind the batch.
pub(super) fn read_into(value: &[u8], base: i64, slice: &mut Slice) -> Result<()> {
    let (head, raw) = body(value)?;
    let from = slice.next;
    let mut at = Reader { bytes: &raw };
    for _ in 0..head.records {
        let offset = base + i64::from(u32::try_from(at.varint()?).map_err(|_| damaged())?);
        let timestamp_us = head.first_us.wrapping_add(unzigzag(at.varint()?));
        let key = at.optional()?;
        let value = at.optional()?;
        let wanted = offset >= from;
        if wanted {
            slice.push(offset, Some(timestamp_us), key, value);
        }
        for _ in 0..at.varint()? {
            let name = at.optional()?.unwrap_or_default();
            let value = at.optional()?;
            if wanted {
                slice.push_header(name, value);
            }
        }
    }
    slice.next = slice.next.max(base + i64::from(head.last_delta) + 1);
    Ok(())
}

/// All entries, for compaction.
pub(super) fn entries(value: &[u8]) -> Result<(Head, Vec<Entry>)> {
    let (head, raw) = body(value)?;
    let mut at = Reader { bytes: &raw };
    let mut entries = Vec::with_capacity(head.records as usize);
    let owned = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
    for _ in 0..head.records {
        let delta = u32::try_from(at.varint()?).map_err(|_| damaged())?;
        let timestamp_us = head.first_us.wrapping_add(unzigzag(at.varint()?));
        let mut record = AppendRecord {
            key: owned(at.optional()?),
            value: owned(at.optional()?),
            ..AppendRecord::default()
        };
        for _ in 0..at.varint()? {
            let name = String::from_utf8_lossy(at.optional()?.unwrap_or_default()).into_owned();
            record.headers.push((name, owned(at.optional()?)));
        }
        entries.push(Entry { delta, timestamp_us, record });
    }
    Ok((head, entries))
}

fn damaged() -> Error {
    Error::corrupt("a batch of the local log is damaged")
        .with_hint("the disk returned other bytes than were written; restore the log's folder")
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[expect(clippy::cast_possible_truncation, reason = "masked to seven bits")]
fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, 0),
        Some(bytes) => {
            put_varint(out, bytes.len() as u64 + 1);
            out.extend_from_slice(bytes);
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(head)
    }
    fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4).and_then(|b| b.try_into().ok()).ok_or_else(damaged)?;
        Ok(u32::from_le_bytes(bytes))
    }
    fn i64(&mut self) -> Result<i64> {
        let bytes = self.take(8).and_then(|b| b.try_into().ok()).ok_or_else(damaged)?;
        Ok(i64::from_le_bytes(bytes))
    }
    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1).and_then(|b| b.first().copied()).ok_or_else(damaged)?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(damaged())
    }
    fn optional(&mut self) -> Result<Option<&'a [u8]>> {
        match self.varint()? {
            0 => Ok(None),
            length => {
                let length = usize::try_from(length - 1).map_err(|_| damaged())?;
                self.take(length).map(Some).ok_or_else(damaged)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use otus_engine::position::TopicPartition;

    #[test]
    fn batches_read_back_and_damage_is_noticed() {
        let record = AppendRecord {
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from(vec![7; 300])),
            headers: vec![("h".into(), None), ("i".into(), Some(Bytes::from_static(b"1")))],
            ..AppendRecord::default()
        };
        let tombstone = AppendRecord { key: record.key.clone(), ..AppendRecord::default() };
        let list = vec![
            Entry { delta: 0, timestamp_us: 1_000, record },
            Entry { delta: 5, timestamp_us: -3, record: tombstone },
        ];
        let value = encode(&list, 9).unwrap();
        let (head, read) = entries(&value).unwrap();
        assert_eq!((head.records, head.last_delta, head.greatest_us), (2, 9, 1_000));
        assert_eq!(read, list);
        let mut slice = Slice::new(TopicPartition::new("t", 0), 101);
        read_into(&value, 100, &mut slice).unwrap();
        assert_eq!((slice.len(), slice.next), (1, 110));
        assert_eq!(slice.get(0).unwrap().offset, 105);
        for at in 0..value.len() {
            let mut broken = value.clone();
            broken[at] ^= 0x10;
            assert!(entries(&broken).is_err(), "byte {at}");
        }
    }
}
