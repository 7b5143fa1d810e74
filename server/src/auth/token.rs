//! Bearer tokens: 256 random bits, of which only the hash is kept. They need no salt and no slow hash, since
//! nobody can guess one.

use std::fmt;
use std::str::FromStr;

use super::random::{self, NoRandomness};
use super::verifier::{KEY_BYTES, Key, hash};

/// What every token begins with, so that a lost one is recognised.
const PREFIX: &str = "otus_";
const SCHEME: &str = "sha256:";

/// What is kept of a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenHash(Key);

/// A text is no hash of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the value is not the hash of a token: expected sha256: and 64 hexadecimal digits")]
pub struct NoTokenHash;

impl TokenHash {
    /// The hash of a token or session id.
    pub fn of(token: &str) -> Self {
        Self(hash(token.as_bytes()))
    }
}

/// A new token.
pub fn generate() -> Result<String, NoRandomness> {
    Ok(format!("{PREFIX}{}", random::text()?))
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

impl FromStr for TokenHash {
    type Err = NoTokenHash;

    fn from_str(text: &str) -> Result<Self, NoTokenHash> {
        let digits = text.strip_prefix(SCHEME).ok_or(NoTokenHash)?.as_bytes();
        if digits.len() != 2 * KEY_BYTES {
            return Err(NoTokenHash);
        }
        let mut key = [0; KEY_BYTES];
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                let value = char::from(*digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
                *byte = (*byte << 4) | value.ok_or(NoTokenHash)?;
            }
        }
        Ok(Self(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_written_as_it_is_read() {
        let token = generate().unwrap();
        assert!(token.starts_with(PREFIX) && token.len() == PREFIX.len() + 43, "{token}");
        let text = TokenHash::of(&token).to_string();
        assert_eq!(text.parse(), Ok(TokenHash::of(&token)));
        assert_eq!(
            text.to_uppercase().replace("SHA256", "sha256").parse(),
            Ok(TokenHash::of(&token))
        );
        assert_ne!(TokenHash::of(&generate().unwrap()), TokenHash::of(&token));
        let known = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(TokenHash::of("abc").to_string(), known);
        for bad in [
            token.as_str(),
            "sha256:",
            "sha256:00",
            text.get(..70).unwrap(),
            &text.replace('a', "g"),
        ] {
            assert!(bad == text || bad.parse::<TokenHash>().is_err(), "{bad}");
        }
    }
}
