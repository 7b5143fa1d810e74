//! The exchange of RFC 7677 by the letter, and every way to spoil it.

use super::*;

/// Of the password `pencil`, with the salt of the RFC's example.
const PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const CHANNEL: &[u8] = b"hash of a certificate";

fn begin(mechanism: &str, first: &str, channel: Option<&[u8]>) -> Result<Exchange, ScramError> {
    let verifier = PENCIL.parse().unwrap();
    Exchange::begin(mechanism, first.as_bytes(), verifier, channel, SERVER_NONCE)
}

/// What a client that knows the password would answer.
fn answer(exchange: &Exchange, binding: &[u8], password: &str) -> String {
    let verifier = &exchange.verifier;
    let mut salted = [0; KEY_BYTES];
    let (iterations, salt) = (verifier.iterations, &verifier.salt);
    let algorithm = ring::pbkdf2::PBKDF2_HMAC_SHA256;
    ring::pbkdf2::derive(algorithm, iterations, salt, password.as_bytes(), &mut salted);
    let client_key = mac(&salted, b"Client Key");
    let unproven = format!("c={},r={}", BASE64.encode(binding), exchange.nonce);
    let signed = format!("{},{},{unproven}", exchange.client_first, exchange.server_first);
    let signature = mac(&hash(&client_key), signed.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    format!("{unproven},p={}", BASE64.encode(proof))
}

#[test]
fn the_example_of_the_rfc() {
    let exchange = begin(SCRAM, FIRST, None).unwrap();
    assert_eq!(
        exchange.challenge(),
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let proof = exchange.finish(LAST.as_bytes()).unwrap();
    assert_eq!(proof, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn a_wrong_proof_or_nonce_is_refused() {
    let finish = |last: &str| begin(SCRAM, FIRST, None).unwrap().finish(last.as_bytes());
    assert_eq!(finish(&LAST.replace("dHzb", "dHzc")), Err(ScramError::Denied));
    let nonce = finish(&LAST.replace("%hvY", "%hvZ"));
    assert_eq!(nonce, Err(ScramError::Malformed("the nonce does not match")));
    assert_eq!(finish(&LAST.replace("biws", "eSws")), Err(ScramError::Binding));
    let short = finish(&LAST.replace("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "dHzb"));
    assert_eq!(short, Err(ScramError::Malformed("the proof cannot be read")));
    for end in 0..LAST.len() {
        assert!(finish(LAST.get(..end).unwrap()).is_err(), "cut at {end}");
    }
    let exchange = begin(SCRAM, FIRST, None).unwrap();
    let wrong = answer(&exchange, b"n,,", "pencils");
    assert_eq!(exchange.finish(wrong.as_bytes()), Err(ScramError::Denied));
}

#[test]
fn a_client_is_bound_to_its_channel() {
    let first = "p=tls-server-end-point,,n=,r=abc";
    let bound = [b"p=tls-server-end-point,,", CHANNEL].concat();
    let exchange = begin(SCRAM_PLUS, first, Some(CHANNEL)).unwrap();
    let right = answer(&exchange, &bound, "pencil");
    assert!(exchange.finish(right.as_bytes()).unwrap().starts_with("v="));
    let exchange = begin(SCRAM_PLUS, first, Some(b"another certificate")).unwrap();
    let between = answer(&exchange, &bound, "pencil");
    assert_eq!(exchange.finish(between.as_bytes()), Err(ScramError::Binding));
}

#[test]
fn a_downgrade_is_noticed() {
    let error = |mechanism, first, channel| begin(mechanism, first, channel).unwrap_err();
    let (thinks_not, cannot) = ("y,,n=,r=abc", "n,,n=,r=abc");
    assert_eq!(error(SCRAM, thinks_not, Some(CHANNEL)), ScramError::Downgrade);
    assert!(begin(SCRAM, thinks_not, None).is_ok());
    assert!(begin(SCRAM, cannot, Some(CHANNEL)).is_ok());
    let none = ScramError::Malformed("no channel binding data");
    assert_eq!(error(SCRAM_PLUS, cannot, Some(CHANNEL)), none);
    assert_eq!(error(SCRAM_PLUS, thinks_not, Some(CHANNEL)), none);
    assert_eq!(error(SCRAM_PLUS, cannot, None), ScramError::Mechanism);
    assert_eq!(error("PLAIN", cannot, None), ScramError::Mechanism);
    let flag = ScramError::Malformed("unexpected channel binding flag");
    assert_eq!(error(SCRAM, "p=tls-server-end-point,,n=,r=abc", Some(CHANNEL)), flag);
    let unique = ScramError::Unsupported("this channel binding type");
    assert_eq!(error(SCRAM_PLUS, "p=tls-unique,,n=,r=abc", Some(CHANNEL)), unique);
    assert_eq!(mechanisms(None), [SCRAM]);
    assert_eq!(mechanisms(Some(CHANNEL)), [SCRAM_PLUS, SCRAM]);
}

#[test]
fn first_messages_that_are_none_are_refused() {
    for bad in ["", "n", "n,", "n,,", "n,,n=x", "n,,r=abc", "n,,n=x,r=", "x,,n=x,r=abc"] {
        let refused = begin(SCRAM, bad, None);
        assert!(matches!(refused, Err(ScramError::Malformed(_))), "{bad:?}: {refused:?}");
    }
    for bad in ["n,a=bob,n=x,r=abc", "n,,m=1,n=x,r=abc"] {
        assert!(matches!(begin(SCRAM, bad, None), Err(ScramError::Unsupported(_))), "{bad:?}");
    }
    let bytes = Exchange::begin(SCRAM, &[0xff, b','], PENCIL.parse().unwrap(), None, "x");
    assert!(matches!(bytes, Err(ScramError::Malformed(_))));
}

/// Every byte changed, of every message: an error or a value, no panic, and never success.
#[test]
fn damaged_messages_never_succeed() {
    for at in 0..FIRST.len() {
        for byte in [0, b',', b'=', 0x7f, 0xff] {
            let mut first = FIRST.as_bytes().to_vec();
            if first[at] == byte {
                continue;
            }
            first[at] = byte;
            let verifier = PENCIL.parse().unwrap();
            if let Ok(exchange) = Exchange::begin(SCRAM, &first, verifier, None, SERVER_NONCE) {
                // The user's name is part of what is signed.
                assert!(exchange.finish(LAST.as_bytes()).is_err(), "{at} {byte}");
            }
        }
    }
    for at in 0..LAST.len() {
        for byte in [0, b',', b'=', 0x7f, 0xff] {
            let mut last = LAST.as_bytes().to_vec();
            if last[at] == byte {
                continue;
            }
            last[at] = byte;
            assert!(begin(SCRAM, FIRST, None).unwrap().finish(&last).is_err(), "{at} {byte}");
        }
    }
}
