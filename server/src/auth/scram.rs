//! The server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677): texts in, texts out, no
//! sockets. What a client says about itself is not believed: the user is the one that it named at the start.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::verifier::{KEY_BYTES, Key, Verifier, equal_in_constant_time, hash, mac};

/// Without channel binding.
pub(crate) const SCRAM: &str = "SCRAM-SHA-256";
/// With channel binding.
pub(crate) const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// The one kind of channel binding.
const END_POINT: &str = "tls-server-end-point";

/// Why an exchange ends without success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScramError {
    /// The client does not keep to the protocol.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// It asks for what there is not.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// It knows no mechanism that is offered.
    #[error("the client selected an invalid SASL authentication mechanism")]
    Mechanism,
    /// It did not see that binding to the channel was offered: somebody between may have taken that out.
    #[error("SCRAM channel binding negotiation error")]
    Downgrade,
    /// It is bound to another channel: somebody sits between.
    #[error("SCRAM channel binding check failed")]
    Binding,
    /// The password is wrong, or there is no such user.
    #[error("the password is wrong")]
    Denied,
}

/// An exchange that waits for the client's proof.
#[derive(Debug)]
pub(crate) struct Exchange {
    verifier: Verifier,
    /// What the client must give back: its header, and the channel's data.
    binding: Vec<u8>,
    nonce: String,
    client_first: String,
    server_first: String,
}

/// The names of the mechanisms for a client on this channel.
pub(crate) fn mechanisms(channel: Option<&[u8]>) -> Vec<String> {
    let plus = channel.map(|_| SCRAM_PLUS.to_owned());
    plus.into_iter().chain([SCRAM.to_owned()]).collect()
}

impl Exchange {
    /// Reads the client's first message. `channel` are the data that bind to the encrypted channel, where there is
    /// one; `server_nonce` must be new each time.
    pub(crate) fn begin(
        mechanism: &str,
        message: &[u8],
        verifier: Verifier,
        channel: Option<&[u8]>,
        server_nonce: &str,
    ) -> Result<Self, ScramError> {
        let is_plus = match (mechanism, channel) {
            (SCRAM, _) => false,
            (SCRAM_PLUS, Some(_)) => true,
            _ => return Err(ScramError::Mechanism),
        };
        let message = text(message)?;
        let (flag, rest) = message.split_once(',').ok_or(ScramError::Malformed("no header"))?;
        let (authorization, bare) =
            rest.split_once(',').ok_or(ScramError::Malformed("no header"))?;
        if !authorization.is_empty() {
            return Err(ScramError::Unsupported("an authorization identity"));
        }
        let mut binding = format!("{flag},{authorization},").into_bytes();
        match (flag, is_plus) {
            ("n", false) => {}
            ("y", false) if channel.is_some() => return Err(ScramError::Downgrade),
            ("y", false) => {}
            (flag, true) if flag.starts_with("p=") => {
                if flag.strip_prefix("p=") != Some(END_POINT) {
                    return Err(ScramError::Unsupported("this channel binding type"));
                }
                binding.extend_from_slice(channel.unwrap_or_default());
            }
            (_, true) => return Err(ScramError::Malformed("no channel binding data")),
            _ => return Err(ScramError::Malformed("unexpected channel binding flag")),
        }
        let mut attributes = bare.split(',');
        let user = attributes.next().unwrap_or_default();
        if user.starts_with("m=") {
            return Err(ScramError::Unsupported("a mandatory extension"));
        }
        if !user.starts_with("n=") {
            return Err(ScramError::Malformed("no user attribute"));
        }
        let client_nonce = attributes.next().and_then(|a| a.strip_prefix("r="));
        let client_nonce = client_nonce.filter(|nonce| is_printable(nonce));
        let client_nonce = client_nonce.ok_or(ScramError::Malformed("no nonce"))?;
        let nonce = format!("{client_nonce}{server_nonce}");
        let salt = BASE64.encode(&verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let client_first = bare.to_owned();
        Ok(Self { verifier, binding, nonce, client_first, server_first })
    }

    /// What the client is asked.
    pub(crate) fn challenge(&self) -> &str {
        &self.server_first
    }

    /// Judges the client's last message; gives the proof that this is the server it knows.
    pub(crate) fn finish(self, message: &[u8]) -> Result<String, ScramError> {
        let message = text(message)?;
        let (unproven, proof) =
            message.rsplit_once(",p=").ok_or(ScramError::Malformed("no proof"))?;
        let mut attributes = unproven.split(',');
        let binding = attributes.next().and_then(|a| a.strip_prefix("c="));
        let binding = binding.ok_or(ScramError::Malformed("no channel binding"))?;
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r="));
        if nonce != Some(self.nonce.as_str()) {
            return Err(ScramError::Malformed("the nonce does not match"));
        }
        if binding != BASE64.encode(&self.binding) {
            return Err(ScramError::Binding);
        }
        let proof = BASE64.decode(proof).ok().and_then(|proof| Key::try_from(proof).ok());
        let proof = proof.ok_or(ScramError::Malformed("the proof cannot be read"))?;
        let signed = format!("{},{},{unproven}", self.client_first, self.server_first);
        let signature = mac(&self.verifier.stored_key, signed.as_bytes());
        let mut client_key = [0; KEY_BYTES];
        for (key, (proof, signature)) in client_key.iter_mut().zip(proof.iter().zip(&signature)) {
            *key = proof ^ signature;
        }
        if !equal_in_constant_time(&hash(&client_key), &self.verifier.stored_key) {
            return Err(ScramError::Denied);
        }
        let own = mac(&self.verifier.server_key, signed.as_bytes());
        Ok(format!("v={}", BASE64.encode(own)))
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("not UTF-8"))
}

fn is_printable(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b',')
}

#[cfg(test)]
mod tests;
