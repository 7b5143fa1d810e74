//! Whatever bytes a client sends, in whatever state, the server answers with an error or ends that one connection,
//! goes on serving the others, and keeps its memory within bounds.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use otus_tests::events;
use otus_tests::otus::{Otus, Setup};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What the server may grow by under one attack, KiB.
const GROWTH_KIB_MAX: u64 = 384 << 10;
/// What random bytes are made of.
const SEED: u64 = 0x0705_2026;
/// How long a client here waits for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

fn server() -> Result<Otus> {
    Setup::tables(events::table_section("events")).start()
}

fn resident_kib(otus: &Otus) -> Result<u64> {
    let pid = otus.id().context("not started")?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no value")?.parse()?)
}

/// A client that knows frames only.
struct Raw(TcpStream);

/// A message: its type and body.
type Message = (u8, Vec<u8>);

impl Raw {
    fn session(otus: &Otus) -> Result<Self> {
        let mut raw = Self::connect(otus)?;
        let body = b"\0\x03\0\0user\0otus\0database\0otus\0\0";
        raw.send(&[&u32::try_from(body.len() + 4)?.to_be_bytes()[..], body].concat())?;
        raw.until(b'Z')?;
        Ok(raw)
    }

    fn connect(otus: &Otus) -> Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", otus.postgres_port()))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(socket))
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write_all(bytes)?)
    }

    fn message(&mut self) -> Result<Message> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; usize::try_from(length)?.checked_sub(4).context("short length")?];
        self.0.read_exact(&mut body)?;
        Ok((head[0], body))
    }

    /// Messages up to and with the first of a type.
    fn until(&mut self, last: u8) -> Result<Vec<Message>> {
        let mut all = Vec::new();
        loop {
            all.push(self.message()?);
            if all.last().is_some_and(|m| m.0 == last) {
                return Ok(all);
            }
        }
    }

    /// The SQLSTATE of the first error that answers these messages, up to ReadyForQuery; empty without one.
    fn state(&mut self, bytes: &[u8]) -> Result<String> {
        self.send(bytes)?;
        let messages = self.until(b'Z')?;
        Ok(messages.iter().find(|m| m.0 == b'E').map(|m| state(&m.1)).unwrap_or_default())
    }
}

