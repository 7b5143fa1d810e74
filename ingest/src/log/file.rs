//! A file of newline-delimited records, plain, gzip (any number of members) or zstd, as one partition 0 of a
//! topic named by its path. The offset of a record is its line number from 0; blank lines hold no record. The
//! file is read to its end, then it is finished: growth is followed when the process starts again. Its identity
//! is a fingerprint of its beginning, so another file under the same path is noticed, and so is one that was cut.
//! Reading and decompression have their own thread.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use otus_engine::position::{LogIdentity, TopicPartition};
use otus_engine::{Error, Result};

use super::{Bounds, EventLog, LogEvent, StartAt};
use crate::record::Slice;

/// Longest line that is read whole, bytes; the rest of a longer one is skipped, and the decoder rejects it.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// Bytes of the file's beginning that its identity is made from.
const FINGERPRINT_BYTES: u64 = 64 << 10;
/// Bytes of records after which a slice is handed on.
const SLICE_BYTES: usize = 1 << 20;
/// Slices read ahead.
const SLICES_AHEAD: usize = 4;
/// Buffer of the reader, bytes.
const BUFFER_BYTES: usize = 256 << 10;

type Piece = Result<Option<Slice>>;

/// See the module.
#[derive(Debug)]
pub struct FileLog {
    path: PathBuf,
    tp: TopicPartition,
    announced: bool,
    missing: bool,
    paused: bool,
    pieces: Option<Receiver<Piece>>,
    /// What came while paused.
    held: Option<Piece>,
    end: Option<i64>,
}

impl FileLog {
    /// Reads the file at `path`; `topic` is the path as configured.
    pub fn new(path: impl Into<PathBuf>, topic: &str) -> Self {
        Self {
            path: path.into(),
            tp: TopicPartition::new(topic, 0),
            announced: false,
            missing: false,
            paused: false,
            pieces: None,
            held: None,
            end: None,
        }
    }

    fn handle(&mut self, piece: Piece, events: &mut Vec<LogEvent>) {
        match piece {
            Ok(Some(slice)) => {
                self.end = self.end.max(Some(slice.next));
                events.push(LogEvent::Records(slice));
            }
            Ok(None) => {
                self.pieces = None;
                let offset = self.end.unwrap_or(0);
                events.push(LogEvent::End { tp: self.tp.clone(), offset });
                events.push(LogEvent::Finished(self.tp.clone()));
            }
            Err(error) => {
                self.pieces = None;
                events.push(LogEvent::Broken { tp: self.tp.clone(), error });
            }
        }
    }
}

impl EventLog for FileLog {
    fn kind(&self) -> &'static str {
        "file"
    }

    fn poll(&mut self, wait: Duration, events: &mut Vec<LogEvent>) {
        if !self.announced {
            if self.path.exists() {
                self.announced = true;
                events.push(LogEvent::Assigned(vec![self.tp.clone()]));
                return;
            }
            if !self.missing {
                self.missing = true;
                let reason = "the file does not exist yet".to_string();
                events.push(LogEvent::Missing { topic: self.tp.topic.to_string(), reason });
            }
        }
        let Some(pieces) = self.pieces.as_ref().filter(|_| !self.paused) else {
            std::thread::park_timeout(wait);
            return;
        };
        let piece = match self.held.take() {
            Some(piece) => piece,
            None => match pieces.recv_timeout(wait) {
                Ok(piece) => piece,
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    Err(Error::internal(format!("the reader of file {:?} ended", self.path)))
                }
            },
        };
        self.handle(piece, events);
    }

    fn partitions(&mut self, _topic: &str) -> Result<Vec<i32>> {
        Ok(vec![0])
    }

    fn bounds(&mut self, _tp: &TopicPartition) -> Result<Bounds> {
        Ok(Bounds {
            low: 0,
            high: None,
            identity: identity(fingerprint(&self.path, FINGERPRINT_BYTES)?),
        })
    }

    fn identity_as(
        &mut self,
        _tp: &TopicPartition,
        was: &LogIdentity,
    ) -> Result<Option<LogIdentity>> {
        let length = was.topic_id.split('-').next().and_then(|text| text.parse().ok());
        let Some(length) = length.filter(|length| *length < FINGERPRINT_BYTES) else {
            return Ok(None);
        };
        Ok(Some(identity(fingerprint(&self.path, length)?)))
    }

    fn offset_at(&mut self, tp: &TopicPartition, _timestamp_us: i64) -> Result<i64> {
        Err(Error::invalid(format!("lines of file {:?} have no timestamps", tp.topic))
            .with_hint("use start = \"earliest\""))
    }

    fn start(&mut self, starts: &[StartAt]) -> Result<()> {
        for start in starts.iter().filter(|start| start.tp == self.tp) {
            let (sender, receiver) = sync_channel(SLICES_AHEAD);
            let (path, tp, from) = (self.path.clone(), self.tp.clone(), start.offset);
            std::thread::Builder::new()
                .name("otus-file".into())
                .spawn(move || read_file(&path, &tp, from, &sender))
                .map_err(|e| Error::unavailable("a thread cannot be started").with_source(e))?;
            self.pieces = Some(receiver);
            self.held = None;
            self.end = Some(start.offset);
        }
        Ok(())
    }

    fn stop(&mut self, _tps: &[TopicPartition]) -> Result<()> {
        self.pieces = None;
        Ok(())
    }

    fn pause(&mut self, _tps: &[TopicPartition]) -> Result<()> {
        self.paused = true;
        Ok(())
    }

    fn resume(&mut self, _tps: &[TopicPartition]) -> Result<()> {
        self.paused = false;
        Ok(())
    }

    fn end(&mut self, _tp: &TopicPartition) -> Option<i64> {
        self.end
    }
}

