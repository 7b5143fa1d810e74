//! What is kept of a password: a SCRAM-SHA-256 verifier, written as PostgreSQL stores it. A verifier tells whether
//! a password is right, and does not tell the password.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};

use super::random;

/// Times that a new verifier's password is hashed: PostgreSQL's number.
pub(crate) const ITERATIONS: u32 = 4096;
/// Most that a file may ask for: each sign-in over HTTP does this much work.
const ITERATIONS_MAX: u32 = 1_000_000;
/// Bytes of a new verifier's salt.
pub(crate) const SALT_BYTES: usize = 16;
/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;
const SCHEME: &str = "SCRAM-SHA-256";

/// A key of SCRAM-SHA-256.
pub(crate) type Key = [u8; KEY_BYTES];

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(crate) iterations: NonZeroU32,
    pub(crate) salt: Vec<u8>,
    pub(crate) stored_key: Key,
    pub(crate) server_key: Key,
}

/// Why a text is no verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// It does not begin as one.
    #[error("the value is not a SCRAM-SHA-256 verifier")]
    NoVerifier,
    /// It begins as one.
    #[error(
        "the verifier cannot be read: expected SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY"
    )]
    Malformed,
    /// So few iterations make guessing cheap, so many make signing in dear.
    #[error("the verifier's iterations must be between {ITERATIONS} and {ITERATIONS_MAX}")]
    Iterations,
}

impl Verifier {
    /// The verifier of a password with a salt of its own.
    pub fn generate(password: &str) -> Result<Self, random::NoRandomness> {
        let iterations = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
        Ok(Self::of(password, random::bytes::<SALT_BYTES>()?.to_vec(), iterations))
    }

    fn of(password: &str, salt: Vec<u8>, iterations: NonZeroU32) -> Self {
        let mut salted: Key = [0; KEY_BYTES];
        let password = prepared(password);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            &salt,
            password.as_bytes(),
            &mut salted,
        );
        let client_key = mac(&salted, b"Client Key");
        let stored_key = hash(&client_key);
        Self { iterations, salt, stored_key, server_key: mac(&salted, b"Server Key") }
    }

    /// A verifier that no password has, and that looks to a stranger like any other: its salt is always the same.
    pub(crate) fn decoy(user: &str, secret: &Key) -> Self {
        let salt = mac(secret, user.as_bytes()).iter().take(SALT_BYTES).copied().collect();
        Self {
            iterations: NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN),
            salt,
            stored_key: mac(secret, b"stored key of nobody"),
            server_key: mac(secret, b"server key of nobody"),
        }
    }

    /// Whether this is the password. Takes milliseconds of computing.
    pub fn accepts(&self, password: &str) -> bool {
        let other = Self::of(password, self.salt.clone(), self.iterations);
        equal_in_constant_time(&other.stored_key, &self.stored_key)
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { iterations, salt, stored_key, server_key } = self;
        let (salt, stored) = (BASE64.encode(salt), BASE64.encode(stored_key));
        write!(f, "{SCHEME}${iterations}:{salt}${stored}:{}", BASE64.encode(server_key))
    }
}

impl fmt::Debug for Verifier {
    /// With it somebody could guess the password at leisure, or pretend to be the server.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

impl FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let rest = text.strip_prefix(SCHEME).and_then(|rest| rest.strip_prefix('$'));
        let rest = rest.ok_or(VerifierError::NoVerifier)?;
        let malformed = VerifierError::Malformed;
        let (head, keys) = rest.split_once('$').ok_or(malformed)?;
        let (iterations, salt) = head.split_once(':').ok_or(malformed)?;
        let (stored, server) = keys.split_once(':').ok_or(malformed)?;
        let iterations: u32 = iterations.parse().map_err(|_| malformed)?;
        if !(ITERATIONS..=ITERATIONS_MAX).contains(&iterations) {
            return Err(VerifierError::Iterations);
        }
        let decode = |text: &str| BASE64.decode(text).map_err(|_| malformed);
        let key = |text: &str| Key::try_from(decode(text)?).map_err(|_| malformed);
        let salt = decode(salt)?;
        if salt.is_empty() {
            return Err(malformed);
        }
        Ok(Self {
            iterations: NonZeroU32::new(iterations).ok_or(malformed)?,
            salt,
            stored_key: key(stored)?,
            server_key: key(server)?,
        })
    }
}

/// The password as it is hashed; one that cannot be prepared is taken as it is, as PostgreSQL does.
fn prepared(password: &str) -> std::borrow::Cow<'_, str> {
    stringprep::saslprep(password).unwrap_or(std::borrow::Cow::Borrowed(password))
}

/// HMAC-SHA-256.
pub(crate) fn mac(key: &Key, data: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    key_of(tag.as_ref())
}

/// SHA-256.
pub(crate) fn hash(data: &[u8]) -> Key {
    key_of(digest::digest(&digest::SHA256, data).as_ref())
}

fn key_of(bytes: &[u8]) -> Key {
    let mut key = [0; KEY_BYTES];
    key.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    key
}

/// Whether two secrets are equal, in a time that does not tell where they differ.
pub(crate) fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y));
    a.len() == b.len() && std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the example in RFC 7677.
    const PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn a_verifier_is_written_as_it_is_read() {
        let verifier: Verifier = PENCIL.parse().unwrap();
        assert_eq!(verifier.to_string(), PENCIL);
        assert!(verifier.accepts("pencil") && !verifier.accepts("pencil "));
        assert!(!format!("{verifier:?}").contains("W22Z"));
        let new = Verifier::generate("pencil").unwrap();
        assert!(new != verifier && new.accepts("pencil") && !new.accepts(""));
    }

    #[test]
    fn equal_looking_passwords_are_equal() {
        let verifier = Verifier::generate("I\u{00AD}X \u{2168}").unwrap();
        assert!(verifier.accepts("IX IX"), "a soft hyphen is nothing, a Roman nine two letters");
        let odd = Verifier::generate("a\u{7}b").unwrap();
        assert!(odd.accepts("a\u{7}b") && !odd.accepts("ab"));
    }

    #[test]
    fn what_is_no_verifier_is_refused() {
        let refused = |text: &str| text.parse::<Verifier>().unwrap_err();
        assert_eq!(refused("pencil"), VerifierError::NoVerifier);
        assert_eq!(refused("md532e12f215ba27cb750c9e093ce4b5127"), VerifierError::NoVerifier);
        assert_eq!(refused(&PENCIL.replace("4096", "100")), VerifierError::Iterations);
        assert_eq!(refused(&PENCIL.replace("4096", "99999999")), VerifierError::Iterations);
        for cut in [20, 40, 60, PENCIL.len() - 1] {
            assert_eq!(refused(PENCIL.get(..cut).unwrap()), VerifierError::Malformed, "{cut}");
        }
        assert_eq!(refused("SCRAM-SHA-256$4096:$AA==:AA=="), VerifierError::Malformed);
    }

    #[test]
    fn strangers_see_a_salt_that_stays() {
        let decoy = |user| Verifier::decoy(user, &[7; KEY_BYTES]);
        assert_eq!(decoy("ann"), decoy("ann"));
        assert_ne!(decoy("ann").salt, decoy("bob").salt);
        assert_eq!((decoy("ann").salt.len(), decoy("ann").iterations.get()), (16, 4096));
    }
}
