//! The dialogue before the first statement: encryption, version negotiated, parameters read.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pgwire::messages::startup::{NegotiateProtocolVersion, Startup};
use pgwire::messages::{DecodeContext, Message};

use super::error::WireError;
use super::io::{Inbox, Outbox};
use super::limits::STARTUP_BYTES_MAX;

const CANCEL_REQUEST: i32 = 80_877_102;
const SSL_REQUEST: i32 = 80_877_103;
const GSS_REQUEST: i32 = 80_877_104;
/// Newest minor version of protocol 3 that is spoken here.
const MINOR_MAX: u16 = 2;

/// What a client came for.
#[derive(Debug)]
pub(super) enum Opening {
    /// To go on encrypted.
    Encrypt,
    /// To work.
    Session(Hello),
    /// To stop another connection's statement.
    Cancel { pid: i32, secret: Bytes },
    /// It went away.
    Closed,
}

/// Who a client says it is, and what it asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) user: String,
    /// Empty if it named none.
    pub(super) database: String,
    pub(super) settings: BTreeMap<String, String>,
    /// Length of the cancel secret: protocol 3.2 has longer ones.
    pub(super) secret_bytes: usize,
}

/// Reads until the client has said what it wants. Whether it may ask for encryption is `offers_tls`.
pub(super) async fn open(
    inbox: &mut Inbox,
    outbox: &mut Outbox,
    offers_tls: bool,
) -> Result<Opening, WireError> {
    // A client asks at most once for each kind of encryption.
    for _ in 0..3 {
        let Some(mut packet) = inbox.untagged(STARTUP_BYTES_MAX).await? else {
            return Ok(Opening::Closed);
        };
        match i32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]) {
            SSL_REQUEST if offers_tls => return Ok(Opening::Encrypt),
            SSL_REQUEST | GSS_REQUEST => {
                outbox.buffer().put_u8(b'N');
                outbox.flush().await?;
            }
            CANCEL_REQUEST => {
                packet.advance(8);
                if packet.len() < 8 {
                    return Err(WireError::fatal("08P01", "invalid length of cancel request"));
                }
                return Ok(Opening::Cancel { pid: packet.get_i32(), secret: packet });
            }
            _ => return hello(packet, outbox).map(Opening::Session),
        }
    }
    Err(WireError::fatal("08P01", "too many requests for encryption"))
}

fn hello(packet: Bytes, outbox: &mut Outbox) -> Result<Hello, WireError> {
    let major = u16::from_be_bytes([packet[4], packet[5]]);
    let minor = u16::from_be_bytes([packet[6], packet[7]]);
    if major != 3 {
        let message =
            format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2");
        return Err(WireError::fatal("0A000", message));
    }
    let startup = Startup::decode(&mut BytesMut::from(packet), &DecodeContext::default())?;
    let parameters = startup.map(|s| s.parameters).unwrap_or_default();
    let unknown: Vec<String> =
        parameters.keys().filter(|name| name.starts_with("_pq_.")).cloned().collect();
    if minor > MINOR_MAX || !unknown.is_empty() {
        let newest = (i32::from(major) << 16) | i32::from(minor.min(MINOR_MAX));
        outbox.put(&NegotiateProtocolVersion::new(newest, unknown))?;
    }
    let mut hello = read_parameters(parameters)?;
    hello.secret_bytes = if minor >= 2 { 32 } else { 4 };
    Ok(hello)
}

fn read_parameters(parameters: BTreeMap<String, String>) -> Result<Hello, WireError> {
    let mut hello = Hello {
        user: String::new(),
        database: String::new(),
        settings: BTreeMap::new(),
        secret_bytes: 4,
    };
    for (name, value) in parameters {
        match name.as_str() {
            "user" => hello.user = value,
            "database" => hello.database = value,
            "options" => {
                // What stands in its own parameter wins.
                for (name, value) in options(&value)? {
                    hello.settings.entry(name).or_insert(value);
                }
            }
            "replication" if !matches!(value.as_str(), "false" | "off" | "no" | "0") => {
                return Err(WireError::fatal("0A000", "replication is not supported"));
            }
            name if name.starts_with("_pq_.") => {}
            _ => {
                hello.settings.insert(name, value);
            }
        }
    }
    if hello.user.is_empty() {
        let message = "no PostgreSQL user name specified in startup packet";
        return Err(WireError::fatal("28000", message));
    }
    Ok(hello)
}

/// Settings in `-c name=value --name=value`, where a backslash takes the next character as it is.
fn options(text: &str) -> Result<Vec<(String, String)>, WireError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next()
        } else {
            word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).map(str::to_owned)
        };
        let pair = setting.as_deref().and_then(|s| s.split_once('='));
        let Some((name, value)) = pair else {
            let message = format!("invalid command-line argument for server process: {word}");
            return Err(
                WireError::fatal("22023", message).with_hint("options are given as -c name=value")
            );
        };
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split_as_postgres_does() {
        let pairs = |text| options(text).map(|all| all.into_iter().collect::<Vec<_>>());
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            pairs("-c statement_timeout=5s -csearch_path=a,\\ b --time-zone=UTC").unwrap(),
            [
                pair("statement_timeout", "5s"),
                pair("search_path", "a, b"),
                pair("time_zone", "UTC")
            ]
        );
        assert!(pairs("  ").unwrap().is_empty());
        for bad in ["-c", "-c x", "x=1", "-d 5"] {
            assert_eq!(pairs(bad).unwrap_err().sqlstate, "22023", "{bad}");
        }
    }

    #[test]
    fn parameters_become_settings() {
        let given = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let hello = read_parameters(given(&[
            ("user", "ann"),
            ("database", "otus"),
            ("application_name", "psql"),
            ("options", "-c application_name=x -c TimeZone=Asia/Tokyo"),
        ]))
        .unwrap();
        assert_eq!((hello.user.as_str(), hello.database.as_str()), ("ann", "otus"));
        assert_eq!(
            hello.settings,
            given(&[("application_name", "psql"), ("TimeZone", "Asia/Tokyo")])
        );
        assert_eq!(read_parameters(given(&[])).unwrap_err().sqlstate, "28000");
        let replica = given(&[("user", "ann"), ("replication", "database")]);
        assert_eq!(read_parameters(replica).unwrap_err().sqlstate, "0A000");
    }
}
