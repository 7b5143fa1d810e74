//! What a broker needs that wants its clients to log in: keys and certificates made by Java's own keytool, two
//! listeners beside the open one (SASL over TLS, and TLS alone), one user.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::process::free_port;

/// The only user.
pub const USER: &str = "otus-reader";
/// The user's password, which must be seen nowhere.
pub const PASSWORD: &str = "Kuckucksuhr-4711";
/// Of the key stores.
const STORE_PASSWORD: &str = "storepass";

/// See the module.
#[derive(Debug)]
pub struct Secured {
    folder: PathBuf,
    sasl_port: u16,
    tls_port: u16,
}

impl Secured {
    /// Makes keys and certificates in `folder`.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let this =
            Self { folder: folder.to_owned(), sasl_port: free_port()?, tls_port: free_port()? };
        for authority in ["authority", "stranger"] {
            let (name, file) = (format!("CN={authority}"), format!("{authority}.pem"));
            let itself = ["-ext", "bc:c", "-dname", &name];
            this.keytool("-genkeypair", authority, authority, &itself)?;
            this.keytool("-exportcert", authority, authority, &["-rfc", "-file", &file])?;
        }
        // Signed while both keys share a store, then moved to one of its own: a broker takes any key it finds.
        let signed = ["-dname", "CN=broker", "-ext", "san=ip:127.0.0.1", "-signer", "authority"];
        this.keytool("-genkeypair", "authority", "broker", &signed)?;
        let moved = this
            .command("-importkeystore")
            .args(["-srckeystore", "authority.p12", "-srcstorepass", STORE_PASSWORD])
            .args(["-destkeystore", "broker.p12", "-deststorepass", STORE_PASSWORD])
            .args(["-srcalias", "broker"])
            .output()?;
        anyhow::ensure!(moved.status.success(), "keytool: {moved:?}");
        Ok(this)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new("keytool");
        command.current_dir(&self.folder).args([verb, "-noprompt"]);
        command
    }

    fn keytool(&self, verb: &str, store: &str, alias: &str, more: &[&str]) -> Result<()> {
        let mut command = self.command(verb);
        command.args(["-keystore", &format!("{store}.p12"), "-storepass", STORE_PASSWORD]);
        command.args(["-alias", alias]);
        if verb == "-genkeypair" {
            command.args(["-storetype", "PKCS12", "-keyalg", "EC", "-validity", "30"]);
        }
        let output = command.args(more).output()?;
        anyhow::ensure!(output.status.success(), "keytool {verb}: {output:?}");
        Ok(())
    }

    /// `host:port` for clients that log in over TLS.
    pub fn sasl_address(&self) -> String {
        format!("127.0.0.1:{}", self.sasl_port)
    }

    /// `host:port` for clients that use TLS alone.
    pub fn tls_address(&self) -> String {
        format!("127.0.0.1:{}", self.tls_port)
    }

    /// The certificate of the authority that signed the broker's.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// The certificate of an authority that signed nothing.
    pub fn stranger(&self) -> PathBuf {
        self.folder.join("stranger.pem")
    }

    pub(crate) fn format_arguments(&self) -> Vec<String> {
        let user = format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]");
        vec!["--add-scram".to_owned(), user]
    }

    pub(crate) fn listeners(&self) -> String {
        format!(",SASL_SSL://{},SSL://{}", self.sasl_address(), self.tls_address())
    }

    pub(crate) fn properties(&self) -> String {
        let login = "org.apache.kafka.common.security";
        let store = self.folder.join("broker.p12");
        format!(
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,\
             SSL:SSL\n\
             sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN\n\
             listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
             {login}.scram.ScramLoginModule required;\n\
             listener.name.sasl_ssl.plain.sasl.jaas.config=\
             {login}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";\n\
             ssl.keystore.type=PKCS12\nssl.keystore.location={}\n\
             ssl.keystore.password={STORE_PASSWORD}\nssl.key.password={STORE_PASSWORD}\n",
            store.display()
        )
    }
}
