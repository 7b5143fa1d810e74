//! Against guessing: failed sign-ins are counted by address and by user. A failure is answered late, the later the
//! more there were; after too many from one address nothing more is taken from it for a while. Right passwords
//! from other addresses are neither refused nor delayed, so that nobody can lock a user out.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;

/// Time from the first failure after which all are forgotten, microseconds.
const WINDOW_US: i64 = 5 * 60 * 1_000_000;
/// Failures of one address within the window, from which on it is refused.
pub(crate) const FAILURES_MAX: u32 = 20;
/// Delay of the first failed answer; each further one doubles it.
const DELAY_FIRST: Duration = Duration::from_millis(50);
/// Longest delay of a failed answer.
const DELAY_MAX: Duration = Duration::from_secs(2);
/// Entries of a table. An attack from more addresses pushes the oldest out.
const ENTRIES_MAX: usize = 10_000;

/// The failures of late.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    addresses: HashMap<IpAddr, Failures>,
    users: HashMap<String, Failures>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    count: u32,
    first_us: i64,
}

/// Too many sign-ins failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many failed sign-ins from this address")]
pub(crate) struct Refused {
    /// How long it lasts.
    pub(crate) wait: Duration,
}

impl Throttle {
    /// Whether an attempt may be made from here.
    pub(crate) fn check(&self, address: Option<IpAddr>, now_us: i64) -> Result<(), Refused> {
        let Some(address) = address else { return Ok(()) };
        let tables = self.0.lock();
        match tables.addresses.get(&network(address)) {
            Some(f) if f.count >= FAILURES_MAX && f.left_us(now_us) > 0 => {
                let left = u64::try_from(f.left_us(now_us)).unwrap_or(0);
                Err(Refused { wait: Duration::from_micros(left) })
            }
            _ => Ok(()),
        }
    }

    /// Counts a failure. The answer shall wait this long.
    pub(crate) fn failed(&self, address: Option<IpAddr>, user: &str, now_us: i64) -> Duration {
        let mut tables = self.0.lock();
        let by_user = count(&mut tables.users, user.to_owned(), now_us);
        let by_address =
            address.map_or(0, |address| count(&mut tables.addresses, network(address), now_us));
        let doublings = by_user.max(by_address).saturating_sub(1).min(16);
        DELAY_FIRST.saturating_mul(1 << doublings).min(DELAY_MAX)
    }

    /// A right password: what failed of this user before was a mistake.
    pub(crate) fn succeeded(&self, user: &str) {
        // Those of the address stay: whoever has one password must not use it to go on guessing another.
        self.0.lock().users.remove(user);
    }
}

impl Failures {
    fn left_us(&self, now_us: i64) -> i64 {
        self.first_us.saturating_add(WINDOW_US).saturating_sub(now_us)
    }
}

/// Counts a failure; gives how many there are now.
fn count<K: Eq + Hash + Clone>(table: &mut HashMap<K, Failures>, key: K, now_us: i64) -> u32 {
    if table.len() >= ENTRIES_MAX && !table.contains_key(&key) {
        table.retain(|_, f| f.left_us(now_us) > 0);
        if table.len() >= ENTRIES_MAX {
            let oldest = table.iter().min_by_key(|(_, f)| f.first_us).map(|(key, _)| key.clone());
            oldest.and_then(|key| table.remove(&key));
        }
    }
    let failures = table.entry(key).or_default();
    if failures.count == 0 || failures.left_us(now_us) <= 0 {
        *failures = Failures { count: 0, first_us: now_us };
    }
    failures.count = failures.count.saturating_add(1);
    failures.count
}

/// What counts as one address: of IPv6 the network that one customer has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));
    const THERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)));

    #[test]
    fn failures_are_answered_later_and_later() {
        let throttle = Throttle::default();
        let delays: Vec<u128> =
            (0..8).map(|n| throttle.failed(HERE, "ann", n).as_millis()).collect();
        assert_eq!(delays, [50, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(throttle.failed(THERE, "ann", 9).as_millis(), 2_000, "by user");
        assert_eq!(throttle.failed(HERE, "bob", 9).as_millis(), 2_000, "by address");
        assert_eq!(throttle.failed(THERE, "eve", 9).as_millis(), 100);
    }

    #[test]
    fn an_address_is_refused_for_a_while_and_no_other() {
        let throttle = Throttle::default();
        for n in 0..FAILURES_MAX {
            assert_eq!(throttle.check(HERE, 0), Ok(()), "{n}");
            throttle.failed(HERE, &format!("user {n}"), 0);
        }
        assert_eq!(throttle.check(HERE, 0), Err(Refused { wait: Duration::from_secs(300) }));
        let later = Refused { wait: Duration::from_secs(1) };
        assert_eq!(throttle.check(HERE, WINDOW_US - 1_000_000), Err(later));
        assert_eq!(throttle.check(THERE, 0), Ok(()));
        assert_eq!(throttle.check(HERE, WINDOW_US), Ok(()));
        throttle.failed(HERE, "ann", WINDOW_US);
        assert_eq!(throttle.check(HERE, WINDOW_US), Ok(()), "counting begins anew");
    }

    #[test]
    fn one_password_does_not_buy_guesses_at_another() {
        let throttle = Throttle::default();
        for _ in 0..FAILURES_MAX {
            throttle.failed(HERE, "ann", 0);
            throttle.succeeded("eve");
        }
        assert!(throttle.check(HERE, 0).is_err());
        throttle.succeeded("ann");
        assert_eq!(
            throttle.failed(THERE, "ann", 0),
            DELAY_FIRST,
            "a user's own mistakes are forgiven"
        );
    }

    #[test]
    fn tables_are_bounded_and_networks_count_as_one() {
        let throttle = Throttle::default();
        for n in 0..2 * ENTRIES_MAX {
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(u32::try_from(n).unwrap()));
            throttle.failed(Some(address), &n.to_string(), i64::try_from(n).unwrap());
        }
        assert_eq!(throttle.0.lock().addresses.len(), ENTRIES_MAX);
        assert_eq!(throttle.0.lock().users.len(), ENTRIES_MAX);
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
