//! Bytes of entries and checkpoints. Both carry a format number, which is looked at first, and a
//! checksum; whatever does not fit is fatal and names the file.
//!
//! ```text
//!  entry        {"format":1,"crc32":"89abcdef","entry":{…}}
//!  checkpoint   OTUSCKPT  format u32  crc32 u32  length u64  zstd(manifest as JSON)   little endian
//! ```

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::manifest::Manifest;
use super::op::{Entry, FORMAT};
use crate::error::{Error, Result};

/// First bytes of a checkpoint.
pub const CHECKPOINT_MAGIC: &[u8; 8] = b"OTUSCKPT";
const CHECKPOINT_HEADER_BYTES: usize = 8 + 4 + 4 + 8;
const CHECKPOINT_ZSTD_LEVEL: i32 = 1;
/// Bound on the size of an unpacked checkpoint, bytes: a damaged length must not exhaust memory.
const CHECKPOINT_BYTES_MAX: u64 = 4 << 30;

#[derive(Serialize)]
struct EnvelopeOut<'a> {
    format: u32,
    crc32: String,
    entry: &'a RawValue,
}

#[derive(Deserialize)]
struct EnvelopeIn<'a> {
    crc32: String,
    #[serde(borrow)]
    entry: &'a RawValue,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// The bytes of an entry. They are read back and compared: an entry that cannot be read would be the
/// end of the dataset.
pub fn encode_entry(entry: &Entry) -> Result<Bytes> {
    let cannot = |e| Error::internal("a log entry cannot be written as JSON").with_source(e);
    let text = serde_json::to_string(entry).map_err(cannot)?;
    let crc32 = format!("{:08x}", crc32fast::hash(text.as_bytes()));
    let raw = RawValue::from_string(text).map_err(cannot)?;
    let out = EnvelopeOut { format: entry.format, crc32, entry: &raw };
    let mut bytes = serde_json::to_vec(&out).map_err(cannot)?;
    bytes.push(b'\n');
    if decode_entry("new entry", &bytes)? != *entry {
        return Err(Error::internal("a log entry does not read back as it was written"));
    }
    Ok(bytes.into())
}

/// Reads an entry; `path` is for messages.
pub fn decode_entry(path: &str, bytes: &[u8]) -> Result<Entry> {
    let unreadable =
        |e| Error::corrupt(format!("log entry {path:?} is not readable")).with_source(e);
    let format: FormatOnly = serde_json::from_slice(bytes).map_err(unreadable)?;
    check_format("log entry", path, format.format)?;
    let envelope: EnvelopeIn<'_> = serde_json::from_slice(bytes).map_err(unreadable)?;
    let text = envelope.entry.get();
    if format!("{:08x}", crc32fast::hash(text.as_bytes())) != envelope.crc32 {
        return Err(Error::corrupt(format!("log entry {path:?} has a wrong checksum")));
    }
    serde_json::from_str(text).map_err(|e| {
        Error::corrupt(format!("log entry {path:?} holds an operation that is not known"))
            .with_source(e)
    })
}

/// The bytes of a checkpoint.
pub fn encode_checkpoint(manifest: &Manifest) -> Result<Bytes> {
    let json = serde_json::to_vec(manifest)
        .map_err(|e| Error::internal("a checkpoint cannot be written as JSON").with_source(e))?;
    let packed = zstd::bulk::compress(&json, CHECKPOINT_ZSTD_LEVEL)
        .map_err(|e| Error::internal("a checkpoint cannot be compressed").with_source(e))?;
    let mut bytes = Vec::with_capacity(CHECKPOINT_HEADER_BYTES + packed.len());
    bytes.extend_from_slice(CHECKPOINT_MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&packed).to_le_bytes());
    bytes.extend_from_slice(&(json.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&packed);
    Ok(bytes.into())
}

/// Reads a checkpoint; `path` is for messages.
pub fn decode_checkpoint(path: &str, bytes: &[u8]) -> Result<Manifest> {
    let corrupt = |why: &str| Error::corrupt(format!("checkpoint {path:?} {why}"));
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| corrupt("is cut short"))?;
    if magic != CHECKPOINT_MAGIC {
        return Err(corrupt("is not a checkpoint of Otus"));
    }
    let (format, rest) = rest.split_first_chunk::<4>().ok_or_else(|| corrupt("is cut short"))?;
    check_format("checkpoint", path, u32::from_le_bytes(*format))?;
    let (crc, rest) = rest.split_first_chunk::<4>().ok_or_else(|| corrupt("is cut short"))?;
    let (length, packed) = rest.split_first_chunk::<8>().ok_or_else(|| corrupt("is cut short"))?;
    if crc32fast::hash(packed) != u32::from_le_bytes(*crc) {
        return Err(corrupt("has a wrong checksum"));
    }
    let length = u64::from_le_bytes(*length);
    let capacity = usize::try_from(length.min(CHECKPOINT_BYTES_MAX)).unwrap_or(usize::MAX);
    let json = zstd::bulk::decompress(packed, capacity)
        .map_err(|e| corrupt("cannot be unpacked").with_source(e))?;
    if json.len() as u64 != length {
        return Err(corrupt("has a wrong length"));
    }
    serde_json::from_slice(&json).map_err(|e| corrupt("is not readable").with_source(e))
}

fn check_format(what: &str, path: &str, format: u32) -> Result<()> {
    if format > FORMAT {
        return Err(Error::corrupt(format!(
            "{what} {path:?} has format {format}; this version of Otus reads up to {FORMAT}"
        ))
        .with_hint("open the dataset with the version that wrote it, or a later one"));
    }
    if format == 0 {
        return Err(Error::corrupt(format!("{what} {path:?} has format 0, which never was")));
    }
    Ok(())
}
