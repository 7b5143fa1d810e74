//! Who is it: users with their passwords, tokens and sessions, and the log of what they do. What each may see is
//! `otus_sql::access`' business; how they are asked is that of the two faces.
//!
//! ```text
//!  [users] ─► Accounts ─┬─ scram     postgres: a proof of the password
//!                       ├─ sign_in   http: the password itself, for a session's cookie
//!                       ├─ bearer    http: a token
//!                       └─ audit     who signed in, who ran what
//! ```
//!
//! No password and no token is kept, only what tells whether one is right.

mod audit;
mod certificate;
mod pending;
mod random;
pub(crate) mod scram;
mod session;
mod throttle;
mod tls;
mod token;
mod verifier;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use otus_engine::clock::Clock;
use otus_engine::{Error, Result};
use otus_sql::StatementObserver;
use otus_sql::access::{Identity, Roles};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::otus::sql_error;
use crate::telemetry::{SignIn, SignInResult};
use audit::Watched;
pub(crate) use audit::{Audit, Origin, cut, micros};
pub(crate) use pending::{Pending, Waiting};
pub use random::NoRandomness;
pub(crate) use random::text as random_text;
use session::Sessions;
use throttle::{Refused, Throttle};
pub use tls::Tls;
pub(crate) use tls::{TlsAcceptor, TlsStream};
pub use token::{NoTokenHash, TokenHash, generate as generate_token};
pub(crate) use verifier::equal_in_constant_time;
use verifier::{Key, hash};
pub use verifier::{Verifier, VerifierError};

/// Passwords that are hashed at the same time; each takes a processor for milliseconds.
const HASHED_AT_A_TIME: usize = 2;
/// Longest password that is looked at, bytes.
const PASSWORD_BYTES_MAX: usize = 1_024;

/// A user as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserDef {
    /// The name.
    pub name: String,
    /// What is kept of the password; none = the user has none.
    pub password: Option<Verifier>,
    /// Bearer tokens.
    pub tokens: Vec<TokenDef>,
    /// Names of the roles.
    pub roles: Vec<String>,
    /// Values that row filters read.
    pub attributes: BTreeMap<String, String>,
}

/// A bearer token as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenDef {
    /// What is kept of it.
    pub hash: TokenHash,
    /// What it is called in the audit log.
    pub name: Option<String>,
    /// When it ends, microseconds since the epoch; none = never.
    pub expires_us: Option<i64>,
    /// Values that row filters read, over those of the user.
    pub attributes: BTreeMap<String, String>,
}

impl TokenDef {
    /// The user's attributes, and over them its own.
    pub(crate) fn attributes_of(&self, user: &UserDef) -> BTreeMap<String, String> {
        let mut attributes = user.attributes.clone();
        attributes.extend(self.attributes.clone());
        attributes
    }
}

struct Account {
    verifier: Option<Verifier>,
    identity: Arc<Identity>,
}

struct Bearer {
    expires_us: Option<i64>,
    identity: Arc<Identity>,
}

/// Everybody who may sign in, and who has.
pub struct Accounts {
    users: BTreeMap<String, Account>,
    tokens: HashMap<TokenHash, Bearer>,
    /// Makes the salts that strangers see.
    secret: Key,
    throttle: Throttle,
    sessions: Sessions,
    hashing: Semaphore,
    audit: Option<Arc<Audit>>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignInError {
    /// There is no such user, or the password is wrong. Nobody is told which.
    #[error("user name or password is wrong")]
    Denied,
    /// Too much was wrong before.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No session can be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl SignInError {
    /// How long to wait, where that helps.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Refused(refused) => Some(refused.wait),
            _ => None,
        }
    }
}

impl Accounts {
    /// The accounts of a configuration; begins its audit log.
    pub(crate) fn open(config: &Config, roles: &Roles, clock: Arc<dyn Clock>) -> Result<Arc<Self>> {
        let (mut users, mut tokens) = (BTreeMap::new(), HashMap::new());
        let mut secret = Vec::new();
        for user in &config.access.users {
            let identity = |attributes: &BTreeMap<String, String>| {
                roles.identity(&user.name, &user.roles, attributes).map_err(sql_error)
            };
            for token in &user.tokens {
                let identity = identity(&token.attributes_of(user))?;
                tokens.insert(token.hash, Bearer { expires_us: token.expires_us, identity });
            }
            let verifier = user.password.clone();
            secret.extend(verifier.iter().flat_map(|v| v.server_key));
            let account = Account { verifier, identity: identity(&user.attributes)? };
            users.insert(user.name.clone(), account);
        }
        let audit = config.server.audit.as_deref();
        let audit = audit.map(|target| Audit::start(target, Arc::clone(&clock))).transpose()?;
        let server = &config.server;
        Ok(Arc::new(Self {
            users,
            tokens,
            // From the file, so that a stranger's salt is the same after a restart, as a user's is.
            secret: hash(&secret),
            throttle: Throttle::default(),
            sessions: Sessions::new(server.session_idle, server.session_lifetime),
            hashing: Semaphore::new(HASHED_AT_A_TIME),
            audit,
            clock,
        }))
    }

    /// Whether everybody is let in: nobody is declared.
    pub fn is_open(&self) -> bool {
        self.users.is_empty()
    }

    fn now_us(&self) -> i64 {
        self.clock.now_us()
    }

    /// What proves a user's password. A stranger has one too, that no password fits.
    pub(crate) fn verifier(&self, user: &str) -> Verifier {
        let known = self.users.get(user).and_then(|account| account.verifier.clone());
        known.unwrap_or_else(|| Verifier::decoy(user, &self.secret))
    }

