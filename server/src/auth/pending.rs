//! Connections that have not yet said who they are or what they want. They are many where somebody means ill, or
//! where a network is slow; beyond a bound the one that has waited longest gives way, so that those who come to
//! work are always served.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The connections of one face that wait.
#[derive(Debug)]
pub(crate) struct Pending {
    max: usize,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    next: u64,
    waiting: BTreeMap<u64, CancellationToken>,
}

/// One of them, until dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    pending: Arc<Pending>,
    number: u64,
    evicted: CancellationToken,
}

impl Pending {
    /// Room for at most `max`.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, list: Mutex::default() })
    }

    /// A new connection.
    pub(crate) fn enter(self: &Arc<Self>) -> Waiting {
        let mut list = self.list.lock();
        while list.waiting.len() >= self.max {
            let Some((_, oldest)) = list.waiting.pop_first() else { break };
            oldest.cancel();
            metrics::counter!("otus_connections_evicted_total").increment(1);
        }
        let (number, evicted) = (list.next, CancellationToken::new());
        list.next += 1;
        list.waiting.insert(number, evicted.clone());
        Waiting { pending: Arc::clone(self), number, evicted }
    }
}

impl Waiting {
    /// Is cancelled when this one has to give way.
    pub(crate) fn evicted(&self) -> &CancellationToken {
        &self.evicted
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pending.list.lock().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way() {
        let pending = Pending::new(2);
        let (first, second) = (pending.enter(), pending.enter());
        assert!(!first.evicted().is_cancelled());
        drop(second);
        let third = pending.enter();
        assert!(!first.evicted().is_cancelled(), "who is done makes room");
        let fourth = pending.enter();
        assert!(first.evicted().is_cancelled());
        assert!(!third.evicted().is_cancelled() && !fourth.evicted().is_cancelled());
        drop((first, third, fourth));
        assert!(pending.list.lock().waiting.is_empty());
    }
}