fn broken(path: &Path, e: std::io::Error) -> Error {
    Error::unavailable(format!("file {path:?} cannot be read")).with_source(e)
}

fn identity(topic_id: String) -> LogIdentity {
    LogIdentity { kind: "file".into(), cluster: String::new(), topic_id, ..LogIdentity::default() }
}

/// Length and two checksums of the file's first `length` bytes, or of all if it has fewer.
fn fingerprint(path: &Path, length: u64) -> Result<String> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(|e| broken(path, e))?;
    file.take(length).read_to_end(&mut head).map_err(|e| broken(path, e))?;
    let fnv = head
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    Ok(format!("{}-{:08x}-{fnv:016x}", head.len(), crc32fast::hash(&head)))
}

/// Opens a file for reading text, decompressing by its first bytes.
pub fn open_text(path: &Path) -> std::io::Result<Box<dyn BufRead + Send>> {
    let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    let head = file.fill_buf()?;
    let (gzip, zstd) =
        (head.starts_with(&[0x1f, 0x8b]), head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    Ok(if gzip {
        let decoder = flate2::bufread::MultiGzDecoder::new(file);
        Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
    } else if zstd {
        let decoder = zstd::stream::read::Decoder::with_buffer(file)?;
        Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
    } else {
        Box::new(file)
    })
}

fn read_file(path: &Path, tp: &TopicPartition, from: i64, pieces: &SyncSender<Piece>) {
    let end = match read_slices(path, tp, from, pieces) {
        Ok(true) => Ok(None),
        Ok(false) => return,
        Err(e) => Err(broken(path, e)),
    };
    // A receiver that has gone does not want the end either.
    drop(pieces.send(end));
}

/// False if nobody wants more.
fn read_slices(
    path: &Path,
    tp: &TopicPartition,
    from: i64,
    pieces: &SyncSender<Piece>,
) -> std::io::Result<bool> {
    let mut text = open_text(path)?;
    let mut line = Vec::new();
    let mut number = 0;
    let mut slice = Slice::new(tp.clone(), from);
    while read_line(&mut text, &mut line)? {
        if number >= from {
            if line.iter().all(u8::is_ascii_whitespace) {
                slice.next = number + 1;
            } else {
                slice.push(number, None, None, Some(&line));
            }
        }
        number += 1;
        if slice.bytes_len() >= SLICE_BYTES {
            let full = std::mem::replace(&mut slice, Slice::new(tp.clone(), number));
            if pieces.send(Ok(Some(full))).is_err() {
                return Ok(false);
            }
        }
    }
    if number < from {
        let message = format!("it has {number} lines, but {from} were read before: it was cut");
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, message));
    }
    let rest = slice.next > from || !slice.is_empty();
    Ok(!rest || pieces.send(Ok(Some(slice))).is_ok())
}

/// Reads one line without its end; false at the end of the text. Of a line that is too long the beginning.
fn read_line(text: &mut (impl BufRead + ?Sized), line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let read = text.take(LINE_BYTES_MAX).read_until(b'\n', line)?;
    if read == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if read as u64 == LINE_BYTES_MAX {
        skip_line(text)?;
    }
    Ok(true)
}

