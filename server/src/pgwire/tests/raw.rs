//! Byte by byte: the order of messages, transaction states, and everything a client should not send.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A client that knows frames only.
struct Raw(TcpStream);

/// A message of the server: its type and body.
type Message = (char, Vec<u8>);

impl Raw {
    async fn connect(server: &Serving) -> Self {
        Self(TcpStream::connect(server.address).await.unwrap())
    }

    /// Connected, with the greeting read.
    async fn session(server: &Serving) -> Self {
        let mut raw = Self::connect(server).await;
        raw.send(&startup(196_608, b"user\0ann\0database\0otus\0\0")).await;
        let greeting = raw.until('Z').await;
        assert_eq!(greeting[0], ('R', vec![0, 0, 0, 0]));
        assert_eq!(greeting.last().unwrap().1, b"I");
        raw
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next message; none at the end.
    async fn message(&mut self) -> Option<Message> {
        let tag = self.0.read_u8().await.ok()?;
        let length = usize::try_from(self.0.read_u32().await.ok()?).unwrap();
        let mut body = vec![0; length - 4];
        self.0.read_exact(&mut body).await.ok()?;
        Some((char::from(tag), body))
    }

    /// Messages up to and with the first of a type.
    async fn until(&mut self, last: char) -> Vec<Message> {
        let all = async {
            let mut all = Vec::new();
            while let Some(message) = self.message().await {
                let end = message.0 == last;
                all.push(message);
                if end {
                    break;
                }
            }
            all
        };
        tokio::time::timeout(Duration::from_secs(10), all).await.unwrap()
    }

    /// The types of the messages that answer `bytes`, up to ReadyForQuery, and its state.
    async fn answer(&mut self, bytes: &[u8]) -> String {
        self.send(bytes).await;
        let messages = self.until('Z').await;
        let mut tags: String = messages.iter().map(|m| m.0).collect();
        tags.extend(messages.last().unwrap().1.iter().map(|b| char::from(*b)));
        tags
    }
}

fn startup(version: u32, parameters: &[u8]) -> Vec<u8> {
    let length = u32::try_from(parameters.len() + 8).unwrap();
    [&length.to_be_bytes(), &version.to_be_bytes(), parameters].concat()
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', format!("{sql}\0").as_bytes())
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

const SYNC: &[u8] = b"S\0\0\0\x04";
const BIND: &[u8] = b"B\0\0\0\x0c\0\0\0\0\0\0\0\0";
const DESCRIBE: &[u8] = b"D\0\0\0\x06P\0";
const EXECUTE: &[u8] = b"E\0\0\0\x09\0\0\0\0\0";

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_in_order() {
    let server = Serving::start(4).await;
    let mut raw = Raw::session(&server).await;
    assert_eq!(raw.answer(&query("SELECT 1 AS a")).await, "TDCZI");
    assert_eq!(raw.answer(&query("")).await, "IZI");
    assert_eq!(raw.answer(&query("BEGIN")).await, "CZT");
    assert_eq!(raw.answer(&query("SELEC")).await, "EZE");
    assert_eq!(raw.answer(&query("SELECT 1")).await, "EZE");
    assert_eq!(raw.answer(&query("COMMIT")).await, "CZI");
    assert_eq!(raw.answer(&query("SET TimeZone = 'Asia/Tokyo'")).await, "SCZI");
    let whole = [&parse("", "SELECT 1 AS a")[..], BIND, DESCRIBE, EXECUTE, SYNC].concat();
    assert_eq!(raw.answer(&whole).await, "12TDCZI");
    let empty = [&parse("", "")[..], BIND, DESCRIBE, EXECUTE, SYNC].concat();
    assert_eq!(raw.answer(&empty).await, "12nIZI");
    // After an error everything is skipped up to Sync, then all is well again.
    let wrong = [&parse("", "SELEC")[..], BIND, DESCRIBE, EXECUTE, SYNC].concat();
    assert_eq!(raw.answer(&wrong).await, "EZI");
    assert_eq!(raw.answer(&[EXECUTE, SYNC].concat()).await, "EZI");
    // Cursors of SQL can be described as portals.
    assert_eq!(raw.answer(&query("BEGIN; DECLARE \"C\" CURSOR FOR SELECT 1")).await, "CCZT");
    assert_eq!(raw.answer(&[b"D\0\0\0\x07PC\0", SYNC].concat()).await, "TZT");
    assert_eq!(raw.answer(&query("COMMIT")).await, "CZI");
    assert_eq!(raw.answer(&[b"D\0\0\0\x07PC\0", SYNC].concat()).await, "EZI");
    // And portals are cursors to SQL: `P` names one, of which rows are fetched, passed over, or given back.
    let named = [&parse("", "SELECT n FROM generate_series(1, 9) t(n)")[..], SYNC].concat();
    assert_eq!(raw.answer(&query("BEGIN")).await, "CZT");
    assert_eq!(raw.answer(&named).await, "1ZT");
    let bind = frame(b'B', b"P\0\0\0\0\0\0\0\0");
    assert_eq!(raw.answer(&[&bind[..], SYNC].concat()).await, "2ZT");
    raw.send(&query("MOVE FORWARD 3 FROM \"P\"; FETCH 2 \"P\"")).await;
    let messages = raw.until('Z').await;
    let tags: String = messages.iter().map(|m| m.0).collect();
    assert_eq!(tags, "CTDDCZ");
    assert_eq!(&messages[0].1[..], b"MOVE 3\0");
    assert!(messages[2].1.ends_with(b"4") && messages[3].1.ends_with(b"5"));
    let execute = frame(b'E', b"P\0\0\0\0\x01");
    assert_eq!(raw.answer(&[&execute[..], SYNC].concat()).await, "DsZT", "the sixth");
    let fetch = [&parse("", "FETCH ALL \"P\"")[..], BIND, DESCRIBE, EXECUTE, SYNC].concat();
    assert_eq!(raw.answer(&fetch).await, "12TDDDCZT");
    assert_eq!(raw.answer(&query("FETCH \"P\"; MOVE ALL \"P\"; CLOSE \"P\"")).await, "TCCCZT");
    assert_eq!(raw.answer(&query("MOVE \"P\"")).await, "EZE");
    assert_eq!(raw.answer(&query("ROLLBACK")).await, "CZI");
    // Data for a COPY that never began is skipped.
    assert_eq!(raw.answer(&[&frame(b'd', b"x")[..], &query("SELECT 1")].concat()).await, "TDCZI");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_gives_back_what_was_prepared_by_message() {
    let server = Serving::start(4).await;
    let mut raw = Raw::session(&server).await;
    let named = [&parse("One", "SELECT 1 AS a")[..], SYNC].concat();
    for give_back in ["DEALLOCATE \"One\"", "DEALLOCATE ALL", "DISCARD ALL"] {
        assert_eq!(raw.answer(&named).await, "1ZI");
        assert_eq!(raw.answer(&named).await, "EZI", "the name is taken");
        let tags = raw.answer(&query(give_back)).await;
        assert!(tags.ends_with("CZI"), "{give_back}: {tags}");
    }
    assert_eq!(raw.answer(&query("DEALLOCATE one")).await, "EZI");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_is_declined_and_versions_are_negotiated() {
    let server = Serving::start(4).await;
    let mut raw = Raw::connect(&server).await;
    for request in [80_877_103, 80_877_104] {
        raw.send(&startup(request, b"")).await;
        assert_eq!(raw.0.read_u8().await.unwrap(), b'N');
    }
    raw.send(&startup(196_608 + 9_999, b"user\0ann\0_pq_.x\0y\0\0")).await;
    let greeting = raw.until('Z').await;
    let negotiated = [&196_610_u32.to_be_bytes()[..], &1_u32.to_be_bytes(), b"_pq_.x\0"].concat();
    assert_eq!(greeting[0], ('v', negotiated));
    let key = &greeting.iter().find(|m| m.0 == 'K').unwrap().1;
    assert_eq!(key.len(), 4 + 32);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_openings_are_refused() {
    let server = Serving::start(4).await;
    for opening in [
        &b"\0\0\0\x04"[..],
        b"\xff\xff\xff\xff\0\x03\0\0",
        b"\x16\x03\x01\x02\0\x01\0\x01",
        b"GET / HTTP/1.1\r\n\r\n",
        &startup(131_072, b"user\0ann\0\0"),
        &startup(196_608, b"\0"),
        &startup(196_608, b"user\0ann\0database\0elsewhere\0\0"),
        &startup(196_608, b"user\0ann\0options\0-x\0\0"),
        &startup(80_877_102, b"\0\0"),
    ] {
        let mut raw = Raw::connect(&server).await;
        raw.send(opening).await;
        let messages = raw.until('\0').await;
        assert_eq!(messages.len(), 1, "{opening:?}");
        assert_eq!(messages[0].0, 'E', "{opening:?}");
        assert!(messages[0].1.starts_with(b"SFATAL\0"));
    }
    // Half an opening is no more than a connection that closes.
    let mut raw = Raw::connect(&server).await;
    raw.send(b"\0\0").await;
    drop(raw);
    let client = server.connect().await.unwrap();
    assert!(client.simple_query("SELECT 1").await.is_ok());
    server.stop().await;
}

/// Each of these ends its own connection, with an error, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn broken_frames_end_one_connection() {
    let server = Serving::start(16).await;
    let mut witness = Raw::session(&server).await;
    for bytes in [
        &b"Q\0\0\0\x03"[..],
        b"Q\x7f\xff\xff\xff",
        b"Q\0\0\0\x05x",
        b"Q\0\0\0\x07x\0y",
        b"P\0\0\0\x06a\0",
        b"B\0\0\0\x0e\0\0\0\0\0\x01\x7f\xff\xff\xff",
        b"D\0\0\0\x06X\0",
        b"E\0\0\0\x05\0",
        b"Z\0\0\0\x04",
        b"F\0\0\0\x04",
        b"\0\0\0\0\0\0",
    ] {
        let mut raw = Raw::session(&server).await;
        raw.send(bytes).await;
        let messages = raw.until('\0').await;
        assert_eq!(messages.len(), 1, "{bytes:?}");
        assert!(messages[0].1.starts_with(b"SFATAL\0"), "{bytes:?}");
        assert_eq!(witness.answer(&query("SELECT 1")).await, "TDCZI");
    }
    // Text that is no UTF-8 is the fault of one statement only.
    let mut raw = Raw::session(&server).await;
    assert_eq!(raw.answer(&frame(b'Q', b"SELECT '\xff'\0")).await, "EZI");
    assert_eq!(raw.answer(&query("SELECT 1")).await, "TDCZI");
    server.stop().await;
}
