//! The SASL dialogue: a client proves that it knows its user's password, and the server that it has the verifier.
//! A user that does not exist is asked in the same way and refused with the same words.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use otus_sql::access::Identity;
use pgwire::messages::startup::Authentication;

use super::error::WireError;
use super::io::{Inbox, Outbox};
use super::limits::STARTUP_BYTES_MAX;
use crate::auth::scram::{self, Exchange, ScramError};
use crate::auth::{Accounts, Origin, SignInError, random_text};

/// Whoever wants to come in.
pub(super) struct Client<'a> {
    pub(super) user: &'a str,
    /// What binds to the encrypted channel, where there is one.
    pub(super) channel: Option<&'a [u8]>,
    pub(super) origin: Origin,
}

/// Asks for the proof of the password. None if the client goes away instead, as one does that must ask somebody
/// for the password first.
pub(super) async fn authenticate(
    inbox: &mut Inbox,
    outbox: &mut Outbox,
    accounts: &Accounts,
    client: Client<'_>,
) -> Result<Option<Arc<Identity>>, WireError> {
    let Client { user, channel, origin } = client;
    let refused = |e| refused(user, e);
    accounts.check(user, origin).map_err(refused)?;
    outbox.put(&Authentication::SASL(scram::mechanisms(channel)))?;
    outbox.flush().await?;
    let Some(answer) = answer(inbox).await? else { return Ok(None) };
    let (mechanism, first) = initial(answer)?;
    let nonce = random_text().map_err(|e| refused(e.into()))?;
    let verifier = accounts.verifier(user);
    let begun = Exchange::begin(&mechanism, &first, verifier, channel, &nonce);
    let exchange = begun.map_err(broken)?;
    let challenge = Bytes::copy_from_slice(exchange.challenge().as_bytes());
    outbox.put(&Authentication::SASLContinue(challenge))?;
    outbox.flush().await?;
    let Some(last) = self::answer(inbox).await? else { return Ok(None) };
    // Asked again: of many that came at the same time not all shall be judged.
    accounts.check(user, origin).map_err(refused)?;
    match exchange.finish(&last) {
        Ok(proof) => {
            let identity = accounts.admit(user, origin).map_err(refused)?;
            outbox.put(&Authentication::SASLFinal(Bytes::from(proof)))?;
            Ok(Some(identity))
        }
        Err(ScramError::Denied) => {
            tokio::time::sleep(accounts.deny(user, origin)).await;
            Err(refused(SignInError::Denied))
        }
        Err(e) => {
            accounts.deny(user, origin);
            Err(broken(e))
        }
    }
}

fn refused(user: &str, e: SignInError) -> WireError {
    match e {
        SignInError::Denied => {
            WireError::fatal("28P01", format!("password authentication failed for user \"{user}\""))
        }
        SignInError::Refused(refused) => {
            let seconds = refused.wait.as_secs() + 1;
            WireError::fatal("53300", refused.to_string())
                .with_hint(format!("try again in {seconds} seconds"))
        }
        SignInError::NoRandomness(e) => WireError::fatal("58000", e.to_string()),
    }
}

fn broken(e: ScramError) -> WireError {
    let code = match e {
        ScramError::Downgrade | ScramError::Binding => "28000",
        ScramError::Denied => "28P01",
        ScramError::Unsupported(_) => "0A000",
        ScramError::Malformed(_) | ScramError::Mechanism => "08P01",
    };
    WireError::fatal(code, e.to_string())
}

/// The client's next message of the dialogue.
async fn answer(inbox: &mut Inbox) -> Result<Option<Bytes>, WireError> {
    match inbox.frame_of(STARTUP_BYTES_MAX).await? {
        Some((b'p', body)) => Ok(Some(body)),
        None | Some((b'X', _)) => Ok(None),
        Some((tag, _)) => {
            let message = format!("expected SASL response, got message type {tag}");
            Err(WireError::fatal("08P01", message))
        }
    }
}

/// The mechanism and the first message.
fn initial(mut body: Bytes) -> Result<(String, Bytes), WireError> {
    let malformed = || WireError::fatal("08P01", "malformed SASL message");
    let end = body.iter().position(|byte| *byte == 0).ok_or_else(malformed)?;
    let name = body.split_to(end);
    body.advance(1);
    let name = String::from_utf8(name.to_vec()).map_err(|_| malformed())?;
    if body.len() < 4 {
        return Err(malformed());
    }
    let length = usize::try_from(body.get_i32()).map_err(|_| malformed())?;
    if length != body.len() {
        return Err(malformed());
    }
    Ok((name, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_messages_are_read_or_refused() {
        let whole = b"SCRAM-SHA-256\0\0\0\0\x03abc";
        let (mechanism, data) = initial(Bytes::from_static(whole)).unwrap();
        assert_eq!((mechanism.as_str(), &data[..]), ("SCRAM-SHA-256", &b"abc"[..]));
        for end in 0..whole.len() {
            assert!(initial(Bytes::copy_from_slice(&whole[..end])).is_err(), "cut at {end}");
        }
        assert!(initial(Bytes::from_static(b"X\0\xff\xff\xff\xff")).is_err(), "no data");
        assert!(initial(Bytes::from_static(b"X\0\0\0\0\x01ab")).is_err(), "more than it says");
    }
}
