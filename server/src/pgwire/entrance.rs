//! From the first byte to a client that may begin: encrypted if it wants or must be, and known if users are.

use std::net::SocketAddr;
use std::sync::Arc;

use otus_sql::access::Identity;
use tokio::net::TcpStream;

use super::error::WireError;
use super::io::{self, Inbox, Outbox};
use super::limits::STARTUP_TIMEOUT;
use super::startup::{self, Hello, Opening};
use super::{Server, login};
use crate::auth::Origin;

/// A client that may begin.
pub(super) struct Entered {
    pub(super) inbox: Inbox,
    pub(super) outbox: Outbox,
    pub(super) hello: Hello,
    /// Who it is; none where no users are declared.
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) origin: Origin,
}

impl Server {
    /// None if there is nothing more to do. Errors have been told to the client where that is possible.
    pub(super) async fn enter(
        &self,
        socket: TcpStream,
        peer: Option<SocketAddr>,
    ) -> Result<Option<Entered>, WireError> {
        socket.set_nodelay(true)?;
        let (mut inbox, mut outbox) = io::over(socket);
        let mut encryption = None;
        let opening = loop {
            let offered = self.tls.as_ref().filter(|_| encryption.is_none());
            match self.opening(&mut inbox, &mut outbox, offered.is_some()).await {
                Ok(Opening::Encrypt) => {
                    let Some(tls) = offered.map(|tls| tls.current()) else { return Ok(None) };
                    (inbox, outbox) = io::encrypted((inbox, outbox), &tls.acceptor).await?;
                    encryption = Some(tls);
                }
                Ok(opening) => break opening,
                Err(e) => return outbox.farewell(e).await.map(|()| None),
            }
        };
        let hello = match opening {
            Opening::Session(hello) => hello,
            Opening::Cancel { pid, secret } => {
                self.registry.cancel(pid, &secret);
                return Ok(None);
            }
            Opening::Closed | Opening::Encrypt => return Ok(None),
        };
        let origin = Origin { face: "postgres", address: peer };
        let channel = encryption.as_ref().map(|tls| tls.end_point.as_deref());
        match self.known(&mut inbox, &mut outbox, hello, channel, origin).await {
            Ok(Some((hello, identity))) => {
                Ok(Some(Entered { inbox, outbox, hello, identity, origin }))
            }
            Ok(None) => Ok(None),
            Err(e) => outbox.farewell(e).await.map(|()| None),
        }
    }

    /// What the client wants, in bounded time.
    async fn opening(
        &self,
        inbox: &mut Inbox,
        outbox: &mut Outbox,
        offers_tls: bool,
    ) -> Result<Opening, WireError> {
        let opening = startup::open(inbox, outbox, offers_tls);
        tokio::select! {
            biased;
            () = self.stop.graceful.cancelled() => {
                Err(WireError::fatal("57P03", "the database system is shutting down"))
            }
            opening = tokio::time::timeout(STARTUP_TIMEOUT, opening) => {
                opening.map_err(|_| WireError::fatal("08006", "startup took too long"))?
            }
        }
    }

    /// Who the client is. `channel` is there if the connection is encrypted, and inside it what binds to it.
    async fn known(
        &self,
        inbox: &mut Inbox,
        outbox: &mut Outbox,
        mut hello: Hello,
        channel: Option<Option<&[u8]>>,
        origin: Origin,
    ) -> Result<Option<(Hello, Option<Arc<Identity>>)>, WireError> {
        if channel.is_none() && self.tls.as_ref().is_some_and(|tls| tls.is_required(origin.address))
        {
            let message = format!("connection of user \"{}\" is not encrypted", hello.user);
            return Err(WireError::fatal("28000", message)
                .with_hint("the server requires TLS: connect with sslmode=require or stricter"));
        }
        let mut identity = None;
        if !self.accounts.is_open() {
            let client = login::Client { user: &hello.user, channel: channel.flatten(), origin };
            identity = login::authenticate(inbox, outbox, &self.accounts, client).await?;
            if identity.is_none() {
                return Ok(None);
            }
        }
        // Asked afterwards, so that strangers learn no name.
        hello.database = self.database(&hello)?;
        Ok(Some((hello, identity)))
    }
}