    /// Whether a sign-in may be tried from this address now.
    pub(crate) fn check(&self, user: &str, origin: Origin) -> Result<(), SignInError> {
        let checked = self.throttle.check(ip(origin), self.now_us());
        if checked.is_err() {
            self.signed(user, None, origin, SignInResult::Refused);
        }
        Ok(checked?)
    }

    /// Somebody has proved to be this user.
    pub(crate) fn admit(&self, user: &str, origin: Origin) -> Result<Arc<Identity>, SignInError> {
        let account = self.users.get(user).ok_or(SignInError::Denied)?;
        self.throttle.succeeded(user);
        self.signed(user, Some(&account.identity), origin, SignInResult::Ok);
        Ok(Arc::clone(&account.identity))
    }

    /// Somebody could not prove to be this user. The answer shall wait this long.
    pub(crate) fn deny(&self, user: &str, origin: Origin) -> Duration {
        self.signed(user, None, origin, SignInResult::Failed);
        self.throttle.failed(ip(origin), user, self.now_us())
    }

    /// Begins a session of the user with this password; gives its id and who it is.
    pub(crate) async fn sign_in(
        &self,
        user: &str,
        password: String,
        origin: Origin,
    ) -> Result<(String, Arc<Identity>), SignInError> {
        let turn = self.hashing.acquire().await;
        // Asked when it is this attempt's turn: many that wait must not all pass before the first has failed.
        self.check(user, origin)?;
        let verifier = self.verifier(user);
        let accepts = move || password.len() <= PASSWORD_BYTES_MAX && verifier.accepts(&password);
        let is_right = tokio::task::spawn_blocking(accepts).await.unwrap_or(false);
        if !is_right {
            let delay = self.deny(user, origin);
            drop(turn);
            tokio::time::sleep(delay).await;
            return Err(SignInError::Denied);
        }
        let identity = self.admit(user, origin)?;
        Ok((self.sessions.begin(user, self.now_us())?, identity))
    }

    /// Who is signed in with this session id.
    pub(crate) fn session(&self, id: &str) -> Option<Arc<Identity>> {
        let user = self.sessions.user(id, self.now_us())?;
        self.users.get(&user).map(|account| Arc::clone(&account.identity))
    }

    /// Whether a session has not ended, without using it.
    pub(crate) fn session_lives(&self, id: &str) -> bool {
        self.sessions.has(id, self.now_us())
    }

    /// Longest time of a session.
    pub(crate) fn session_lifetime(&self) -> Duration {
        self.sessions.lifetime()
    }

    /// Ends a session, if there is such a one.
    pub(crate) fn sign_out(&self, id: &str, origin: Origin) {
        if let Some(user) = self.sessions.end(id) {
            self.note("sign_out", &user, self.session_identity(&user), origin, json!({}));
        }
    }

    fn session_identity(&self, user: &str) -> Option<&Identity> {
        self.users.get(user).map(|account| account.identity.as_ref())
    }

    /// Whose token this is, if it is one that has not ended.
    pub(crate) fn bearer(&self, token: &str, origin: Origin) -> Option<Arc<Identity>> {
        let known = self.known_token(token);
        if known.is_none() {
            self.signed("", None, origin, SignInResult::Failed);
        }
        known.map(|bearer| Arc::clone(&bearer.identity))
    }

    /// Whether a token is known and has not ended.
    pub(crate) fn token_lives(&self, token: &str) -> bool {
        self.known_token(token).is_some()
    }

    fn known_token(&self, token: &str) -> Option<&Bearer> {
        let known = self.tokens.get(&TokenHash::of(token));
        known.filter(|bearer| bearer.expires_us.is_none_or(|at| self.now_us() < at))
    }

    fn signed(
        &self,
        user: &str,
        identity: Option<&Identity>,
        origin: Origin,
        result: SignInResult,
    ) {
        SignIn { user, face: origin.face, address: ip(origin), result }.emit();
        let event = if result == SignInResult::Ok { "sign_in" } else { "sign_in_failed" };
        let facts = json!({ "ok": result == SignInResult::Ok, "result": result.name() });
        self.note(event, user, identity, origin, facts);
    }

    /// Writes to the audit log, if there is one.
    pub(crate) fn note(
        &self,
        event: &str,
        user: &str,
        identity: Option<&Identity>,
        origin: Origin,
        facts: Value,
    ) {
        if let Some(audit) = &self.audit {
            audit.note(event, (user, identity), origin, facts);
        }
    }

    /// Whether there is an audit log.
    pub(crate) fn is_audited(&self) -> bool {
        self.audit.is_some()
    }

    /// Who is told of the statements of a session.
    pub(crate) fn observer(
        &self,
        user: &str,
        identity: Option<&Arc<Identity>>,
        origin: Origin,
    ) -> Option<Arc<dyn StatementObserver>> {
        let audit = Arc::clone(self.audit.as_ref()?);
        let identity = identity.map(Arc::clone);
        Some(Arc::new(Watched { audit, user: user.to_owned(), identity, origin }))
    }

    /// Writes what the audit log has not yet written.
    pub(crate) fn close(&self) {
        if let Some(audit) = &self.audit {
            audit.close();
        }
    }
}

fn ip(origin: Origin) -> Option<IpAddr> {
    origin.address.map(|address| address.ip())
}

/// What a user without randomness is told.
impl From<NoRandomness> for Error {
    fn from(e: NoRandomness) -> Self {
        Self::unavailable("no secret can be made").with_source(e)
    }
}

#[cfg(test)]
mod tests;
