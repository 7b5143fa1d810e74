//! Rows of COPY's binary format.

use bytes::{Buf, Bytes, BytesMut};

use crate::pgwire::error::WireError;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// What stands next in the data.
pub(super) enum Row {
    Values(Vec<Option<Bytes>>),
    /// Not all of it has come.
    Partial,
    End,
}

fn bad(message: impl Into<String>) -> WireError {
    WireError::error("22P04", message)
}

/// Takes the next row of `columns` values, before the first one the signature.
pub(super) fn row(
    buffer: &mut BytesMut,
    begun: &mut bool,
    is_last: bool,
    columns: usize,
) -> Result<Row, WireError> {
    let short = |what: &str| match is_last {
        true => Err(bad(format!("unexpected end of data in COPY: {what}"))),
        false => Ok(Row::Partial),
    };
    if !*begun {
        let Some(head) = buffer.first_chunk::<19>() else {
            if !SIGNATURE.starts_with(&buffer[..buffer.len().min(SIGNATURE.len())]) {
                return Err(bad("COPY file signature not recognized"));
            }
            return short("the signature is missing");
        };
        let (signature, rest) = head.split_at(SIGNATURE.len());
        if signature != SIGNATURE {
            return Err(bad("COPY file signature not recognized"));
        }
        let (mut flags, mut extension) = rest.split_at(4);
        if flags.get_u32() != 0 {
            return Err(bad("unrecognized critical flags in COPY file header"));
        }
        let Ok(extension) = usize::try_from(extension.get_i32()) else {
            return Err(bad("invalid COPY file header"));
        };
        if buffer.len() - 19 < extension {
            return short("the header is incomplete");
        }
        buffer.advance(19 + extension);
        *begun = true;
    }
    let mut ahead = &buffer[..];
    if ahead.remaining() < 2 {
        return match (is_last, ahead.is_empty()) {
            // Clients that leave out the end have sent everything.
            (true, true) => Ok(Row::End),
            _ => short("a row has no count of fields"),
        };
    }
    let count = ahead.get_i16();
    if count == -1 {
        buffer.clear();
        return Ok(Row::End);
    }
    if usize::try_from(count) != Ok(columns) {
        return Err(bad(format!("row field count is {count}, expected {columns}")));
    }
    let mut at = 2;
    let mut spans = Vec::with_capacity(columns);
    for _ in 0..columns {
        let Some(head) = buffer.get(at..).and_then(|rest| rest.first_chunk::<4>()) else {
            return short("a field has no length");
        };
        at += 4;
        let length = i32::from_be_bytes(*head);
        match usize::try_from(length) {
            Ok(length) => {
                if buffer.len() - at < length {
                    return short("a field is incomplete");
                }
                spans.push(Some(at..at + length));
                at += length;
            }
            Err(_) if length == -1 => spans.push(None),
            Err(_) => return Err(bad("invalid field size")),
        }
    }
    let row = buffer.split_to(at).freeze();
    Ok(Row::Values(spans.into_iter().map(|span| span.map(|span| row.slice(span))).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> Vec<u8> {
        let mut data = SIGNATURE.to_vec();
        data.extend([0; 8]);
        data.extend(b"\0\x02\0\0\0\x01x\xff\xff\xff\xff\xff\xff");
        data
    }

    #[test]
    fn rows_come_whole_from_any_pieces() {
        let sent = sent();
        for cut in 0..=sent.len() {
            let (mut buffer, mut begun) = (BytesMut::from(&sent[..cut]), false);
            let mut rows = Vec::new();
            let mut ended = false;
            for rest in [&sent[cut..], &[]] {
                loop {
                    match row(&mut buffer, &mut begun, false, 2).unwrap() {
                        Row::Values(values) => rows.push(values),
                        Row::Partial => break,
                        Row::End => {
                            ended = true;
                            break;
                        }
                    }
                }
                buffer.extend_from_slice(rest);
            }
            assert_eq!(rows, [vec![Some(Bytes::from_static(b"x")), None]], "cut at {cut}");
            assert!(ended, "cut at {cut}");
        }
    }

    #[test]
    fn damaged_data_are_errors() {
        let sent = sent();
        for at in 0..sent.len() - 2 {
            for value in [1, 0x7f, 0xfe] {
                let mut damaged = sent.clone();
                damaged[at] = value;
                let (mut buffer, mut begun) = (BytesMut::from(&damaged[..]), false);
                while let Ok(Row::Values(_)) = row(&mut buffer, &mut begun, true, 2) {}
            }
            let (mut buffer, mut begun) = (BytesMut::from(&sent[..at]), false);
            let cut = loop {
                match row(&mut buffer, &mut begun, true, 2) {
                    Ok(Row::Values(_)) => {}
                    other => break other,
                }
            };
            // Between rows the mark of the end may be missing.
            let whole = at == 19 || at == sent.len() - 2;
            assert_eq!(cut.is_err(), !whole, "cut at {at}");
        }
    }
}
