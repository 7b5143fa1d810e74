//! Messages of a client, read with every length checked: a malformed frame is an error value, never a
//! panic and never a read past its own end. What the server sends is written by pgwire's messages.

use bytes::{Buf, Bytes};

use super::error::WireError;

/// How a value stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Binary,
}

impl Format {
    fn from_code(code: i16) -> Result<Self, WireError> {
        match code {
            0 => Ok(Self::Text),
            1 => Ok(Self::Binary),
            _ => Err(WireError::error("08P01", format!("format code {code} is unknown"))),
        }
    }

    /// The code in messages.
    pub(super) fn code(self) -> i16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }

    /// The format of column `index`, given none, one for all, or one for each.
    pub(super) fn of(formats: &[Self], index: usize) -> Self {
        match formats {
            [] => Self::Text,
            [one] => *one,
            many => many.get(index).copied().unwrap_or(Self::Text),
        }
    }
}

/// What Describe and Close name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Statement,
    Portal,
}

/// A message of a client after the startup dialogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Query(String),
    Parse {
        name: String,
        query: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target, String),
    Close(Target, String),
    Execute {
        portal: String,
        rows_max: usize,
    },
    Flush,
    Sync,
    Terminate,
    /// Data of a COPY FROM; outside one, of one that failed: to be skipped.
    CopyData(Bytes),
    /// The end of these data.
    CopyDone,
    /// The client gives the COPY up, and says why.
    CopyFail(String),
}

/// A statement given its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bind {
    pub(super) portal: String,
    pub(super) statement: String,
    pub(super) parameter_formats: Vec<Format>,
    pub(super) parameters: Vec<Option<Bytes>>,
    pub(super) result_formats: Vec<Format>,
}

impl Request {
    /// Whether an error in it is followed by skipping to Sync.
    pub(super) fn is_extended(&self) -> bool {
        matches!(
            self,
            Self::Parse { .. }
                | Self::Bind(_)
                | Self::Describe(..)
                | Self::Close(..)
                | Self::Execute { .. }
                | Self::Flush
                | Self::Sync
        )
    }

    /// Reads the message `tag` with `body`. An error here ends the connection.
    pub(super) fn decode(tag: u8, body: Bytes) -> Result<Self, WireError> {
        let mut r = Reader(body);
        let request = match tag {
            b'Q' => Self::Query(r.text()?),
            b'P' => Self::Parse { name: r.text()?, query: r.text()?, types: r.oids()? },
            b'B' => Self::Bind(Bind {
                portal: r.text()?,
                statement: r.text()?,
                parameter_formats: r.formats()?,
                parameters: r.values()?,
                result_formats: r.formats()?,
            }),
            b'D' => Self::Describe(r.target()?, r.text()?),
            b'C' => Self::Close(r.target()?, r.text()?),
            b'E' => {
                let portal = r.text()?;
                let rows = r.i32()?;
                // Zero and below mean no limit.
                let rows_max = usize::try_from(rows).ok().filter(|n| *n > 0);
                Self::Execute { portal, rows_max: rows_max.unwrap_or(usize::MAX) }
            }
            b'H' => Self::Flush,
            b'S' => Self::Sync,
            b'X' => Self::Terminate,
            b'd' => return Ok(Self::CopyData(r.0)),
            b'c' => Self::CopyDone,
            b'f' => Self::CopyFail(r.text()?),
            b'F' => return Err(WireError::fatal("0A000", "function calls are not supported")),
            other => {
                return Err(WireError::fatal(
                    "08P01",
                    format!("invalid frontend message type {other}"),
                ));
            }
        };
        r.end()?;
        Ok(request)
    }
}

/// A cursor over one frame that never reads past it.
struct Reader(Bytes);

impl Reader {
    fn need(&self, bytes: usize) -> Result<(), WireError> {
        if self.0.remaining() < bytes {
            return Err(WireError::fatal("08P01", "insufficient data left in message"));
        }
        Ok(())
    }

    fn i16(&mut self) -> Result<i16, WireError> {
        self.need(2)?;
        Ok(self.0.get_i16())
    }

    fn u16(&mut self) -> Result<u16, WireError> {
        self.need(2)?;
        Ok(self.0.get_u16())
    }

    fn i32(&mut self) -> Result<i32, WireError> {
        self.need(4)?;
        Ok(self.0.get_i32())
    }

