//! Connections that do nothing cost little: a thousand of them fit into 100 MiB of the server's memory.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result};
use otus_tests::events;
use otus_tests::otus::{Otus, PATIENCE, Setup};

const CONNECTIONS: usize = 1_000;
const GROWTH_KIB_MAX: u64 = 100 << 10;

/// A connection of the least that the protocol needs: a thousand clients of a driver would be the test's own load.
struct Wire(TcpStream);

impl Wire {
    fn new(port: u16) -> Result<Self> {
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let parameters = b"user\0otus\0database\0otus\0\0";
        let length = u32::try_from(parameters.len() + 8)?;
        let packet = [&length.to_be_bytes()[..], &196_608_u32.to_be_bytes(), parameters].concat();
        socket.write_all(&packet)?;
        let mut wire = Self(socket);
        wire.wait_ready()?;
        Ok(wire)
    }

    fn ask(&mut self, sql: &str) -> Result<()> {
        let length = u32::try_from(sql.len() + 5)?;
        let message = [b"Q", &length.to_be_bytes()[..], sql.as_bytes(), b"\0"].concat();
        self.0.write_all(&message)?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let (mut read, mut piece) = (Vec::new(), [0; 4096]);
        while !read.windows(6).last().is_some_and(|end| end.starts_with(b"Z\0\0\0\x05")) {
            let n = self.0.read(&mut piece)?;
            anyhow::ensure!(n > 0, "the server ended the connection");
            read.extend_from_slice(piece.get(..n).unwrap_or_default());
        }
        Ok(())
    }
}

fn resident_kib(otus: &Otus) -> Result<u64> {
    let pid = otus.id().context("not started")?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).context("no such field")?;
    Ok(line.split_whitespace().nth(1).context("no value")?.parse()?)
}

#[test]
fn a_thousand_idle_connections_fit_into_100_mib() -> Result<()> {
    let most = (CONNECTIONS + 10).to_string();
    let otus =
        Setup::tables(events::table_section("events")).server("connections", &most).start()?;
    let mut first = Wire::new(otus.postgres_port())?;
    first.ask("select count(*) from events")?;
    let before = resident_kib(&otus)?;
    let open = |_| Wire::new(otus.postgres_port());
    let mut connections = (0..CONNECTIONS).map(open).collect::<Result<Vec<_>>>()?;
    let connected = resident_kib(&otus)?;
    anyhow::ensure!(connected < before + GROWTH_KIB_MAX, "{before} KiB, then {connected}");
    // Nor does a session that has worked hold more when it rests.
    connections.iter_mut().try_for_each(|wire| wire.ask("select 1"))?;
    let worked = resident_kib(&otus)?;
    anyhow::ensure!(worked < before + GROWTH_KIB_MAX, "{before} KiB, then {worked}");
    let seen = otus.number("select count(*) from pg_stat_activity where state = 'idle'")?;
    anyhow::ensure!(seen == i64::try_from(CONNECTIONS + 1)?, "{seen} sessions are seen");
    Ok(())
}
