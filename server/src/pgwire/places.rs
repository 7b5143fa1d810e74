//! Places for sessions: so many in all, of them so many of one user as its roles say, and a few more for administrators,
//! who come when all the others are taken.

use std::collections::HashMap;
use std::sync::Arc;

use otus_sql::access::Identity;
use parking_lot::Mutex;

use super::error::WireError;

/// Sessions beyond the limit that only administrators get (as Postgres: `superuser_reserved_connections`).
const RESERVED: usize = 3;

/// How many sessions there are.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_user: HashMap<String, usize>,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    user: String,
}

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A place for a user.
    ///
    /// # Errors
    ///
    /// 53300 where there is none.
    pub(super) fn enter(
        self: &Arc<Self>,
        user: &str,
        identity: Option<&Identity>,
    ) -> Result<Place, WireError> {
        let is_admin = identity.is_some_and(Identity::is_admin);
        let own = identity.and_then(|identity| identity.limits().connections);
        let mut taken = self.taken.lock();
        if taken.all >= self.most + if is_admin { RESERVED } else { 0 } {
            return Err(WireError::fatal("53300", "sorry, too many clients already"));
        }
        let of_user = taken.by_user.get(user).copied().unwrap_or(0);
        if own.is_some_and(|own| of_user >= own) {
            return Err(WireError::fatal(
                "53300",
                format!("too many connections for role \"{user}\""),
            ));
        }
        taken.all += 1;
        *taken.by_user.entry(user.to_owned()).or_default() += 1;
        Ok(Place { places: Arc::clone(self), user: user.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        if let Some(count) = taken.by_user.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                taken.by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use otus_sql::access::{RoleDef, RoleLimits};

    use super::*;

    fn user(name: &str, role: RoleDef) -> Identity {
        Identity { user: name.into(), roles: vec![Arc::new(role)], attributes: Default::default() }
    }

    #[test]
    fn nobody_takes_the_places_of_all() {
        let limits = RoleLimits { connections: Some(2), ..RoleLimits::default() };
        let ann = user("ann", RoleDef { limits, ..RoleDef::default() });
        let root = user("root", RoleDef { admin: true, ..RoleDef::default() });
        let places = Places::new(3);
        let first = places.enter("ann", Some(&ann)).unwrap();
        let _second = places.enter("ann", Some(&ann)).unwrap();
        let refused = places.enter("ann", Some(&ann)).unwrap_err();
        assert_eq!(refused.message, "too many connections for role \"ann\"");
        let _bob = places.enter("bob", None).unwrap();
        assert_eq!(places.enter("eve", None).unwrap_err().sqlstate, "53300");
        let reserved: Vec<_> =
            (0..RESERVED).map(|_| places.enter("root", Some(&root)).unwrap()).collect();
        assert!(places.enter("root", Some(&root)).is_err());
        drop(reserved);
        drop(first);
        assert!(places.enter("ann", Some(&ann)).is_ok());
    }
}
