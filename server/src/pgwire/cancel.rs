//! Who may cancel what: the connections by process number and secret, and the statement each runs now.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use otus_sql::Stopper;
use parking_lot::Mutex;
use rand::Rng;
use tokio_util::sync::CancellationToken;

use crate::auth::equal_in_constant_time;

/// Every connection of this server that a cancel request could name.
#[derive(Debug, Default)]
pub(super) struct CancelRegistry {
    connections: Mutex<HashMap<i32, Arc<CancelSlot>>>,
}

/// The statement that a connection runs now, if any.
#[derive(Debug)]
pub(super) struct CancelSlot {
    pid: i32,
    secret: Bytes,
    running: Mutex<Option<CancellationToken>>,
    /// Trips when the connection shall end.
    terminated: CancellationToken,
}

impl Stopper for CancelSlot {
    fn cancel(&self) {
        if let Some(token) = self.running.lock().as_ref() {
            token.cancel();
        }
    }

    fn terminate(&self) {
        self.terminated.cancel();
    }
}

/// A connection's place in the registry; given back when dropped.
#[derive(Debug)]
pub(super) struct Registered {
    registry: Arc<CancelRegistry>,
    slot: Arc<CancelSlot>,
}

impl CancelRegistry {
    /// A new connection with a free number and a secret of `secret_bytes`.
    #[expect(clippy::disallowed_methods, reason = "a secret must not replay")]
    pub(super) fn register(self: &Arc<Self>, secret_bytes: usize) -> Registered {
        let mut random = rand::rng();
        let secret: Bytes = (0..secret_bytes).map(|_| random.random::<u8>()).collect();
        let mut connections = self.connections.lock();
        let pid = loop {
            let pid = random.random_range(1..i32::MAX);
            if !connections.contains_key(&pid) {
                break pid;
            }
        };
        let terminated = CancellationToken::new();
        let slot = Arc::new(CancelSlot { pid, secret, running: Mutex::new(None), terminated });
        connections.insert(pid, Arc::clone(&slot));
        Registered { registry: Arc::clone(self), slot }
    }

    /// Stops what connection `pid` runs, if the secret is right. Nobody is told whether it was.
    pub(super) fn cancel(&self, pid: i32, secret: &[u8]) {
        let slot = self.connections.lock().get(&pid).map(Arc::clone);
        if let Some(slot) = slot
            && equal_in_constant_time(&slot.secret, secret)
        {
            slot.cancel();
        }
    }
}

impl Registered {
    pub(super) fn pid(&self) -> i32 {
        self.slot.pid
    }

    pub(super) fn secret(&self) -> &Bytes {
        &self.slot.secret
    }

    /// How others stop the connection.
    pub(super) fn stopper(&self) -> Arc<dyn Stopper> {
        Arc::<CancelSlot>::clone(&self.slot)
    }

    /// Resolves when somebody ends the connection.
    pub(super) async fn terminated(&self) {
        self.slot.terminated.cancelled().await;
    }

    /// A statement begins: the token that a cancel request trips. The guard ends it.
    pub(super) fn begin(&self) -> Running {
        let token = CancellationToken::new();
        *self.slot.running.lock() = Some(token.clone());
        Running { slot: Arc::clone(&self.slot), token }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.connections.lock().remove(&self.slot.pid);
    }
}

/// A statement that can be cancelled until this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    slot: Arc<CancelSlot>,
    token: CancellationToken,
}

impl Running {
    /// Resolves when somebody cancels the statement.
    pub(super) async fn cancelled(&self) {
        self.token.cancelled().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *self.slot.running.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_secret_cancels_only_a_running_statement() {
        let registry = Arc::new(CancelRegistry::default());
        let one = registry.register(4);
        let secret = one.secret().clone();
        registry.cancel(one.pid(), &secret);
        let running = one.begin();
        assert!(
            !running.token.is_cancelled(),
            "an earlier request does not reach a later statement"
        );
        let wrong: Vec<u8> = secret.iter().map(|b| !b).collect();
        registry.cancel(one.pid(), &wrong);
        registry.cancel(one.pid(), &secret[..3]);
        assert!(!running.token.is_cancelled());
        registry.cancel(one.pid(), &secret);
        running.cancelled().await;
        drop(running);
        let pid = one.pid();
        drop(one);
        registry.cancel(pid, &secret);
        assert!(registry.connections.lock().is_empty());
    }
}
