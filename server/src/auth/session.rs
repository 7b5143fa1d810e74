//! Who is signed in over HTTP. An id is 256 random bits; only its hash is kept. Sessions end when they are idle
//! for long, when they are old, when the user signs out, and with the process.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::random::{self, NoRandomness};
use super::token::TokenHash;

/// Sessions of one user; one more ends the oldest.
const PER_USER_MAX: usize = 16;
/// Sessions of all users.
const SESSIONS_MAX: usize = 10_000;

/// The sessions of a process.
#[derive(Debug)]
pub(crate) struct Sessions {
    idle_us: i64,
    lifetime_us: i64,
    list: Mutex<HashMap<TokenHash, Entry>>,
}

#[derive(Debug, Clone)]
struct Entry {
    user: String,
    began_us: i64,
    seen_us: i64,
}

impl Sessions {
    /// Sessions that end when idle for `idle`, and in any case after `lifetime`.
    pub(crate) fn new(idle: Duration, lifetime: Duration) -> Self {
        let us = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        Self { idle_us: us(idle), lifetime_us: us(lifetime), list: Mutex::default() }
    }

    /// Longest time of a session.
    pub(crate) fn lifetime(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.lifetime_us).unwrap_or(0))
    }

    /// Begins a session; gives its id, which is never one that the client had before.
    pub(crate) fn begin(&self, user: &str, now_us: i64) -> Result<String, NoRandomness> {
        let id = random::text()?;
        let mut list = self.list.lock();
        list.retain(|_, entry| self.lives(entry, now_us));
        while list.values().filter(|e| e.user == user).count() >= PER_USER_MAX {
            end_oldest(&mut list, |e| e.user == user);
        }
        if list.len() >= SESSIONS_MAX {
            end_oldest(&mut list, |_| true);
        }
        let user = user.to_owned();
        list.insert(TokenHash::of(&id), Entry { user, began_us: now_us, seen_us: now_us });
        Ok(id)
    }

    /// Whose session this is, if it is one; it is then not idle.
    pub(crate) fn user(&self, id: &str, now_us: i64) -> Option<String> {
        let mut list = self.list.lock();
        let hash = TokenHash::of(id);
        let entry = list.get_mut(&hash)?;
        if !self.lives(entry, now_us) {
            list.remove(&hash);
            return None;
        }
        entry.seen_us = now_us;
        Some(entry.user.clone())
    }

    /// Whether this is a session that has not ended; to look does not keep it from being idle.
    pub(crate) fn has(&self, id: &str, now_us: i64) -> bool {
        self.list.lock().get(&TokenHash::of(id)).is_some_and(|entry| self.lives(entry, now_us))
    }

    /// Ends a session; gives whose it was.
    pub(crate) fn end(&self, id: &str) -> Option<String> {
        self.list.lock().remove(&TokenHash::of(id)).map(|entry| entry.user)
    }

    fn lives(&self, entry: &Entry, now_us: i64) -> bool {
        now_us.saturating_sub(entry.seen_us) < self.idle_us
            && now_us.saturating_sub(entry.began_us) < self.lifetime_us
    }
}

fn end_oldest(list: &mut HashMap<TokenHash, Entry>, of: impl Fn(&Entry) -> bool) {
    let oldest = list.iter().filter(|(_, e)| of(e)).min_by_key(|(_, e)| e.seen_us);
    if let Some(id) = oldest.map(|(id, _)| *id) {
        list.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn sessions() -> Sessions {
        Sessions::new(Duration::from_secs(10), Duration::from_secs(25))
    }

    #[test]
    fn a_session_ends_when_idle_or_old_or_signed_out() {
        let all = sessions();
        let id = all.begin("ann", 0).unwrap();
        assert_eq!(all.user("another", 0), None);
        for seconds in [0, 9, 18, 24] {
            assert_eq!(all.user(&id, seconds * SECOND).as_deref(), Some("ann"), "{seconds}");
        }
        assert_eq!(all.user(&id, 25 * SECOND), None, "old");
        let id = all.begin("ann", 0).unwrap();
        assert_eq!(all.user(&id, 10 * SECOND), None, "idle");
        assert_eq!(all.user(&id, 0), None, "and gone");
        let id = all.begin("ann", 0).unwrap();
        assert_eq!(all.end(&id).as_deref(), Some("ann"));
        assert_eq!((all.end(&id), all.user(&id, 0)), (None, None));
    }

    #[test]
    fn the_oldest_of_too_many_ends() {
        let all = sessions();
        let bob = all.begin("bob", 0).unwrap();
        let ids: Vec<String> = (0..=16).map(|n| all.begin("ann", n).unwrap()).collect();
        assert_eq!(all.user(&ids[0], 20), None);
        assert!(ids[1..].iter().all(|id| all.user(id, 20).is_some()));
        assert_eq!(all.user(&bob, 20).as_deref(), Some("bob"));
        assert!(!format!("{all:?}").contains(&bob), "ids are not kept");
    }
}