fn state(error: &[u8]) -> String {
    let fields = error.split(|b| *b == 0).map(String::from_utf8_lossy);
    fields.into_iter().find_map(|f| f.strip_prefix('C').map(str::to_owned)).unwrap_or_default()
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', format!("{sql}\0").as_bytes())
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

/// Bind of a statement to a portal, with text parameters.
fn bind(portal: &str, statement: &str, values: &[&[u8]]) -> Vec<u8> {
    let mut body = format!("{portal}\0{statement}\0\0\0").into_bytes();
    body.extend(u16::try_from(values.len()).unwrap_or(u16::MAX).to_be_bytes());
    for value in values {
        body.extend(u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
        body.extend(*value);
    }
    body.extend([0, 0]);
    frame(b'B', &body)
}

const SYNC: &[u8] = b"S\0\0\0\x04";
const EXECUTE: &[u8] = b"E\0\0\0\x09\0\0\0\0\0";

/// The server still answers others.
fn alive(otus: &Otus) -> Result<()> {
    anyhow::ensure!(otus.number("select 40 + 2")? == 42);
    Ok(())
}

#[test]
fn random_bytes_in_every_state_hurt_one_connection_only() -> Result<()> {
    let otus = server()?;
    let mut random = StdRng::seed_from_u64(SEED);
    let copy = query("copy events from stdin");
    let begin = query("begin; declare c cursor for select * from generate_series(1, 1000000)");
    let portal = [
        &parse("", "select generate_series(1, 100000)")[..],
        &bind("p", "", &[]),
        b"E\0\0\0\x0ap\0\0\0\0\x05H\0\0\0\x04",
    ]
    .concat();
    let states: [&[u8]; 6] =
        [b"", &copy, &begin, &query("selec"), &portal, &parse("s", "select $1")];
    let tags = b"QPBDECHSXdcfFp\0\xff";
    for round in 0..240 {
        let mut raw = match round % 8 {
            7 => Raw::connect(&otus)?,
            _ => Raw::session(&otus)?,
        };
        let before = states[round % states.len()];
        let mut bytes = before.to_vec();
        for _ in 0..random.random_range(1..6) {
            let body: Vec<u8> = (0..random.random_range(0..40)).map(|_| random.random()).collect();
            let tag = tags[random.random_range(0..tags.len())];
            let mut message = frame(tag, &body);
            if random.random_range(0..4) == 0 {
                let at = random.random_range(0..message.len());
                message[at] = random.random();
            }
            bytes.extend(message);
        }
        // The server may have ended the connection already.
        let _sent = raw.send(&bytes);
        let _shut = raw.0.shutdown(std::net::Shutdown::Write);
        raw.0.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut rest = Vec::new();
        let read = Read::by_ref(&mut raw.0).take(8 << 20).read_to_end(&mut rest);
        let timed_out = read.err().is_some_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        anyhow::ensure!(!timed_out, "round {round}: no end of the connection");
        if round % 20 == 0 {
            alive(&otus).with_context(|| format!("round {round}"))?;
        }
    }
    alive(&otus)?;
    anyhow::ensure!(!otus.output().contains("panicked"), "{}", otus.output());
    Ok(())
}

#[test]
fn binds_that_do_not_fit_are_refused() -> Result<()> {
    let otus = server()?;
    let mut raw = Raw::session(&otus)?;
    let prepared = parse("two", "select $1::int + $2::int");
    anyhow::ensure!(raw.state(&[&prepared[..], SYNC].concat())?.is_empty());
    for (bytes, wanted) in [
        (bind("", "two", &[b"1"]), "08P01"),
        (bind("", "two", &[b"1", b"2", b"3"]), "08P01"),
        (bind("", "nothing", &[]), "26000"),
        (bind("", "two", &[b"1", b"x"]), "22P02"),
        (bind("", "two", &[b"1", b"\xff"]), "22021"),
        (
            frame(b'B', b"\0two\0\0\x03\0\x01\0\x01\0\x01\0\x02\0\0\0\x01\x01\0\0\0\x01\x01\0\0"),
            "08P01",
        ),
        (frame(b'B', b"\0two\0\0\x01\0\x01\0\x02\0\0\0\x01\x01\0\0\0\x01\x01\0\0"), "22P03"),
        (frame(b'B', b"\0two\0\0\0\0\x02\0\0\0\x011\0\0\0\x012\0\x02\0\0\0\0"), "08P01"),
        (frame(b'D', b"Snothing\0"), "26000"),
        (frame(b'D', b"Pnothing\0"), "34000"),
        (frame(b'E', b"nothing\0\0\0\0\0"), "34000"),
        (parse("", "select $0"), "42P02"),
        (parse("", "select $65536"), "42P02"),
        (parse("", "select $99999999999999999999"), "42P02"),
    ] {
        let found = raw.state(&[&bytes[..], SYNC].concat())?;
        anyhow::ensure!(
            found == wanted,
            "{:?}: {found}, not {wanted}",
            String::from_utf8_lossy(&bytes)
        );
    }
    anyhow::ensure!(
        raw.state(&[&bind("", "two", &[b"1", b"2"])[..], EXECUTE, SYNC].concat())?.is_empty()
    );
    Ok(())
}

#[test]
fn as_many_parameters_as_there_may_be() -> Result<()> {
    let otus = server()?;
    let mut raw = Raw::session(&otus)?;
    let list: Vec<_> = (1..=65_535).map(|n| format!("${n}")).collect();
    let sql = format!("select count(*) from events where amount in ({})", list.join(","));
    let values: Vec<&[u8]> = (0..65_535).map(|_| &b"7"[..]).collect();
    let found =
        raw.state(&[&parse("", &sql)[..], &bind("", "", &values), EXECUTE, SYNC].concat())?;
    // It runs, or is refused as too complex; it does not end the connection.
    anyhow::ensure!(found.is_empty() || found.starts_with("54"), "{found}");
    anyhow::ensure!(raw.state(&query("select 1"))?.is_empty());
    alive(&otus)
}

#[test]
fn what_a_connection_keeps_is_bounded() -> Result<()> {
    let otus = server()?;
    alive(&otus)?;
    let before = resident_kib(&otus)?;
    let mut raw = Raw::session(&otus)?;
    // Prepared statements by their bytes, and by their number.
    let long = format!("select '{}'", "x".repeat(200_000));
    let mut refused = 0;
    for n in 0..400 {
        let found = raw.state(&[&parse(&format!("s{n}"), &long)[..], SYNC].concat())?;
        anyhow::ensure!(found.is_empty() || found == "53400", "{found}");
        refused += usize::from(!found.is_empty());
    }
    anyhow::ensure!(refused > 300, "only {refused} refused");
    // Portals by the bytes of their parameters.
    let mut raw = Raw::session(&otus)?;
    let value = vec![b'x'; 4 << 20];
    let mut refused = 0;
    anyhow::ensure!(raw.state(&[&parse("s", "select $1::text")[..], SYNC].concat())?.is_empty());
    anyhow::ensure!(raw.state(&query("begin"))?.is_empty());
    for n in 0..40 {
        raw.send(&bind(&format!("p{n}"), "s", &[&value]))?;
        raw.send(b"H\0\0\0\x04")?;
        if raw.message()?.0 == b'E' {
            refused += 1;
            raw.send(SYNC)?;
            raw.until(b'Z')?;
            break;
        }
    }
    anyhow::ensure!(refused == 1, "40 portals of 4 MiB were taken");
    drop(raw);
    // Settings of the client's own.
    let client = otus.connect()?;
    let (found, _) = client.failure(&format!("set my.own = '{}'", "x".repeat(100_000)))?;
    anyhow::ensure!(found == "54000", "{found}");
    let grown = resident_kib(&otus)?.saturating_sub(before);
    anyhow::ensure!(grown < GROWTH_KIB_MAX, "grown by {grown} KiB");
    alive(&otus)
}

#[test]
fn a_flood_that_nobody_reads_is_held_back() -> Result<()> {
    let otus = server()?;
    alive(&otus)?;
    let before = resident_kib(&otus)?;
    // Each asks for far more than it sends, and reads nothing.
    let cycle = [
        &parse("", "select repeat('x', 100000)")[..],
        &bind("", "", &[]),
        EXECUTE,
        b"H\0\0\0\x04",
        SYNC,
    ]
    .concat();
    let pipeline = cycle.repeat(4_000);
    let mut floods = Vec::new();
    for _ in 0..4 {
        let mut raw = Raw::session(&otus)?;
        raw.0.set_write_timeout(Some(Duration::from_secs(2)))?;
        // Sooner or later the server takes no more.
        let _held_back = raw.send(&pipeline);
        floods.push(raw);
    }
    alive(&otus)?;
    let grown = resident_kib(&otus)?.saturating_sub(before);
    anyhow::ensure!(grown < GROWTH_KIB_MAX, "grown by {grown} KiB");
    drop(floods);
    alive(&otus)
}

#[test]
fn names_are_taken_as_they_are_or_refused() -> Result<()> {
    let otus = server()?;
    let mut raw = Raw::session(&otus)?;
    let long = "x".repeat(100_000);
    for sql in [
        format!("select 1 as \"{long}\""),
        format!("select * from \"{long}\""),
        format!("set \"{long}\" = 1"),
        format!("declare \"{long}\" cursor for select 1"),
        format!("savepoint {long}"),
        "select \"../../etc/passwd\"".to_owned(),
        "select * from \"..\".\"..\"".to_owned(),
        "copy \"../x\" from stdin".to_owned(),
        "insert into \"a\u{1}b\" values (1)".to_owned(),
    ] {
        raw.send(&query(&sql))?;
        let messages = raw.until(b'Z')?;
        anyhow::ensure!(messages.iter().any(|m| matches!(m.0, b'E' | b'D' | b'T')), "{messages:?}");
    }
    alive(&otus)
}

#[test]
fn many_may_wait_to_be_let_in() -> Result<()> {
    let bound = std::fs::read_to_string("/proc/sys/net/core/somaxconn")?.trim().parse::<usize>()?;
    let otus = server()?;
    let pid = otus.id().context("not started")?.to_string();
    let signal = |name: &str| std::process::Command::new("kill").args([name, &pid]).status();
    signal("-STOP")?;
    let address = (Ipv4Addr::LOCALHOST, otus.postgres_port()).into();
    // Whoever finds no room tries again after a second.
    let patience = Duration::from_millis(900);
    let connect = |_| TcpStream::connect_timeout(&address, patience);
    let waiting: Vec<_> = (0..bound.min(700)).map(connect).collect();
    signal("-CONT")?;
    let waiting = waiting.into_iter().collect::<Result<Vec<_>, _>>();
    anyhow::ensure!(waiting.is_ok(), "{waiting:?}");
    alive(&otus)
}
