//! As much of a certificate as channel binding asks for: the hash that its signature is made with.

use ring::digest::{Algorithm, SHA256, SHA384, SHA512};

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// Signature algorithms by the bytes of their object identifiers. Those by MD5 and SHA-1 count as by SHA-256.
const SIGNATURES: [(&[u8], &Algorithm); 8] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4], &SHA256), // RSA with MD5
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5], &SHA256), // RSA with SHA-1
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11], &SHA256), // RSA with SHA-256
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12], &SHA384), // RSA with SHA-384
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13], &SHA512), // RSA with SHA-512
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], &SHA256),       // ECDSA with SHA-256
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3], &SHA384),       // ECDSA with SHA-384
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4], &SHA512),       // ECDSA with SHA-512
];

/// The hash of a certificate's signature; none where the algorithm's name tells none, as with Ed25519.
pub(crate) fn hash_of_signature(der: &[u8]) -> Option<&'static Algorithm> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (_, after_content) = element(certificate, SEQUENCE)?;
    let (algorithm, _) = element(after_content, SEQUENCE)?;
    let (name, _) = element(algorithm, OBJECT_IDENTIFIER)?;
    SIGNATURES.iter().find(|(own, _)| *own == name).map(|(_, hash)| *hash)
}

/// The content of the first element, which must be of this type, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[SEQUENCE, 0x82][..], &length, content].concat()
    }

    fn certificate(identifier: &[u8]) -> Vec<u8> {
        let length = u8::try_from(identifier.len()).unwrap();
        let name = [&[OBJECT_IDENTIFIER, length][..], identifier].concat();
        sequence(&[sequence(&[7; 300]), sequence(&name), vec![3, 1, 0]].concat())
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        for (identifier, hash) in SIGNATURES {
            assert_eq!(hash_of_signature(&certificate(identifier)), Some(hash));
        }
        assert_eq!(hash_of_signature(&certificate(&[0x2b, 0x65, 0x70])), None, "Ed25519");
    }

    #[test]
    fn what_is_no_certificate_has_none() {
        let whole = certificate(SIGNATURES[2].0);
        for end in 0..whole.len() - 4 {
            assert_eq!(hash_of_signature(&whole[..end]), None, "cut at {end}");
        }
        assert_eq!(hash_of_signature(&[0x30, 0x85, 1, 1, 1, 1, 1]), None);
        assert_eq!(hash_of_signature(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