fn skip_line(text: &mut (impl BufRead + ?Sized)) -> std::io::Result<()> {
    loop {
        let buffer = text.fill_buf()?;
        let (length, done) = match buffer.iter().position(|b| *b == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        text.consume(length);
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn records(name: &str, bytes: &[u8], from: i64) -> Result<(Vec<(i64, String)>, i64), String> {
        let path = std::env::temp_dir().join(format!("otus-{}-{name}", crate::log::unique()));
        std::fs::write(&path, bytes).unwrap();
        let mut log = FileLog::new(&path, "f");
        let tp = TopicPartition::new("f", 0);
        let mut events = Vec::new();
        log.poll(Duration::ZERO, &mut events);
        assert!(matches!(events.as_slice(), [LogEvent::Assigned(_)]));
        log.start(&[StartAt { tp, offset: from, leader_epoch: None }]).unwrap();
        let mut out = Vec::new();
        let result = loop {
            let mut events = Vec::new();
            log.poll(Duration::from_secs(5), &mut events);
            for event in &events {
                if let LogEvent::Records(slice) = event {
                    let text = |v: &[u8]| String::from_utf8_lossy(v).into_owned();
                    out.extend(slice.iter().map(|r| (r.offset, text(r.value.unwrap()))));
                }
            }
            match events.last() {
                Some(LogEvent::Finished(_)) => break Ok((out, log.end.unwrap())),
                Some(LogEvent::Broken { error, .. }) => break Err(error.to_string()),
                _ => {}
            }
        };
        std::fs::remove_file(&path).unwrap();
        result
    }

    fn gzip(parts: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in parts {
            let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::fast());
            encoder.write_all(part.as_bytes()).unwrap();
            encoder.finish().unwrap();
        }
        out
    }

    #[test]
    fn plain_gzip_and_zstd_give_the_same_lines() {
        let text = "{\"a\":1}\n\n{\"a\":2}\r\n{\"a\":3}";
        let expected = vec![
            (0, "{\"a\":1}".to_string()),
            (2, "{\"a\":2}\r".to_string()),
            (3, "{\"a\":3}".to_string()),
        ];
        let zstd = zstd::encode_all(text.as_bytes(), 1).unwrap();
        for (name, bytes) in [
            ("plain.ndjson", text.as_bytes().to_vec()),
            ("one.gz", gzip(&[text])),
            ("members.gz", gzip(&["{\"a\":1}\n\n{\"a\"", ":2}\r\n{\"a\":3}"])),
            ("x.zst", zstd),
        ] {
            assert_eq!(records(name, &bytes, 0), Ok((expected.clone(), 4)), "{name}");
        }
        assert_eq!(records("x", text.as_bytes(), 2), Ok((expected[1..].to_vec(), 4)));
        assert_eq!(records("x", b"", 0), Ok((vec![], 0)));
        assert!(records("cut.gz", &gzip(&[text])[..20], 0).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn the_fingerprint_tells_files_apart() {
        let path = std::env::temp_dir().join(format!("otus-{}", crate::log::unique()));
        std::fs::write(&path, "a").unwrap();
        let first = fingerprint(&path, FINGERPRINT_BYTES).unwrap();
        std::fs::write(&path, "b").unwrap();
        assert_ne!(fingerprint(&path, FINGERPRINT_BYTES).unwrap(), first);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_that_grew_is_the_same_and_one_that_was_cut_is_not() {
        let path = std::env::temp_dir().join(format!("otus-{}", crate::log::unique()));
        let tp = TopicPartition::new("f", 0);
        std::fs::write(&path, "1\n2\n").unwrap();
        let mut log = FileLog::new(&path, "f");
        let was = log.bounds(&tp).unwrap().identity;
        std::fs::write(&path, "1\n2\n3\n").unwrap();
        assert_ne!(log.bounds(&tp).unwrap().identity, was);
        assert_eq!(log.identity_as(&tp, &was).unwrap().as_ref(), Some(&was));
        for other in ["1\n", "x\n2\n3\n"] {
            std::fs::write(&path, other).unwrap();
            assert_ne!(log.identity_as(&tp, &was).unwrap().as_ref(), Some(&was), "{other:?}");
        }
        std::fs::remove_file(&path).unwrap();
        let error = records("cut", b"1\n2\n", 3).unwrap_err();
        assert!(error.contains("2 lines, but 3 were read"), "{error}");
    }
}
