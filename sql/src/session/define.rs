//! Statements that declare: who may, when, and on to whoever carries them out.

use super::{Session, tagged};
use crate::ddl::{Author, Ddl};
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::outcome::{Outcome, Report};

impl Session {
    pub(super) async fn define(&self, ddl: &Ddl, text: &str) -> SqlResult<Outcome> {
        let tag = ddl.tag();
        self.check_writable(tag)?;
        if self.inner.lock().transaction.is_some() {
            let message = format!("{tag} cannot run inside a transaction block");
            return Err(SqlError::new(sqlstate::IN_TRANSACTION, message)
                .with_hint("definitions change at once: commit first, or use autocommit"));
        }
        if self.identity.as_ref().is_some_and(|identity| !identity.is_admin()) {
            let message = format!("permission denied: {tag} is for administrators");
            return Err(SqlError::new(sqlstate::NOT_ALLOWED, message)
                .with_hint("a role with admin = true is needed, or the configuration file"));
        }
        if self.identity.is_none() && !self.is_local {
            let message = format!("{tag} is for clients on the server's own machine");
            return Err(SqlError::new(sqlstate::NOT_ALLOWED, message).with_hint(
                "connect by 127.0.0.1 or ::1 there, or declare it in the configuration file",
            ));
        }
        let Some(definer) = self.engine.definer() else {
            return Err(SqlError::unsupported(format!("{tag} is not supported here"))
                .with_hint("tables, measures and rollups are declared in the configuration file"));
        };
        let search_path = self.inner.lock().settings.search_path(&self.user);
        let author = Author { user: self.user.clone(), text: text.to_string(), search_path };
        let told = definer.define(ddl, author).await?;
        let notice = |(sqlstate, message)| Report::Notice { severity: "NOTICE", sqlstate, message };
        self.inner.lock().reports.extend(told.into_iter().map(notice));
        Ok(tagged(tag))
    }
}
