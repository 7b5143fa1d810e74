//! Strangers who knock in every way before they are known: silent ones by the thousand, slow ones, and those who
//! send what no client would. None is let in, and whoever comes to work is served meanwhile.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result};
use otus_tests::need;
use otus_tests::otus::{PATIENCE, Setup};

use crate::access_login::{TABLES, psql, text, users, words};

/// A startup packet.
fn hello(parameters: &[u8]) -> Vec<u8> {
    let length = u32::try_from(parameters.len() + 8).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &196_608_u32.to_be_bytes(), parameters].concat()
}

#[test]
fn strangers_who_knock_in_every_way_disturb_nobody() -> Result<()> {
    let (users, _, watches) = users()?;
    let mut otus = Setup::tables(format!("{users}{TABLES}")).start()?;
    let (port, http) = (otus.postgres_port(), otus.url("/healthz"));
    let works = |what: &str| -> Result<()> {
        let output = psql(&otus, "ann", "pencil", "", "select 1").map_err(anyhow::Error::msg)?;
        anyhow::ensure!(words(&output) == "1", "{what}: {output:?}");
        let (status, _) = otus_tests::otus::get(&http)?;
        anyhow::ensure!(status == 200, "{what}: {status}");
        Ok(())
    };
    need!(otus.psql());
    works("before")?;
    // Many who say nothing, or a little; the server lets go of those who have waited longest.
    let web: u16 =
        http.split(':').nth(2).and_then(|t| t.split('/').next()).context("no port")?.parse()?;
    let mut silent = VecDeque::new();
    for n in 0..2_000_usize {
        let mut socket = TcpStream::connect(("127.0.0.1", if n % 2 == 0 { port } else { web }))?;
        let little: &[&[u8]] = &[b"", b"\0", &[0, 0, 0, 80], b"GET /api/schema HT"];
        socket.write_all(little[n / 2 % little.len()])?;
        silent.push_back(socket);
        if silent.len() > 1_500 {
            silent.pop_front();
        }
        if n % 400 == 399 {
            works("many say nothing")?;
        }
    }
    let watched = reqwest::Client::new().get(otus.url("/metrics")).bearer_auth(&watches);
    let (_, metrics) = text(watched)?;
    assert!(metrics.contains("otus_connections_evicted_total"), "{metrics}");
    drop(silent);

    let ann = hello(b"user\0ann\0database\0otus\0\0");
    let sasl = |tag: u8, body: &[u8]| {
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        [&[tag][..], &length.to_be_bytes(), body].concat()
    };
    let first = sasl(b'p', b"SCRAM-SHA-256\0\0\0\0\x09n,,n=,r=x");
    let long = sasl(b'p', &[b'x'; 20_000]);
    let endless = sasl(b'p', b"SCRAM-SHA-256\0\x7f\xff\xff\xff,,");
    let query = sasl(b'Q', b"select 1\0");
    let openings: Vec<Vec<u8>> = vec![
        hello(&[0; 12_000]),
        [&ann[..], &query].concat(),
        [&ann[..], &long].concat(),
        [&ann[..], &endless].concat(),
        [&ann[..], &first, &query].concat(),
        [&ann[..], &first, &sasl(b'p', b"c=biws,r=x,p=")].concat(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        [&[0, 0, 0, 8, 4, 210, 22, 47][..], &ann, &query].concat(),
    ];
    let whole = [&ann[..], &first, &sasl(b'p', b"c=biws,r=x,p=AAAA")].concat();
    let cut = (0..whole.len()).map(|end| whole[..end].to_vec());
    let spoilt = (0..whole.len()).step_by(2).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x80 | u8::try_from(at % 128).unwrap_or(0);
        bytes
    });
    for bytes in openings.into_iter().chain(cut).chain(spoilt) {
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(&bytes).ok();
        socket.shutdown(std::net::Shutdown::Write).ok();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).ok();
        // 'R' and a zero would say that the client is in; 'Z' that it may begin.
        let is_in = answer.windows(9).any(|w| w == [b'R', 0, 0, 0, 8, 0, 0, 0, 0]);
        assert!(!is_in, "{bytes:?} was let in: {answer:?}");
    }
    works("after all that")?;
    assert!(!otus.output().contains("panicked"), "{}", otus.output());
    otus.stop()
}
