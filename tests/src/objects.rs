//! A local S3 server (moto), with put-if-absent checked before anything trusts it.

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Result;

use crate::leash;
use crate::process::{Process, free_port, listens, until};
use crate::python;

/// A running S3 server with one bucket, `otus`.
#[derive(Debug)]
pub struct Objects {
    port: u16,
    process: Process,
}

/// The bucket of every test; each takes a prefix of its own.
pub const BUCKET: &str = "otus";

static SHARED: OnceLock<Result<Objects, String>> = OnceLock::new();

impl Objects {
    /// The server of this run, started on first use; or why there is none.
    pub fn shared() -> Result<&'static Self, String> {
        let python = python::interpreter()?;
        let started = SHARED.get_or_init(|| Self::start(&python).map_err(|e| format!("{e:#}")));
        started.as_ref().map_err(Clone::clone)
    }

    /// A server of one's own, which may be made to stop answering.
    pub fn own() -> Result<Self, String> {
        Self::start(&python::interpreter()?).map_err(|e| format!("{e:#}"))
    }

    /// Sends its process a signal by name.
    pub fn signal(&self, name: &str) -> Result<()> {
        self.process.signal(name)
    }

    fn start(python: &std::path::Path) -> Result<Self> {
        let folder = leash::fresh_folder("objects")?;
        let port = free_port()?;
        let process = Process::start(
            Command::new(python)
                .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
                .current_dir(&folder),
            &folder.join("output"),
        )?;
        let this = Self { port, process };
        until("S3 server", Duration::from_secs(60), || {
            anyhow::ensure!(listens(port), "nothing listens on port {port}");
            Ok(())
        })?;
        python::run(python, "s3_probe.py", &[&this.endpoint(), BUCKET])?;
        Ok(this)
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The `[storage]` section of a configuration whose dataset stands below `prefix`.
    pub fn storage_section(&self, prefix: &str) -> String {
        format!(
            "[storage]\nurl = \"s3://{BUCKET}/{prefix}\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\n\
             access_key_id = \"test\"\nsecret_access_key = \"test\"\nallow_http = true\n",
            self.endpoint()
        )
    }
}