    /// Text up to a zero byte.
    fn text(&mut self) -> Result<String, WireError> {
        let Some(length) = self.0.iter().position(|b| *b == 0) else {
            return Err(WireError::fatal("08P01", "invalid string in message"));
        };
        let bytes = self.0.split_to(length);
        self.0.advance(1);
        String::from_utf8(bytes.to_vec())
            .map_err(|_| WireError::error("22021", "invalid byte sequence for encoding \"UTF8\""))
    }

    fn target(&mut self) -> Result<Target, WireError> {
        self.need(1)?;
        match self.0.get_u8() {
            b'S' => Ok(Target::Statement),
            b'P' => Ok(Target::Portal),
            other => Err(WireError::fatal("08P01", format!("invalid message subtype {other}"))),
        }
    }

    fn oids(&mut self) -> Result<Vec<u32>, WireError> {
        let count = usize::from(self.u16()?);
        self.need(count * 4)?;
        Ok((0..count).map(|_| self.0.get_u32()).collect())
    }

    fn formats(&mut self) -> Result<Vec<Format>, WireError> {
        let count = usize::from(self.u16()?);
        self.need(count * 2)?;
        (0..count).map(|_| Format::from_code(self.i16()?)).collect()
    }

    fn values(&mut self) -> Result<Vec<Option<Bytes>>, WireError> {
        let count = usize::from(self.u16()?);
        self.need(count * 4)?;
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            let length = self.i32()?;
            values.push(match usize::try_from(length) {
                Ok(length) => {
                    self.need(length)?;
                    Some(self.0.split_to(length))
                }
                Err(_) if length == -1 => None,
                Err(_) => return Err(WireError::fatal("08P01", "invalid parameter length")),
            });
        }
        Ok(values)
    }

    fn end(&self) -> Result<(), WireError> {
        if self.0.has_remaining() {
            return Err(WireError::fatal("08P01", "invalid message format"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(tag: u8, body: &[u8]) -> Result<Request, WireError> {
        Request::decode(tag, Bytes::copy_from_slice(body))
    }

    #[test]
    fn frames_read_as_sent() {
        assert_eq!(decode(b'Q', b"SELECT 1\0").unwrap(), Request::Query("SELECT 1".into()));
        assert_eq!(
            decode(b'P', b"s\0SELECT $1\0\0\x01\0\0\0\x17").unwrap(),
            Request::Parse { name: "s".into(), query: "SELECT $1".into(), types: vec![23] }
        );
        let bind = decode(b'B', b"\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\0").unwrap();
        assert_eq!(
            bind,
            Request::Bind(Bind {
                portal: String::new(),
                statement: "s".into(),
                parameter_formats: vec![Format::Binary],
                parameters: vec![Some(Bytes::from_static(b"x")), None],
                result_formats: vec![],
            })
        );
        let all = decode(b'E', b"p\0\0\0\0\0").unwrap();
        assert_eq!(all, Request::Execute { portal: "p".into(), rows_max: usize::MAX });
    }

    /// Every prefix, and every byte changed, of every kind of message: an error or a value, no panic.
    #[test]
    fn damaged_frames_are_errors() {
        let samples: [(u8, &[u8]); 6] = [
            (b'Q', b"SELECT 1\0"),
            (b'P', b"s\0SELECT $1\0\0\x01\0\0\0\x17"),
            (b'B', b"\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\x01\0\x01"),
            (b'D', b"Sname\0"),
            (b'C', b"Pname\0"),
            (b'E', b"p\0\0\0\0\x05"),
        ];
        for (tag, body) in samples {
            assert!(decode(tag, body).is_ok());
            for end in 0..body.len() {
                assert!(decode(tag, &body[..end]).is_err(), "{} cut at {end}", char::from(tag));
            }
            for at in 0..body.len() {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut damaged = body.to_vec();
                    damaged[at] = value;
                    drop(decode(tag, &damaged));
                }
            }
        }
        for tag in 0..=255 {
            drop(decode(tag, b"\0\0\0"));
        }
    }

    #[test]
    fn formats_apply_to_all_or_each() {
        assert_eq!(Format::of(&[], 3), Format::Text);
        assert_eq!(Format::of(&[Format::Binary], 3), Format::Binary);
        assert_eq!(Format::of(&[Format::Text, Format::Binary], 1), Format::Binary);
    }
}
