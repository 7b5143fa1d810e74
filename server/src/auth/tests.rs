//! Accounts of a configuration: who gets in, and who is told what.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::config::SystemEnvironment;

/// A clock that stands where it is put.
#[derive(Debug, Default)]
struct Standing(AtomicI64);

impl Clock for Standing {
    fn now_us(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn accounts(text: &str) -> (Arc<Accounts>, Arc<Standing>) {
    let config = Config::parse("otus.toml", text, &SystemEnvironment, None).unwrap();
    let roles = Roles::new(config.access.roles.clone()).unwrap();
    let clock = Arc::new(Standing::default());
    (Accounts::open(&config, &roles, Arc::clone(&clock) as _).unwrap(), clock)
}

fn users(token: &str) -> String {
    let verifier = Verifier::generate("pencil").unwrap();
    let hash = TokenHash::of(token);
    format!(
        "[users.ann]\npassword = \"{verifier}\"\nroles = [\"eu\"]\nattributes = {{ team = 7 }}\n\
         tokens = [{{ hash = \"{hash}\", expires = \"1970-01-01T00:00:10Z\", attributes = {{ region = \"de\" }} }}]\n\
         [roles.eu]\nattributes = {{ region = \"eu\" }}\n"
    )
}

const HERE: Origin = Origin { face: "http", address: None };

#[tokio::test]
async fn the_right_password_begins_a_session() {
    let (accounts, clock) = accounts(&users("otus_x"));
    assert!(!accounts.is_open());
    let (id, identity) = accounts.sign_in("ann", "pencil".into(), HERE).await.unwrap();
    let region = |identity: &Identity| identity.attributes.get("region").cloned();
    assert_eq!((identity.user.as_str(), region(&identity)), ("ann", Some("eu".into())));
    assert_eq!(identity.attributes.get("team").map(String::as_str), Some("7"));
    assert!(accounts.session(&id).is_some_and(|known| known == identity));
    let (other, _) = accounts.sign_in("ann", "pencil".into(), HERE).await.unwrap();
    assert_ne!(id, other);
    accounts.sign_out(&id, HERE);
    assert!(accounts.session(&id).is_none() && accounts.session(&other).is_some());
    clock.0.store(60 * 60 * 1_000_000, Ordering::Relaxed);
    assert!(accounts.session(&other).is_none(), "idle for an hour");
}

#[tokio::test]
async fn strangers_and_wrong_passwords_are_told_the_same() {
    let (accounts, _) = accounts(&users("otus_x"));
    for (user, password) in [("ann", "pencils"), ("eve", "pencil"), ("", "")] {
        let error = accounts.sign_in(user, password.into(), HERE).await.unwrap_err();
        assert_eq!(error, SignInError::Denied, "{user}");
    }
    let long = "x".repeat(PASSWORD_BYTES_MAX + 1);
    let error = accounts.sign_in("ann", long, HERE).await.unwrap_err();
    assert_eq!(error, SignInError::Denied);
    assert_eq!(accounts.verifier("eve"), accounts.verifier("eve"));
    assert_ne!(accounts.verifier("eve").salt, accounts.verifier("bob").salt);
}

#[tokio::test]
async fn guessing_is_stopped_where_it_comes_from() {
    let (accounts, clock) = accounts(&users("otus_x"));
    let from =
        |text: &str| Origin { face: "http", address: Some(text.parse::<SocketAddr>().unwrap()) };
    let (there, here) = (from("10.0.0.1:1"), from("10.0.0.2:1"));
    for _ in 0..throttle::FAILURES_MAX {
        assert_eq!(accounts.check("ann", there), Ok(()));
        accounts.deny("ann", there);
    }
    let refused = accounts.sign_in("ann", "pencil".into(), there).await.unwrap_err();
    assert!(refused.wait().is_some(), "{refused}");
    assert!(accounts.sign_in("ann", "pencil".into(), here).await.is_ok());
    clock.0.store(10 * 60 * 1_000_000, Ordering::Relaxed);
    assert!(accounts.sign_in("ann", "pencil".into(), there).await.is_ok());
}

#[test]
fn a_token_ends_and_has_attributes_of_its_own() {
    let (accounts, clock) = accounts(&users("otus_x"));
    let identity = accounts.bearer("otus_x", HERE).unwrap();
    assert_eq!(identity.attributes.get("region").map(String::as_str), Some("de"));
    assert!(accounts.bearer("otus_y", HERE).is_none() && accounts.bearer("", HERE).is_none());
    clock.0.store(10_000_000, Ordering::Relaxed);
    assert!(accounts.bearer("otus_x", HERE).is_none());
}
