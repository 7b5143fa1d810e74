//! Encrypted connections: the certificate and its key, read when the server starts and again when it is told to.
//! What cannot be read refuses to start; nothing here ever goes on without encryption.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use otus_engine::{Error, Result};
use parking_lot::RwLock;
use ring::digest;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
pub(crate) use tokio_rustls::TlsAcceptor;
pub(crate) use tokio_rustls::server::TlsStream;

use super::certificate;
use crate::config::{TlsConfig, TlsRequired};

/// What connections are encrypted with.
#[derive(Debug)]
pub struct Tls {
    config: TlsConfig,
    current: RwLock<Loaded>,
}

/// One state of the two files.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub(crate) acceptor: TlsAcceptor,
    /// What binds a sign-in to the certificate; none where its signature says nothing of a hash.
    pub(crate) end_point: Option<Arc<[u8]>>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("end_point", &self.end_point.is_some()).finish()
    }
}

impl Tls {
    /// Reads the files. The error names the one at fault.
    pub fn load(config: &TlsConfig) -> Result<Arc<Self>> {
        let current = RwLock::new(read(config)?);
        Ok(Arc::new(Self { config: config.clone(), current }))
    }

    /// Reads the files again; on an error what was read before stays in use.
    pub fn reload(&self) -> Result<()> {
        let loaded = read(&self.config)?;
        *self.current.write() = loaded;
        Ok(())
    }

    /// Whether a client at this address is refused if it does not encrypt.
    pub fn is_required(&self, address: Option<SocketAddr>) -> bool {
        match self.config.required {
            TlsRequired::Nobody => false,
            TlsRequired::Remote => !crate::is_local(address),
            TlsRequired::Everybody => true,
        }
    }

    /// What a new connection is encrypted with.
    pub(crate) fn current(&self) -> Loaded {
        self.current.read().clone()
    }
}

fn read(config: &TlsConfig) -> Result<Loaded> {
    let file = &config.certificate;
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, pem::Error>>)
        .map_err(|e| unreadable("certificate", file, &e))?;
    let Some(own) = certificates.first() else {
        return Err(unreadable("certificate", file, &pem::Error::NoItemsFound));
    };
    let end_point = end_point(own);
    let key = PrivateKeyDer::from_pem_file(&config.key)
        .map_err(|e| unreadable("key", &config.key, &e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(certificates, key))
        .map_err(|e| {
            let (certificate, key) = (config.certificate.display(), config.key.display());
            Error::invalid(format!("certificate {certificate} with key {key} cannot be used: {e}"))
                .with_hint("the key must be the one that the certificate was made for")
        })?;
    Ok(Loaded { acceptor: TlsAcceptor::from(Arc::new(server)), end_point })
}

fn unreadable(what: &str, file: &Path, error: &pem::Error) -> Error {
    let reason = match error {
        pem::Error::NoItemsFound => format!("it holds no {what} in PEM form"),
        pem::Error::Io(e) => e.to_string(),
        other => other.to_string(),
    };
    let hint = match what {
        "key" => "an unencrypted private key: PKCS#8, PKCS#1 or SEC1",
        _ => "the server's certificate comes first, then those that lead to its authority",
    };
    Error::invalid(format!("{what} {} cannot be read: {reason}", file.display())).with_hint(hint)
}

/// The binding `tls-server-end-point` of RFC 5929: the certificate's hash, by the hash of its signature.
fn end_point(certificate: &CertificateDer<'_>) -> Option<Arc<[u8]>> {
    let algorithm = certificate::hash_of_signature(certificate)?;
    Some(digest::digest(algorithm, certificate).as_ref().into())
}
